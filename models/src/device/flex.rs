//! burn's `flex` backend with our own convolution and norms.
//!
//! Activations are `[n, height, width, channels]`, in that order in memory too. In f16 and bf16
//! the weights are rounded to the dtype and everything else is f32, in which CPUs compute anyway.

use burn::tensor::{FloatDType, Tensor, TensorData, TensorPrimitive};
use burn_flex::{Flex, FlexDevice, FlexTensor};

use crate::{
    kernel::{self, Conv, Fused, Map, Norm, Over, Residual, Rms, Statistics},
    nn::{
        Act, ConvShape, Floor, Frames, GroupNorm, Ops, PlainKernel, Post, Pre, RmsNorm,
        plain_convolve, plain_convolve_over,
    },
};

/// Weights of a convolution on the CPU.
#[derive(Debug)]
pub(crate) enum FlexKernel {
    /// Laid out for our own kernel.
    Packed(Conv),
    /// As burn wants them: grouped convolutions.
    Plain(Box<PlainKernel<Flex>>),
}

impl Ops for Flex {
    type Kernel = FlexKernel;

    // Elements share nothing but cache, and activations of more than this leave it.
    const PASS_PIXELS: usize = 1 << 16;

    // One 512x512 image.
    const BATCH_PIXELS: u64 = 1 << 18;

    fn activations(_: FloatDType) -> FloatDType {
        FloatDType::F32
    }

    fn kernel(
        weight: Tensor<Self, 4>,
        bias: Option<Tensor<Self, 1>>,
        shape: ConvShape,
    ) -> Self::Kernel {
        let weight = weight.cast(FloatDType::F32);
        let bias = bias.map(|bias| bias.cast(FloatDType::F32));
        if shape.groups != 1 {
            let kernel = PlainKernel::new(weight, bias, shape.flat());
            return FlexKernel::Plain(Box::new(kernel));
        }
        let dims = weight.dims();
        let (weight, bias) = (dense(weight), bias.map(dense));
        let bias = bias.as_ref().map(values);
        let how = (shape.stride, shape.pad);
        let conv = Conv::new(shape.over, values(&weight), dims, bias, how);
        FlexKernel::Packed(conv)
    }

    fn convolve(
        x: Tensor<Self, 4>,
        pre: Option<Pre<'_, Self>>,
        kernel: &Self::Kernel,
        post: Post<Self>,
    ) -> Tensor<Self, 4> {
        match kernel {
            FlexKernel::Plain(kernel) => plain_convolve(x, pre, kernel, post),
            FlexKernel::Packed(conv) => {
                let (inner, outer) = fusible(post.act);
                let x = Frames { before: None, x };
                outer.apply(packed(x, pre, conv, (post.residual, inner)))
            }
        }
    }

    fn convolve_over(
        x: Frames<Self>,
        (kernel, over): (&Self::Kernel, Over),
        post: Post<Self>,
    ) -> Tensor<Self, 4> {
        match kernel {
            FlexKernel::Plain(_) => plain_convolve_over(x.join(), (kernel, over), post),
            FlexKernel::Packed(conv) => {
                let (inner, outer) = fusible(post.act);
                outer.apply(packed(x, None, conv, (post.residual, inner)))
            }
        }
    }

    fn own(x: Tensor<Self, 4>) -> Tensor<Self, 4> {
        let x = x.into_primitive().tensor().to_contiguous();
        Tensor::from_primitive(TensorPrimitive::Float(x))
    }

    fn group_norm(x: Tensor<Self, 4>, norm: &GroupNorm<Self>, act: Act) -> Tensor<Self, 4> {
        let x = dense(x);
        let input = map(&x);
        let (inner, outer) = fusible(act);
        let norms = measure(input, norm, inner);
        let mut out = vec![0.0; input.data.len()];
        kernel::apply(&norms, input, &mut out);
        outer.apply(like(input, out))
    }

    fn rms_norm(x: Tensor<Self, 4>, norm: &RmsNorm<Self>, act: Act) -> Tensor<Self, 4> {
        let x = dense(x);
        let input = map(&x);
        let (inner, outer) = fusible(act);
        let (gamma, beta) = (dense(norm.gamma.clone()), dense(norm.beta.clone()));
        let (eps, least) = match norm.floor {
            Floor::Length(least) => (0.0, least),
            Floor::MeanSquare(eps) => (eps, 0.0),
        };
        let rms = Rms {
            gamma: values(&gamma),
            beta: values(&beta),
            eps,
            least,
        };
        let mut out = vec![0.0; input.data.len()];
        rms.run(input, inner, &mut out);
        outer.apply(like(input, out))
    }
}

/// A convolution by our own kernel, with what can be fused to it.
fn packed(
    frames: Frames<Flex>,
    pre: Option<Pre<'_, Flex>>,
    conv: &Conv,
    (residual, act): (Option<Tensor<Flex, 4>>, kernel::Act),
) -> Tensor<Flex, 4> {
    let Frames { before, x } = frames;
    let before = before.map(dense);
    let (x, norms) = match pre {
        None => (dense(x), None),
        Some(Pre { norm, act }) => match fusible(act) {
            (act, Act::None) => {
                let x = dense(x);
                let norms = measure(map(&x), norm, act);
                (x, Some(norms))
            }
            _ => (dense(Flex::group_norm(x, norm, act)), None),
        },
    };
    let mut input = map(&x);
    if let Some(before) = &before {
        input.before = values(before);
        input.n += before.layout().shape()[0];
    }
    let [height, width] = conv.output(input.height, input.width);
    let shape = [conv.pictures(input.n), height, width, conv.outputs()];
    let run = |residual, out: &mut [f32]| {
        let fused = Fused {
            norms: norms.as_deref(),
            residual,
            act,
        };
        conv.run(input, fused, out);
    };
    let Some(mut residual) = residual.map(dense) else {
        let mut out = vec![0.0; shape.iter().product()];
        run(Residual::None, &mut out);
        return tensor(out, shape);
    };
    // Of pictures of four megapixels a copy less is what fits into memory.
    match residual.try_storage_mut::<f32>() {
        Some(out) if out.len() == shape.iter().product::<usize>() => {
            run(Residual::InOut, out);
            Tensor::from_primitive(TensorPrimitive::Float(residual))
        }
        _ => {
            let mut out = vec![0.0; shape.iter().product()];
            run(Residual::Apart(values(&residual)), &mut out);
            tensor(out, shape)
        }
    }
}

/// The activation inside our kernels, and what is left to do after them.
const fn fusible(act: Act) -> (kernel::Act, Act) {
    match act {
        Act::None => (kernel::Act::None, Act::None),
        Act::Relu => (kernel::Act::Relu, Act::None),
        Act::Silu => (kernel::Act::Silu, Act::None),
        Act::Gelu | Act::Mish => (kernel::Act::None, act),
    }
}

fn measure(x: Map<'_>, norm: &GroupNorm<Flex>, act: kernel::Act) -> Vec<Norm> {
    let (gamma, beta) = (dense(norm.gamma.clone()), dense(norm.beta.clone()));
    let statistics = Statistics {
        gamma: values(&gamma),
        beta: values(&beta),
        groups: norm.groups,
        eps: norm.eps,
    };
    Norm::measure(x, statistics, act)
}

/// The tensor with its values in order and without gaps.
fn dense<const D: usize>(x: Tensor<Flex, D>) -> FlexTensor {
    let x = x.into_primitive().tensor();
    match x.as_slice::<f32>() {
        Some(_) => x,
        None => x.to_contiguous(),
    }
}

fn like(map: Map<'_>, values: Vec<f32>) -> Tensor<Flex, 4> {
    tensor(values, [map.n, map.height, map.width, map.channels])
}

fn tensor(values: Vec<f32>, shape: [usize; 4]) -> Tensor<Flex, 4> {
    Tensor::from_data(TensorData::new(values, shape), &FlexDevice)
}

fn values(x: &FlexTensor) -> &[f32] {
    x.as_slice().expect("only dense f32 tensors come here")
}

fn map(x: &FlexTensor) -> Map<'_> {
    let shape = x.layout().shape();
    let (n, height, width, channels) = (shape[0], shape[1], shape[2], shape[3]);
    Map {
        before: &[],
        data: values(x),
        n,
        height,
        width,
        channels,
    }
}
