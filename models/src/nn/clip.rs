//! The residual block of the classes that are made for clips.

use burn::tensor::Tensor;

use super::{
    Act, Before, CausalConv, Conv2d, ConvShape, Edge, Floor, GroupNorm, Loader, Ops, Past, RmsNorm,
};
use crate::Error;

/// A norm of the frames of a chunk.
#[derive(Debug)]
pub(crate) enum ClipNorm<B: Ops> {
    /// A group norm with statistics of the whole chunk.
    Chunk(GroupNorm<B>),
    /// A group norm with statistics of each frame.
    Frame(GroupNorm<B>),
    /// Of every pixel by itself.
    Pixel(RmsNorm<B>),
}

impl<B: Ops> ClipNorm<B> {
    /// `act(norm(x))`
    pub(crate) fn forward(&self, x: Tensor<B, 4>, past: &Past<B>, act: Act) -> Tensor<B, 4> {
        match self {
            Self::Chunk(norm) if !past.is_still() => {
                let [n, h, w, c] = x.dims();
                let x = x.reshape([1, n * h, w, c]);
                B::group_norm(x, norm, act).reshape([n, h, w, c])
            }
            Self::Chunk(norm) | Self::Frame(norm) => B::group_norm(x, norm, act),
            Self::Pixel(norm) => B::rms_norm(x, norm, act),
        }
    }
}

/// The norms of a class.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Norms {
    /// [`ClipNorm::Chunk`] of so many groups, with this added to the variance.
    Chunk { groups: usize, eps: f32 },
    /// [`ClipNorm::Frame`], in a layer called `norm_layer`.
    Frame { groups: usize, eps: f32 },
    /// [`ClipNorm::Pixel`], with a scale alone, `gamma`.
    Pixel(Floor),
}

impl Norms {
    /// Loads the norm `name`.
    pub(crate) fn load<B: Ops>(
        self,
        load: &mut Loader<'_, B>,
        name: &str,
        channels: usize,
    ) -> Result<ClipNorm<B>, Error> {
        Ok(match self {
            Self::Chunk { groups, eps } => {
                ClipNorm::Chunk(load.group_norm(name, channels, groups, eps)?)
            }
            Self::Frame { groups, eps } => {
                let name = format!("{name}.norm_layer");
                ClipNorm::Frame(load.group_norm(&name, channels, groups, eps)?)
            }
            Self::Pixel(floor) => {
                let name = format!("{name}.gamma");
                ClipNorm::Pixel(load.gamma(&name, &[channels, 1, 1, 1], floor)?)
            }
        })
    }
}

/// What the blocks of a class have in common.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClipBlocks {
    pub(crate) norms: Norms,
    pub(crate) edge: Edge,
    pub(crate) act: Act,
    /// What the shortcut is called where channels change.
    pub(crate) shortcut: &'static str,
}

/// `conv2(act(norm2(conv1(act(norm1(x)))))) + shortcut(x)`, with 3x3x3 kernels that see the first
/// frame again and again before it.
#[derive(Debug)]
pub(crate) struct ClipBlock<B: Ops> {
    norm1: ClipNorm<B>,
    conv1: CausalConv<B>,
    norm2: ClipNorm<B>,
    conv2: CausalConv<B>,
    shortcut: Option<Conv2d<B>>,
    act: Act,
}

impl<B: Ops> ClipBlock<B> {
    /// Loads the block `name` of `inputs` to `outputs` channels.
    pub(crate) fn load(
        load: &mut Loader<'_, B>,
        name: &str,
        [inputs, outputs]: [usize; 2],
        blocks: ClipBlocks,
    ) -> Result<Self, Error> {
        let norm = |load: &mut Loader<'_, B>, norm, channels| {
            blocks.norms.load(load, &format!("{name}.{norm}"), channels)
        };
        let conv = |load: &mut Loader<'_, B>, conv, inputs| {
            let shape = ConvShape::same(inputs, outputs, 3).over(3);
            let name = format!("{name}.{conv}.conv");
            CausalConv::load(load, &name, shape, (Before::First, blocks.edge))
        };
        Ok(Self {
            norm1: norm(load, "norm1", inputs)?,
            conv1: conv(load, "conv1", inputs)?,
            norm2: norm(load, "norm2", outputs)?,
            conv2: conv(load, "conv2", outputs)?,
            shortcut: (inputs != outputs)
                .then(|| {
                    let name = format!("{name}.{}", blocks.shortcut);
                    pointwise(load, &name, [inputs, outputs])
                })
                .transpose()?,
            act: blocks.act,
        })
    }

    pub(crate) fn forward(&self, x: Tensor<B, 4>, past: &mut Past<B>) -> Tensor<B, 4> {
        let h = self.norm1.forward(x.clone(), past, self.act);
        let h = self.conv1.forward(h, past);
        let h = self.norm2.forward(h, past, self.act);
        let shortcut = match &self.shortcut {
            Some(conv) => conv.forward(x),
            None => x,
        };
        self.conv2.add(h, past, (shortcut, Act::None))
    }
}

/// A convolution of single pixels, stored as a 1x1x1 one.
pub(crate) fn pointwise<B: Ops>(
    load: &mut Loader<'_, B>,
    name: &str,
    [inputs, outputs]: [usize; 2],
) -> Result<Conv2d<B>, Error> {
    let sides = [outputs, inputs, 1, 1, 1];
    let weight = load.weights.take(&format!("{name}.weight"), &sides)?;
    load.conv_of(name, weight, ConvShape::same(inputs, outputs, 1))
}
