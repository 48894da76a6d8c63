//! Convolution.

use burn::tensor::Tensor;

use super::{Act, GroupNorm, Ops, Post, Pre};
use crate::{flops, kernel::Over};

/// Everything about a convolution but its values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ConvShape {
    pub(crate) inputs: usize,
    pub(crate) outputs: usize,
    pub(crate) kernel: usize,
    pub(crate) stride: usize,
    /// Zeros around the input: top, left, bottom, right.
    pub(crate) pad: [usize; 4],
    pub(crate) groups: usize,
    pub(crate) bias: bool,
    /// How it lies over the frames of a clip; the inputs are those of one frame.
    pub(crate) over: Over,
}

impl ConvShape {
    /// A square kernel that keeps the size: stride 1, padded by `kernel / 2`, with bias.
    pub(crate) const fn same(inputs: usize, outputs: usize, kernel: usize) -> Self {
        Self {
            inputs,
            outputs,
            kernel,
            stride: 1,
            pad: [kernel / 2; 4],
            groups: 1,
            bias: true,
            over: Over::SINGLE,
        }
    }

    /// 3x3 of stride 2, padded by one at the right and the bottom only.
    pub(crate) const fn halve_asymmetric(channels: usize) -> Self {
        Self {
            stride: 2,
            pad: [0, 0, 1, 1],
            ..Self::same(channels, channels, 3)
        }
    }

    /// 3x3 of stride 2, padded by one on every side.
    pub(crate) const fn halve_symmetric(inputs: usize, outputs: usize) -> Self {
        Self {
            stride: 2,
            ..Self::same(inputs, outputs, 3)
        }
    }

    /// The same for every channel by itself.
    pub(crate) const fn depthwise(self) -> Self {
        Self {
            groups: self.inputs,
            ..self
        }
    }

    /// The same over this many frames at a time, from every frame on.
    pub(crate) const fn over(self, frames: usize) -> Self {
        let over = Over { frames, stride: 1 };
        Self { over, ..self }
    }

    /// The same over single frames.
    pub(crate) const fn single(self) -> Self {
        Self {
            over: Over::SINGLE,
            ..self
        }
    }

    /// The 2-D one that it is when the frames under the kernel are concatenated along channels.
    pub(crate) const fn flat(self) -> Self {
        Self {
            inputs: self.inputs * self.over.frames,
            over: Over::SINGLE,
            ..self
        }
    }

    /// The same with every `stride`-th output in time.
    pub(crate) const fn every(self, stride: usize) -> Self {
        let over = Over {
            stride,
            ..self.over
        };
        Self { over, ..self }
    }

    /// Output height and width.
    pub(crate) const fn output(&self, height: usize, width: usize) -> [usize; 2] {
        let [top, left, bottom, right] = self.pad;
        [
            (height + top + bottom - self.kernel) / self.stride + 1,
            (width + left + right - self.kernel) / self.stride + 1,
        ]
    }

    /// The same without bias.
    pub(crate) const fn without_bias(self) -> Self {
        Self {
            bias: false,
            ..self
        }
    }
}

/// A convolution with its weights.
#[derive(Debug)]
pub(crate) struct Conv2d<B: Ops> {
    kernel: B::Kernel,
    shape: ConvShape,
}

impl<B: Ops> Conv2d<B> {
    pub(crate) fn new(kernel: B::Kernel, shape: ConvShape) -> Self {
        Self { kernel, shape }
    }

    /// `conv(x)`
    pub(crate) fn forward(&self, x: Tensor<B, 4>) -> Tensor<B, 4> {
        self.then(x, Act::None)
    }

    /// `act(conv(x))`
    pub(crate) fn then(&self, x: Tensor<B, 4>, act: Act) -> Tensor<B, 4> {
        let residual = None;
        self.run(x, None, Post { residual, act })
    }

    /// `act(conv(x) + residual)`
    pub(crate) fn add(&self, x: Tensor<B, 4>, residual: Tensor<B, 4>, act: Act) -> Tensor<B, 4> {
        let residual = Some(residual);
        self.run(x, None, Post { residual, act })
    }

    /// `conv(act(norm(x))) + residual`
    pub(crate) fn after_norm(
        &self,
        x: Tensor<B, 4>,
        norm: &GroupNorm<B>,
        act: Act,
        residual: Option<Tensor<B, 4>>,
    ) -> Tensor<B, 4> {
        let post = Post {
            residual,
            act: Act::None,
        };
        self.run(x, Some(Pre { norm, act }), post)
    }

    /// What stands before it, it, and what follows.
    pub(crate) fn run(
        &self,
        x: Tensor<B, 4>,
        pre: Option<Pre<'_, B>>,
        post: Post<B>,
    ) -> Tensor<B, 4> {
        let [n, height, width, _] = x.dims();
        let ConvShape {
            inputs,
            outputs,
            kernel,
            groups,
            ..
        } = self.shape;
        let [height, width] = self.shape.output(height, width);
        let taps = [kernel, kernel, inputs / groups];
        flops::note(&[&[n, height, width, outputs][..], &taps].concat());
        B::convolve(x, pre, &self.kernel, post)
    }
}
