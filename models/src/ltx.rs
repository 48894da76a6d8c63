//! `AutoencoderKLLTXVideo` 0.9.x and `AutoencoderKLLTX2Video`.
//!
//! Their causal convolutions see the first frame again and again before it, and norms look at single
//! pixels: so chunks of a clip give exactly what the whole would.

use std::ops::Range;

use burn::tensor::Tensor;

use crate::{
    Error,
    config::{LtxConfig, LtxDown, LtxLevel, Padding},
    model::{ClipFamily, in_steps},
    nn::{
        Act, Before, CausalConv, ConvShape, Edge, Floor, LayerNorm, Loader, Ops, Order, Past,
        RmsNorm, group_mean, space_to_depth, time_to_depth,
    },
};

/// Added to the mean of squares of a pixel's channels.
const FLOOR: Floor = Floor::MeanSquare(1e-8);

/// The encoder.
#[derive(Debug)]
pub(crate) struct Ltx<B: Ops> {
    patch: usize,
    step: usize,
    latent_channels: usize,
    conv_in: CausalConv<B>,
    levels: Vec<Level<B>>,
    mid: Vec<Block<B>>,
    norm_out: RmsNorm<B>,
    conv_out: CausalConv<B>,
}

/// Residual blocks, and what samples them down.
#[derive(Debug)]
struct Level<B: Ops> {
    blocks: Vec<Block<B>>,
    down: Option<Down<B>>,
    /// Where channels change after that.
    change: Option<Block<B>>,
}

/// Halves some of time, height and width.
#[derive(Debug)]
enum Down<B: Ops> {
    /// By its strides.
    Conv(CausalConv<B>),
    Fold(Fold<B>),
}

/// `fold(conv(x)) + means(fold(x))`, with frames and pixels folded into channels.
#[derive(Debug)]
struct Fold<B: Ops> {
    conv: CausalConv<B>,
    time: usize,
    space: usize,
    outputs: usize,
}

/// `conv2(silu(norm2(conv1(silu(norm1(x)))))) + conv_shortcut(norm3(x))`
#[derive(Debug)]
struct Block<B: Ops> {
    norm1: RmsNorm<B>,
    conv1: CausalConv<B>,
    norm2: RmsNorm<B>,
    conv2: CausalConv<B>,
    shortcut: Option<(LayerNorm<B>, CausalConv<B>)>,
}

impl<B: Ops> Ltx<B> {
    pub(crate) fn load(load: &mut Loader<'_, B>, config: &LtxConfig) -> Result<Self, Error> {
        let channels = &config.block_out_channels;
        let (first, last) = (channels[0], channels[channels.len() - 1]);
        let pixels = config.in_channels * config.patch_size * config.patch_size;
        let latents = config.latent_channels;
        let mut parts = Parts { load, config };
        let conv_in = ConvShape::same(pixels, first, 3).over(3);
        let conv_out = ConvShape::same(last, latents + 1, 3).over(3);
        let levels = config.levels().into_iter().enumerate();
        Ok(Self {
            patch: config.patch_size,
            step: config.factors()[0],
            latent_channels: latents,
            conv_in: parts.conv("encoder.conv_in", conv_in)?,
            levels: levels
                .map(|(index, level)| parts.level(&format!("encoder.down_blocks.{index}"), level))
                .collect::<Result<_, _>>()?,
            mid: parts.blocks("encoder.mid_block", config.mid_layers(), last)?,
            norm_out: parts.norm(last),
            conv_out: parts.conv("encoder.conv_out", conv_out)?,
        })
    }
}

impl<B: Ops> ClipFamily<B> for Ltx<B> {
    fn chunks(&self, frames: usize, fit: usize) -> Vec<Range<usize>> {
        in_steps(frames, fit, self.step)
    }

    fn encode(&self, x: Tensor<B, 4>, past: &mut Past<B>) -> Tensor<B, 4> {
        let x = space_to_depth(x, self.patch, Order::Cxy);
        let x = self.conv_in.forward(x, past);
        let x = (self.levels.iter()).fold(x, |x, level| level.forward(x, past));
        let x = (self.mid.iter()).fold(x, |x, block| block.forward(x, past));
        let x = B::rms_norm(x, &self.norm_out, Act::Silu);
        let x = self.conv_out.forward(x, past);
        // One log-variance for all channels.
        let channels = self.latent_channels;
        let mean = x.clone().narrow(3, 0, channels);
        let logvar = x.narrow(3, channels, 1).repeat_dim(3, channels);
        Tensor::cat(vec![mean, logvar], 3)
    }
}

/// Loads the parts of an encoder.
struct Parts<'a, 'w, B: Ops> {
    load: &'a mut Loader<'w, B>,
    config: &'a LtxConfig,
}

impl<B: Ops> Parts<'_, '_, B> {
    /// Every convolution is wrapped in another module of diffusers.
    fn conv(&mut self, name: &str, shape: ConvShape) -> Result<CausalConv<B>, Error> {
        let edge = match self.config.padding() {
            Padding::Zeros => Edge::Zeros,
            Padding::Replicate => Edge::Replicate,
        };
        let name = format!("{name}.conv");
        CausalConv::load(self.load, &name, shape, (Before::First, edge))
    }

    fn norm(&self, channels: usize) -> RmsNorm<B> {
        self.load.rms_norm_plain(channels, FLOOR)
    }

    fn blocks(
        &mut self,
        name: &str,
        layers: usize,
        channels: usize,
    ) -> Result<Vec<Block<B>>, Error> {
        let block = |layer| self.block(&format!("{name}.resnets.{layer}"), [channels; 2]);
        (0..layers).map(block).collect()
    }

    fn level(&mut self, name: &str, level: LtxLevel) -> Result<Level<B>, Error> {
        let LtxLevel {
            layers,
            inputs,
            outputs,
            down,
        } = level;
        let blocks = self.blocks(name, layers, inputs)?;
        let strided = ConvShape::halve_symmetric(inputs, inputs).over(3).every(2);
        let name = |part: &str| format!("{name}.{part}");
        let down_name = name("downsamplers.0");
        let down_by = match down {
            LtxDown::Plain { halves: false } | LtxDown::None => None,
            LtxDown::Plain { halves: true } | LtxDown::Conv => {
                Some(Down::Conv(self.conv(&down_name, strided)?))
            }
            LtxDown::Fold { time, space } => {
                let folded = ConvShape::same(inputs, outputs / (time * space * space), 3).over(3);
                Some(Down::Fold(Fold {
                    conv: self.conv(&format!("{down_name}.conv"), folded)?,
                    time,
                    space,
                    outputs,
                }))
            }
        };
        let changes = matches!(down, LtxDown::Plain { .. }) && inputs != outputs;
        Ok(Level {
            blocks,
            down: down_by,
            change: match changes {
                true => Some(self.block(&name("conv_out"), [inputs, outputs])?),
                false => None,
            },
        })
    }

    fn block(&mut self, name: &str, [inputs, outputs]: [usize; 2]) -> Result<Block<B>, Error> {
        let same = |inputs, kernel| ConvShape::same(inputs, outputs, kernel).over(kernel);
        let eps = self.config.resnet_norm_eps;
        Ok(Block {
            norm1: self.norm(inputs),
            conv1: self.conv(&format!("{name}.conv1"), same(inputs, 3))?,
            norm2: self.norm(outputs),
            conv2: self.conv(&format!("{name}.conv2"), same(outputs, 3))?,
            shortcut: match inputs == outputs {
                true => None,
                false => {
                    let norm = (self.load).layer_norm(&format!("{name}.norm3"), inputs, eps)?;
                    let conv = self.conv(&format!("{name}.conv_shortcut"), same(inputs, 1))?;
                    Some((norm, conv))
                }
            },
        })
    }
}

impl<B: Ops> Level<B> {
    fn forward(&self, x: Tensor<B, 4>, past: &mut Past<B>) -> Tensor<B, 4> {
        let x = (self.blocks.iter()).fold(x, |x, block| block.forward(x, past));
        let x = match &self.down {
            Some(Down::Conv(conv)) => conv.forward(x, past),
            Some(Down::Fold(fold)) => fold.forward(x, past),
            None => x,
        };
        match &self.change {
            Some(block) => block.forward(x, past),
            None => x,
        }
    }
}

impl<B: Ops> Fold<B> {
    fn forward(&self, x: Tensor<B, 4>, past: &mut Past<B>) -> Tensor<B, 4> {
        let x = self.whole_times(x, past);
        let around = group_mean(self.fold(x.clone()), self.outputs);
        self.fold(self.conv.forward(x, past)) + around
    }

    fn fold(&self, x: Tensor<B, 4>) -> Tensor<B, 4> {
        space_to_depth(time_to_depth(x, self.time, true), self.space, Order::Cyx)
    }

    /// The first frame comes as often as frames are folded into one.
    fn whole_times(&self, x: Tensor<B, 4>, past: &Past<B>) -> Tensor<B, 4> {
        let [n, h, w, c] = x.dims();
        match () {
            () if self.time == 1 => x,
            () if past.is_still() => {
                let each = x.unsqueeze_dim::<5>(1).repeat_dim(1, self.time);
                each.reshape([n * self.time, h, w, c])
            }
            () if past.is_first() => {
                let first = x.clone().narrow(0, 0, 1).repeat_dim(0, self.time - 1);
                Tensor::cat(vec![first, x], 0)
            }
            () => x,
        }
    }
}

impl<B: Ops> Block<B> {
    fn forward(&self, x: Tensor<B, 4>, past: &mut Past<B>) -> Tensor<B, 4> {
        let h = B::rms_norm(x.clone(), &self.norm1, Act::Silu);
        let h = self.conv1.forward(h, past);
        let h = B::rms_norm(h, &self.norm2, Act::Silu);
        let shortcut = match &self.shortcut {
            Some((norm, conv)) => conv.forward(norm.forward(x), past),
            None => x,
        };
        self.conv2.add(h, past, (shortcut, Act::None))
    }
}
