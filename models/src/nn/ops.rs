//! The seam between the models and a backend: what a backend may do better than burn's plain ops.
//!
//! A convolution takes in what stands before it and what follows it, because on every device these
//! are bound by memory, and because fusing them is what keeps a 2048x2048 encode within its bound.

use std::fmt;

use burn::tensor::{
    FloatDType, Slice, Tensor, TensorData, backend::Backend, module, ops::PaddedConvOptions,
};

use crate::{Error, kernel::Over, pending::Step};

use super::{Act, ConvShape, GroupNorm, RmsNorm, rms::plain_rms_norm};

/// What stands before a convolution: `act(norm(x))`.
#[derive(Debug)]
pub(crate) struct Pre<'a, B: Backend> {
    pub(crate) norm: &'a GroupNorm<B>,
    pub(crate) act: Act,
}

/// What follows a convolution: `act(y + residual)`.
#[derive(Debug)]
pub(crate) struct Post<B: Backend> {
    pub(crate) residual: Option<Tensor<B, 4>>,
    pub(crate) act: Act,
}

/// Frames of a clip, `[n, height, width, channels]`, in two pieces of memory.
#[derive(Debug)]
pub(crate) struct Frames<B: Backend> {
    /// Those that come first, if any.
    pub(crate) before: Option<Tensor<B, 4>>,
    pub(crate) x: Tensor<B, 4>,
}

impl<B: Backend> Frames<B> {
    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        let before = self.before.as_ref().map_or(0, |before| before.dims()[0]);
        before + self.x.dims()[0]
    }

    /// In one piece.
    pub(crate) fn join(self) -> Tensor<B, 4> {
        match self.before {
            Some(before) => Tensor::cat(vec![before, self.x], 0),
            None => self.x,
        }
    }

    /// The last `n`.
    pub(crate) fn last(&self, n: usize) -> Tensor<B, 4> {
        let last = |x: &Tensor<B, 4>, n: usize| x.clone().narrow(0, x.dims()[0] - n, n);
        let frames = self.x.dims()[0];
        match &self.before {
            _ if n <= frames => last(&self.x, n),
            Some(before) => Tensor::cat(vec![last(before, n - frames), self.x.clone()], 0),
            None => panic!("{n} frames of {frames}"),
        }
    }
}

/// Values of concatenated frames that exist at one time: half a gibibyte in f32, so that they do not
/// triple what a chunk of a clip takes.
const WINDOWS: usize = 1 << 27;

/// A backend on which encoders run.
pub(crate) trait Ops: Backend {
    /// A convolution's weights, laid out as this backend wants them, once, at load.
    type Kernel: std::fmt::Debug + Send;

    /// Pixels of a batch that go through the network together. Larger batches take several passes of
    /// as many elements as fit, at least one.
    const PASS_PIXELS: usize;

    /// Pixels of a picture, or of a tile, that can be encoded at all.
    const MAX_PIXELS: usize = usize::MAX;

    /// Output pixels of a batch past which the device gains little.
    const BATCH_PIXELS: u64;

    /// What passes between layers in a model of this dtype.
    fn activations(dtype: FloatDType) -> FloatDType {
        dtype
    }

    /// Lays out `weight`, `[out, frames * in / groups, kh, kw]` with the channels of a frame side by
    /// side, and `bias`, `[out]`.
    fn kernel(
        weight: Tensor<Self, 4>,
        bias: Option<Tensor<Self, 1>>,
        shape: ConvShape,
    ) -> Self::Kernel;

    /// `post(conv(pre(x)))`
    fn convolve(
        x: Tensor<Self, 4>,
        pre: Option<Pre<'_, Self>>,
        kernel: &Self::Kernel,
        post: Post<Self>,
    ) -> Tensor<Self, 4>;

    /// `post(conv(x))` with a kernel that lies over several frames.
    fn convolve_over(
        x: Frames<Self>,
        (kernel, over): (&Self::Kernel, Over),
        post: Post<Self>,
    ) -> Tensor<Self, 4> {
        plain_convolve_over(x.join(), (kernel, over), post)
    }

    /// The same values in memory of their own, so that what they were cut from can be freed.
    fn own(x: Tensor<Self, 4>) -> Tensor<Self, 4> {
        // What is cut from something shares its memory, and so is never changed in place.
        x.mul_scalar(1.0)
    }

    /// `act(norm(x))`
    fn group_norm(x: Tensor<Self, 4>, norm: &GroupNorm<Self>, act: Act) -> Tensor<Self, 4> {
        plain_group_norm(x, norm, act)
    }

    /// `act(norm(x))`
    fn rms_norm(x: Tensor<Self, 4>, norm: &RmsNorm<Self>, act: Act) -> Tensor<Self, 4> {
        plain_rms_norm(x, norm, act)
    }

    /// Bytes that this process holds on the device; `None` where it is the host.
    fn memory(_: &Self::Device) -> Option<u64> {
        None
    }

    /// Begins to bring a map back to the host.
    fn fetch(x: Tensor<Self, 4>) -> Fetch {
        Fetch {
            computed: Box::new(|| Ok(())),
            values: Box::new(move || x.try_into_data().map_err(unreadable)),
        }
    }

    /// `[batch, rows, inner]` by `[batch, inner, columns]`
    fn matmul(a: Tensor<Self, 3>, b: Tensor<Self, 3>) -> Tensor<Self, 3> {
        a.matmul(b)
    }

    /// Bytes of pictures, `[n, height, width, 3]`, as models see them: `byte / 255 * 2 - 1`.
    fn pixels(
        bytes: &[u8],
        shape: [usize; 4],
        device: &Self::Device,
        dtype: FloatDType,
    ) -> Tensor<Self, 4> {
        let value = |byte: &u8| f32::from(*byte) / 255.0 * 2.0 - 1.0;
        let data = TensorData::new(bytes.iter().map(value).collect(), shape);
        Tensor::<Self, 4>::from_data(data, device).cast(dtype)
    }
}

/// A map on its way to the host. Nothing that the device is given afterwards holds it up.
pub(crate) struct Fetch {
    /// Returns when the device has computed it.
    pub(crate) computed: Step<()>,
    /// Returns it.
    pub(crate) values: Step<TensorData>,
}

/// What went wrong on the way.
pub(crate) fn unreadable(error: impl fmt::Debug) -> Error {
    Error::Device(format!("reading back: {error:?}"))
}

/// The kernel of a backend without its own: burn's tensors as they are.
#[derive(Debug)]
pub(crate) struct PlainKernel<B: Backend> {
    weight: Tensor<B, 4>,
    bias: Option<Tensor<B, 1>>,
    shape: ConvShape,
}

impl<B: Backend> PlainKernel<B> {
    pub(crate) fn new(weight: Tensor<B, 4>, bias: Option<Tensor<B, 1>>, shape: ConvShape) -> Self {
        Self {
            weight,
            bias,
            shape,
        }
    }
}

/// [`Ops::convolve`] in burn's own ops.
pub(crate) fn plain_convolve<B: Ops>(
    x: Tensor<B, 4>,
    pre: Option<Pre<'_, B>>,
    kernel: &PlainKernel<B>,
    post: Post<B>,
) -> Tensor<B, 4> {
    let x = match pre {
        Some(Pre { norm, act }) => B::group_norm(x, norm, act),
        None => x,
    };
    let x = x.permute([0, 3, 1, 2]);
    let ConvShape {
        stride,
        pad: [top, left, bottom, right],
        groups,
        ..
    } = kernel.shape;
    let options =
        PaddedConvOptions::asymmetric([stride; 2], [top, left], [bottom, right], [1, 1], groups);
    let y = module::conv2d(x, kernel.weight.clone(), kernel.bias.clone(), options);
    let y = y.permute([0, 2, 3, 1]);
    let y = match post.residual {
        Some(residual) => y + residual,
        None => y,
    };
    post.act.apply(y)
}

/// [`Ops::convolve_over`] as a 2-D convolution over the frames under the kernel, concatenated along
/// channels: so no backend needs another kernel than its 2-D one.
pub(crate) fn plain_convolve_over<B: Ops>(
    x: Tensor<B, 4>,
    (kernel, over): (&B::Kernel, Over),
    post: Post<B>,
) -> Tensor<B, 4> {
    let [n, h, w, c] = x.dims();
    let (outputs, Over { frames, stride }) = (over.outputs(n), over);
    let fit = (WINDOWS / (h * w * c * frames)).clamp(1, outputs);
    let parts = (0..outputs).step_by(fit).map(|first| {
        let count = fit.min(outputs - first);
        let under = (0..frames).map(|frame| {
            let start = first * stride + frame;
            let end = start + (count - 1) * stride + 1;
            let step = Slice::new(start as isize, Some(end as isize), stride as isize);
            x.clone().slice_dim(0, step)
        });
        let residual = post.residual.as_ref();
        let post = Post {
            residual: residual.map(|residual| residual.clone().narrow(0, first, count)),
            act: post.act,
        };
        B::convolve(Tensor::cat(under.collect(), 3), None, kernel, post)
    });
    Tensor::cat(parts.collect(), 0)
}

/// [`Ops::group_norm`] in burn's own ops. Statistics are taken in f32 whatever the dtype: squares of
/// activations overflow f16.
fn plain_group_norm<B: Backend>(x: Tensor<B, 4>, norm: &GroupNorm<B>, act: Act) -> Tensor<B, 4> {
    let dtype = x.dtype();
    let [n, h, w, c] = x.dims();
    let width = c / norm.groups;
    let x = x
        .cast(FloatDType::F32)
        .reshape([n, h * w, norm.groups, width]);
    let mean = |x: Tensor<B, 4>| x.mean_dim(1).mean_dim(3);
    let x = x.clone() - mean(x);
    let variance = mean(x.clone().square());
    let x = (x / (variance + norm.eps).sqrt()).reshape([n, h, w, c]);
    let channels = |t: &Tensor<B, 1>| t.clone().reshape([1, 1, 1, c]);
    let x = x * channels(&norm.gamma) + channels(&norm.beta);
    act.apply(x).cast(dtype)
}
