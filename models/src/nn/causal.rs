//! Convolution over time, rows and columns that never looks ahead.

use burn::tensor::Tensor;

use super::{Act, Conv2d, ConvShape, Edge, Frames, Loader, Ops, Past, Post, pad};
use crate::{Error, flops};

/// What a kernel sees before the first frame of a clip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Before {
    /// Frames of zeros.
    Zeros,
    /// The first frame, again and again.
    First,
    /// Nothing: the first output is that of the first frames that fill the kernel. Not for pictures.
    Nothing,
}

/// A convolution over the frames up to each. Frames are `[n, height, width, channels]`.
#[derive(Debug)]
pub(crate) struct CausalConv<B: Ops> {
    /// Without padding where that is not of zeros.
    shape: ConvShape,
    before: Before,
    /// What is put around frames first, and how.
    around: Option<([usize; 4], Edge)>,
    /// What it is for a frame that has nothing but [`Before`] before it, where that is anything.
    still: Option<Conv2d<B>>,
    /// `None` where it lies over single frames.
    moving: Option<B::Kernel>,
}

impl<B: Ops> CausalConv<B> {
    /// Loads `{name}.weight`, `[out, in, frames, k, k]`, and `{name}.bias`. What is put around frames
    /// is as `shape` says how wide and `edge` of what.
    pub(crate) fn load(
        load: &mut Loader<'_, B>,
        name: &str,
        shape: ConvShape,
        (before, edge): (Before, Edge),
    ) -> Result<Self, Error> {
        let (frames, area) = (shape.over.frames, shape.kernel * shape.kernel);
        let sides = [
            shape.outputs,
            shape.inputs,
            frames,
            shape.kernel,
            shape.kernel,
        ];
        let weight = load.weights.take(&format!("{name}.weight"), &sides)?;
        let bias = load.bias(name, shape)?;
        let around = match edge {
            _ if shape.pad == [0; 4] => None,
            Edge::Zeros => None,
            edge => Some((shape.pad, edge)),
        };
        let shape = match around {
            Some(_) => ConvShape {
                pad: [0; 4],
                ..shape
            },
            None => shape,
        };
        let still = match (frames, before) {
            (1, _) => Some(weight.clone()),
            (_, Before::Zeros) => Some(last_slices(&weight, [frames, area])),
            (_, Before::First) => Some(sums(&weight, [frames, area])),
            (_, Before::Nothing) => None,
        };
        let still = still.map(|weight| load.conv_from(weight, bias.as_deref(), shape.single()));
        let moving = (frames > 1).then(|| {
            let sides = [shape.inputs, frames, area];
            load.kernel(frames_first(&weight, sides), bias.as_deref(), shape)
        });
        Ok(Self {
            shape,
            before,
            around,
            still,
            moving,
        })
    }

    /// `conv(x)`
    pub(crate) fn forward(&self, x: Tensor<B, 4>, past: &mut Past<B>) -> Tensor<B, 4> {
        self.then(x, past, Act::None)
    }

    /// `act(conv(x))`
    pub(crate) fn then(&self, x: Tensor<B, 4>, past: &mut Past<B>, act: Act) -> Tensor<B, 4> {
        let residual = None;
        self.run(x, past, Post { residual, act }).expect(FILLED)
    }

    /// `act(conv(x) + residual)`
    pub(crate) fn add(
        &self,
        x: Tensor<B, 4>,
        past: &mut Past<B>,
        (residual, act): (Tensor<B, 4>, Act),
    ) -> Tensor<B, 4> {
        let residual = Some(residual);
        self.run(x, past, Post { residual, act }).expect(FILLED)
    }

    /// `conv(x)` with [`Before::Nothing`], of which there may be nothing yet.
    pub(crate) fn filled(&self, x: Tensor<B, 4>, past: &mut Past<B>) -> Option<Tensor<B, 4>> {
        let post = Post {
            residual: None,
            act: Act::None,
        };
        self.run(x, past, post)
    }

    fn run(&self, x: Tensor<B, 4>, past: &mut Past<B>, post: Post<B>) -> Option<Tensor<B, 4>> {
        let x = match self.around {
            Some((sides, edge)) => pad(x, sides, edge),
            None => x,
        };
        let Some(moving) = &self.moving else {
            return Some(self.still.as_ref()?.run(x, None, post));
        };
        if past.is_still() {
            return Some(self.still.as_ref()?.run(x, None, post));
        }
        let before = match past.is_first() {
            true => self.before_first(&x),
            false => past.kept(),
        };
        let frames = Frames { before, x };
        let over = self.shape.over;
        let outputs = over.outputs(frames.count());
        let left = frames.count() - outputs * over.stride;
        past.keep((left > 0).then(|| B::own(frames.last(left))));
        if outputs == 0 {
            return None;
        }
        let [_, height, width, _] = frames.x.dims();
        let [height, width] = self.shape.output(height, width);
        let kernel = [over.frames, self.shape.kernel, self.shape.kernel];
        let taps = kernel.iter().product::<usize>() * self.shape.inputs;
        flops::note(&[outputs, height, width, self.shape.outputs, taps]);
        Some(B::convolve_over(frames, (moving, over), post))
    }

    /// What stands before the first frame of `x`.
    fn before_first(&self, x: &Tensor<B, 4>) -> Option<Tensor<B, 4>> {
        let first = x.clone().narrow(0, 0, 1);
        let count = self.shape.over.frames - 1;
        match self.before {
            Before::Zeros => Some(first.zeros_like().repeat_dim(0, count)),
            Before::First => Some(first.repeat_dim(0, count)),
            Before::Nothing => None,
        }
    }
}

/// Why there is an output for every chunk.
const FILLED: &str = "a kernel with frames before the first is filled by the first";

/// Of kernels of `frames` slices of `area` taps each, the last slice.
fn last_slices(weight: &[f32], [frames, area]: [usize; 2]) -> Vec<f32> {
    let kernels = weight.chunks_exact(frames * area);
    kernels
        .flat_map(|kernel| kernel[(frames - 1) * area..].to_vec())
        .collect()
}

/// Of kernels of `frames` slices of `area` taps each, the sum of the slices.
fn sums(weight: &[f32], [frames, area]: [usize; 2]) -> Vec<f32> {
    let kernels = weight.chunks_exact(frames * area);
    let sum = |kernel: &[f32], tap: usize| {
        let slices = kernel.iter().skip(tap).step_by(area);
        slices.map(|&weight| f64::from(weight)).sum::<f64>() as f32
    };
    kernels
        .flat_map(|kernel| (0..area).map(move |tap| sum(kernel, tap)))
        .collect()
}

/// From `[out, inputs, frames, area]` to `[out, frames, inputs, area]`.
fn frames_first(weight: &[f32], [inputs, frames, area]: [usize; 3]) -> Vec<f32> {
    let mut turned = Vec::with_capacity(weight.len());
    for filter in weight.chunks_exact(inputs * frames * area) {
        for frame in 0..frames {
            for input in 0..inputs {
                turned.extend_from_slice(&filter[(input * frames + frame) * area..][..area]);
            }
        }
    }
    turned
}
