//! GPUs: burn's `cubecl` backend with our own kernels where burn's would lose digits or time.
//!
//! f32 is f32: its products never go to tensor cores, which would round them to 11 bits. In f16 and
//! bf16 convolutions and products go to tensor cores where the device has them for that dtype (burn
//! measures which of its kernels is fastest, the first time it sees a shape); everything else sums in
//! f32 in our own kernel.

mod conv;
mod launch;
mod norm;
mod pixels;

use std::{
    future::poll_fn,
    task::{Context, Poll, Waker},
};

use burn::tensor::{FloatDType, Tensor, TensorData, TensorPrimitive, ops::ConvOptions};
use burn_cubecl::{
    CubeBackend, CubeRuntime,
    kernel::{
        conv::{ConvStrategy, conv_forward_nhwc},
        into_contiguous, into_contiguous_aligned,
    },
    tensor::CubeTensor,
};
use cubecl::{client::ComputeClient, future::block_on, server::CopyDescriptor};

use crate::nn::{Act, ConvShape, Fetch, Floor, GroupNorm, Ops, Post, Pre, RmsNorm, unreadable};
use conv::FusedAct;
use launch::{Moments, Product};

/// burn's backend for a GPU of runtime `R`.
pub(crate) type Gpu<R> = CubeBackend<R, f32, i32, u8>;

/// Channels from which a tensor core's tile is not mostly padding.
const TENSOR_CORE_INPUTS: usize = 16;

/// Pixels whose widest activations, of 128 channels at full size, our kernels can still count: they
/// do so in 32 bits.
const COUNTED_PIXELS: usize = 1 << 24;

/// Weights of a convolution on a GPU.
#[derive(Debug)]
pub(crate) struct GpuKernel<R: CubeRuntime> {
    route: Route,
    /// `[kernel * kernel * inputs, outputs]` for our kernel, else `[outputs, kernel, kernel, inputs]`.
    weight: CubeTensor<R>,
    /// f32 for our kernel, else of the weights' dtype.
    bias: Option<CubeTensor<R>>,
    shape: ConvShape,
}

/// Who convolves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route {
    /// Our kernel.
    Ours,
    /// The fastest of burn's, on tensor cores.
    TensorCores,
    /// burn's direct kernel in f32: short sums, one group at a time.
    Grouped,
}

impl<R: CubeRuntime> Ops for Gpu<R> {
    type Kernel = GpuKernel<R>;

    const PASS_PIXELS: usize = COUNTED_PIXELS;

    const MAX_PIXELS: usize = COUNTED_PIXELS;

    // Eight 512x512 images. No more than a start: a replica measures what its device likes.
    const BATCH_PIXELS: u64 = 1 << 21;

    fn memory(device: &Self::Device) -> Option<u64> {
        let usage = R::client(device).memory_usage().ok()?;
        Some(usage.bytes_reserved)
    }

    fn kernel(
        weight: Tensor<Self, 4>,
        bias: Option<Tensor<Self, 1>>,
        shape: ConvShape,
    ) -> Self::Kernel {
        // Frames under a kernel come concatenated.
        let shape = shape.flat();
        let dtype = FloatDType::from(weight.dtype());
        let device = weight.device();
        let route = match () {
            () if shape.groups != 1 => Route::Grouped,
            () if shape.inputs >= TENSOR_CORE_INPUTS
                && has_tensor_cores(&R::client(&device), dtype) =>
            {
                Route::TensorCores
            }
            () => Route::Ours,
        };
        let (weight, dtypes) = match route {
            Route::Ours => {
                let rows = shape.kernel * shape.kernel * shape.inputs;
                let weight = weight.permute([2, 3, 1, 0]);
                (weight.reshape([1, 1, rows, shape.outputs]), FloatDType::F32)
            }
            Route::TensorCores => (weight.permute([0, 2, 3, 1]), dtype),
            Route::Grouped => {
                let weight = weight.cast(FloatDType::F32).permute([0, 2, 3, 1]);
                (weight, FloatDType::F32)
            }
        };
        GpuKernel {
            route,
            weight: dense(weight),
            bias: bias.map(|bias| dense(bias.cast(dtypes))),
            shape,
        }
    }

    fn convolve(
        x: Tensor<Self, 4>,
        pre: Option<Pre<'_, Self>>,
        kernel: &Self::Kernel,
        post: Post<Self>,
    ) -> Tensor<Self, 4> {
        let x = match pre {
            Some(Pre { norm, act }) => Self::group_norm(x, norm, act),
            None => x,
        };
        if kernel.route == Route::Ours {
            let (act, after) = fused(post.act);
            let product = Product {
                x: dense(x),
                weight: kernel.weight.clone(),
                weights_each: 0,
                bias: kernel.bias.clone(),
                residual: post.residual.map(dense),
                shape: kernel.shape,
                act,
            };
            return after.apply(float(product.launch()));
        }
        let y = stock(x, kernel);
        let y = match post.residual {
            Some(residual) => y + residual,
            None => y,
        };
        post.act.apply(y)
    }

    fn group_norm(x: Tensor<Self, 4>, norm: &GroupNorm<Self>, act: Act) -> Tensor<Self, 4> {
        let (act, after) = fused(act);
        let moments = Moments {
            x: dense(x),
            gamma: dense(norm.gamma.clone()),
            beta: dense(norm.beta.clone()),
        };
        after.apply(float(moments.group_norm(norm.groups, norm.eps, act)))
    }

    fn rms_norm(x: Tensor<Self, 4>, norm: &RmsNorm<Self>, act: Act) -> Tensor<Self, 4> {
        let (act, after) = fused(act);
        let channels = x.dims()[3] as f32;
        let (eps, least) = match norm.floor {
            Floor::Length(least) => (0.0, least / channels.sqrt()),
            Floor::MeanSquare(eps) => (eps, 0.0),
        };
        let moments = Moments {
            x: dense(x),
            gamma: dense(norm.gamma.clone()),
            beta: dense(norm.beta.clone()),
        };
        after.apply(float(moments.rms_norm(eps, least, act)))
    }

    fn matmul(a: Tensor<Self, 3>, b: Tensor<Self, 3>) -> Tensor<Self, 3> {
        let device = a.device();
        if has_tensor_cores(&R::client(&device), a.dtype().into()) {
            return a.matmul(b);
        }
        let [n, rows, inputs] = a.dims();
        let [_, _, outputs] = b.dims();
        let product = Product {
            x: dense(a.reshape([n, 1, rows, inputs])),
            weight: dense(b),
            weights_each: inputs * outputs,
            bias: None,
            residual: None,
            shape: ConvShape::same(inputs, outputs, 1).without_bias(),
            act: FusedAct::None,
        };
        float::<R, 4>(product.launch()).reshape([n, rows, outputs])
    }

    fn pixels(
        bytes: &[u8],
        shape: [usize; 4],
        device: &Self::Device,
        dtype: FloatDType,
    ) -> Tensor<Self, 4> {
        float(launch::unpack::<R>(bytes, shape, device, dtype.into()))
    }

    /// Both the mark of the end of the computation and the copy are put into the device's queue here,
    /// before whatever comes next.
    fn fetch(x: Tensor<Self, 4>) -> Fetch {
        let x = into_contiguous_aligned(x.into_primitive().tensor());
        let (shape, dtype) = (x.meta.shape().clone(), x.dtype);
        let strides = x.meta.strides().clone();
        let computed = x.client.sync();
        let copy = CopyDescriptor::new(
            x.handle.clone().binding(),
            shape.clone(),
            strides,
            x.elem_size(),
        );
        let client = x.client.clone();
        let mut bytes = Box::pin(async move {
            let bytes = client.read_one_tensor_async(copy);
            // The call has queued the copy; to go on would be to wait for it.
            pause().await;
            bytes.await
        });
        let mut context = Context::from_waker(Waker::noop());
        let _ = bytes.as_mut().poll(&mut context);
        Fetch {
            computed: Box::new(|| block_on(computed).map_err(unreadable)),
            values: Box::new(move || {
                let bytes = block_on(bytes).map_err(unreadable)?;
                // Until here its memory is not given to anything else.
                drop(x);
                Ok(TensorData::from_bytes(bytes, shape, dtype))
            }),
        }
    }
}

/// Pending once.
async fn pause() {
    let mut paused = false;
    poll_fn(|_| match std::mem::replace(&mut paused, true) {
        true => Poll::Ready(()),
        false => Poll::Pending,
    })
    .await;
}

/// One of burn's own kernels. They pad every side alike, so that what is padded at the end alone is
/// written out first.
fn stock<R: CubeRuntime>(x: Tensor<Gpu<R>, 4>, kernel: &GpuKernel<R>) -> Tensor<Gpu<R>, 4> {
    let ConvShape {
        stride,
        pad: [top, left, bottom, right],
        groups,
        ..
    } = kernel.shape;
    let x = match (top == bottom, left == right) {
        (true, true) => x,
        _ => extend(x, [bottom - top, right - left]),
    };
    let options = ConvOptions::new([stride; 2], [top, left], [1, 1], groups);
    let (weight, bias) = (kernel.weight.clone(), kernel.bias.clone());
    let dtype = FloatDType::from(x.dtype());
    let (x, strategy) = match kernel.route {
        Route::Grouped => (x.cast(FloatDType::F32), ConvStrategy::Direct),
        Route::TensorCores | Route::Ours => (x, ConvStrategy::Autotune),
    };
    let y = conv_forward_nhwc::<R, 2>(dense(x), weight, bias, options, strategy)
        .unwrap_or_else(|error| panic!("a convolution cannot be set up: {error:?}"));
    float::<R, 4>(y).cast(dtype)
}

/// Zeros below and to the right.
fn extend<R: CubeRuntime>(x: Tensor<Gpu<R>, 4>, [bottom, right]: [usize; 2]) -> Tensor<Gpu<R>, 4> {
    let [n, height, width, channels] = x.dims();
    let shape = [n, height + bottom, width + right, channels];
    let options = (&x.device(), x.dtype());
    let ranges = [0..n, 0..height, 0..width, 0..channels];
    Tensor::zeros(shape, options).slice_assign(ranges, x)
}

/// Whether products of this dtype can be made on tensor cores, with sums in f32. Never for f32: it
/// would be rounded to TF32.
fn has_tensor_cores<R: CubeRuntime>(client: &ComputeClient<R>, dtype: FloatDType) -> bool {
    let dtype = burn::tensor::DType::from(dtype).into();
    let cores = &client.properties().features.matmul;
    dtype != burn::tensor::DType::F32.into()
        && (cores.cmma.iter().chain(&cores.mma)).any(|config| config.a_type == dtype)
}

/// The activation inside our kernels, and what is left to do after them.
const fn fused(act: Act) -> (FusedAct, Act) {
    match act {
        Act::None => (FusedAct::None, Act::None),
        Act::Relu => (FusedAct::Relu, Act::None),
        Act::Silu => (FusedAct::Silu, Act::None),
        Act::Gelu | Act::Mish => (FusedAct::None, act),
    }
}

/// The tensor with its values in order and without gaps.
fn dense<R: CubeRuntime, const D: usize>(x: Tensor<Gpu<R>, D>) -> CubeTensor<R> {
    into_contiguous(x.into_primitive().tensor())
}

fn float<R: CubeRuntime, const D: usize>(x: CubeTensor<R>) -> Tensor<Gpu<R>, D> {
    Tensor::from_primitive(TensorPrimitive::Float(x))
}
