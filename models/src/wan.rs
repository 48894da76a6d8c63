//! `AutoencoderKLWan` 2.1 and 2.2 and `AutoencoderKLQwenImage`, for single frames.
//!
//! Their causal convolutions pad time with zeros on the left only, so of a single frame only the
//! last temporal slice of a kernel sees anything: the network collapses, exactly, to a 2-D one.
//! The temporal down-samplers do nothing to the first frame.

use burn::tensor::Tensor;

use crate::{
    Error,
    config::WanConfig,
    model::Family,
    nn::{
        Act, Conv2d, ConvShape, Floor, Loader, Ops, Order, RmsNorm, attend, group_mean,
        space_to_depth,
    },
};

/// The least length that a pixel's channels are divided by.
const FLOOR: Floor = Floor::Length(1e-12);

/// The encoder and its `quant_conv`.
#[derive(Debug)]
pub(crate) struct Wan<B: Ops> {
    patch: usize,
    conv_in: Conv2d<B>,
    levels: Vec<Level<B>>,
    first: Block<B>,
    attention: Attention<B>,
    second: Block<B>,
    norm_out: RmsNorm<B>,
    conv_out: Conv2d<B>,
    quant_conv: Conv2d<B>,
}

/// Blocks of one resolution. In Wan 2.2 the level's input, averaged, is added to its output.
#[derive(Debug)]
struct Level<B: Ops> {
    blocks: Vec<Block<B>>,
    downsample: Option<Conv2d<B>>,
    shortcut: Option<Shortcut>,
}

/// Means over the pixels, and in Wan 2.2's eyes the frames, that a level merges.
#[derive(Clone, Copy, Debug)]
struct Shortcut {
    space: usize,
    time: usize,
    outputs: usize,
}

/// `conv2(silu(norm2(conv1(silu(norm1(x)))))) + shortcut(x)`
#[derive(Debug)]
struct Block<B: Ops> {
    norm1: RmsNorm<B>,
    conv1: Conv2d<B>,
    norm2: RmsNorm<B>,
    conv2: Conv2d<B>,
    shortcut: Option<Conv2d<B>>,
}

/// `x + proj(attention(to_qkv(norm(x))))`, one head.
#[derive(Debug)]
struct Attention<B: Ops> {
    norm: RmsNorm<B>,
    to_qkv: Conv2d<B>,
    proj: Conv2d<B>,
}

impl<B: Ops> Wan<B> {
    pub(crate) fn load(load: &mut Loader<'_, B>, config: &WanConfig) -> Result<Self, Error> {
        let dims = config.dims();
        let (first, last) = (dims[0], dims[dims.len() - 1]);
        let moments = 2 * config.z_dim;
        let conv_in = ConvShape::same(config.in_channels, first, 3);
        let mid = "encoder.mid_block";
        Ok(Self {
            patch: config.patch(),
            conv_in: load.conv_3d("encoder.conv_in", conv_in)?,
            levels: levels(load, config)?,
            first: Block::load(load, &format!("{mid}.resnets.0"), [last; 2])?,
            attention: Attention::load(load, &format!("{mid}.attentions.0"), last)?,
            second: Block::load(load, &format!("{mid}.resnets.1"), [last; 2])?,
            norm_out: load.gamma("encoder.norm_out.gamma", &[last, 1, 1, 1], FLOOR)?,
            conv_out: load.conv_3d("encoder.conv_out", ConvShape::same(last, moments, 3))?,
            quant_conv: load.conv_3d("quant_conv", ConvShape::same(moments, moments, 1))?,
        })
    }
}

impl<B: Ops> Family<B> for Wan<B> {
    fn encode(&self, x: Tensor<B, 4>) -> Tensor<B, 4> {
        let x = space_to_depth(x, self.patch, Order::Cxy);
        let x = self.conv_in.forward(x);
        let x = self.levels.iter().fold(x, |x, level| level.forward(x));
        let x = self.first.forward(x);
        let x = self.attention.forward(x);
        let x = self.second.forward(x);
        let x = self
            .conv_out
            .forward(B::rms_norm(x, &self.norm_out, Act::Silu));
        self.quant_conv.forward(x)
    }
}

/// Wan 2.2 numbers levels and, within them, blocks. The others number all layers through.
fn levels<B: Ops>(load: &mut Loader<'_, B>, config: &WanConfig) -> Result<Vec<Level<B>>, Error> {
    let dims = config.dims();
    let mut flat = 0;
    let mut next = || {
        flat += 1;
        format!("encoder.down_blocks.{}", flat - 1)
    };
    let mut levels = Vec::new();
    for (index, pair) in dims.windows(2).enumerate() {
        let (inputs, outputs) = (pair[0], pair[1]);
        let name = format!("encoder.down_blocks.{index}");
        let mut blocks = Vec::new();
        for layer in 0..config.num_res_blocks {
            let block = match config.is_residual {
                true => format!("{name}.resnets.{layer}"),
                false => next(),
            };
            let inputs = if layer == 0 { inputs } else { outputs };
            blocks.push(Block::load(load, &block, [inputs, outputs])?);
        }
        let last = index + 2 == dims.len();
        let halves_time = !last && config.halves_time(index);
        let downsample = match last {
            true => None,
            false => {
                let name = match config.is_residual {
                    true => format!("{name}.downsampler"),
                    false => next(),
                };
                Some(downsample(load, &name, outputs, halves_time)?)
            }
        };
        let shortcut = config.is_residual.then_some(Shortcut {
            space: if last { 1 } else { 2 },
            time: if halves_time { 2 } else { 1 },
            outputs,
        });
        levels.push(Level {
            blocks,
            downsample,
            shortcut,
        });
    }
    Ok(levels)
}

fn downsample<B: Ops>(
    load: &mut Loader<'_, B>,
    name: &str,
    channels: usize,
    halves_time: bool,
) -> Result<Conv2d<B>, Error> {
    if halves_time {
        load.weights.take(
            &format!("{name}.time_conv.weight"),
            &[channels, channels, 3, 1, 1],
        )?;
        load.weights
            .take(&format!("{name}.time_conv.bias"), &[channels])?;
    }
    load.conv(
        &format!("{name}.resample.1"),
        ConvShape::halve_asymmetric(channels),
    )
}

impl<B: Ops> Level<B> {
    fn forward(&self, x: Tensor<B, 4>) -> Tensor<B, 4> {
        let around = self.shortcut.map(|shortcut| shortcut.forward(x.clone()));
        let x = self.blocks.iter().fold(x, |x, block| block.forward(x));
        match (&self.downsample, around) {
            (Some(conv), Some(around)) => conv.add(x, around, Act::None),
            (Some(conv), None) => conv.forward(x),
            (None, Some(around)) => x + around,
            (None, None) => x,
        }
    }
}

impl Shortcut {
    fn forward<B: Ops>(self, x: Tensor<B, 4>) -> Tensor<B, 4> {
        let [n, h, w, c] = x.dims();
        let (h, w) = (h / self.space, w / self.space);
        let cell = self.space * self.space;
        let x = space_to_depth(x, self.space, Order::Cyx);
        let x = match self.time {
            1 => x,
            // A single frame is preceded by zeros up to the factor; time comes before row and column.
            time => {
                let x = x.reshape([n, h, w, c, 1, cell]);
                let mut frames = vec![x.zeros_like(); time - 1];
                frames.push(x);
                Tensor::cat(frames, 4).reshape([n, h, w, c * time * cell])
            }
        };
        group_mean(x, self.outputs)
    }
}

impl<B: Ops> Block<B> {
    fn load(
        load: &mut Loader<'_, B>,
        name: &str,
        [inputs, outputs]: [usize; 2],
    ) -> Result<Self, Error> {
        let gamma = |load: &mut Loader<'_, B>, norm, channels| {
            load.gamma(&format!("{name}.{norm}.gamma"), &[channels, 1, 1, 1], FLOOR)
        };
        let conv = |load: &mut Loader<'_, B>, conv, inputs, kernel| {
            let shape = ConvShape::same(inputs, outputs, kernel);
            load.conv_3d(&format!("{name}.{conv}"), shape)
        };
        Ok(Self {
            norm1: gamma(load, "norm1", inputs)?,
            conv1: conv(load, "conv1", inputs, 3)?,
            norm2: gamma(load, "norm2", outputs)?,
            conv2: conv(load, "conv2", outputs, 3)?,
            shortcut: match inputs == outputs {
                true => None,
                false => Some(conv(load, "conv_shortcut", inputs, 1)?),
            },
        })
    }

    fn forward(&self, x: Tensor<B, 4>) -> Tensor<B, 4> {
        let h = B::rms_norm(x.clone(), &self.norm1, Act::Silu);
        let h = B::rms_norm(self.conv1.forward(h), &self.norm2, Act::Silu);
        let shortcut = match &self.shortcut {
            Some(conv) => conv.forward(x),
            None => x,
        };
        self.conv2.add(h, shortcut, Act::None)
    }
}

impl<B: Ops> Attention<B> {
    fn load(load: &mut Loader<'_, B>, name: &str, channels: usize) -> Result<Self, Error> {
        let to_qkv = ConvShape::same(channels, 3 * channels, 1);
        Ok(Self {
            norm: load.gamma(&format!("{name}.norm.gamma"), &[channels, 1, 1], FLOOR)?,
            to_qkv: load.conv(&format!("{name}.to_qkv"), to_qkv)?,
            proj: load.conv(
                &format!("{name}.proj"),
                ConvShape::same(channels, channels, 1),
            )?,
        })
    }

    fn forward(&self, x: Tensor<B, 4>) -> Tensor<B, 4> {
        let [n, h, w, c] = x.dims();
        let qkv = self
            .to_qkv
            .forward(B::rms_norm(x.clone(), &self.norm, Act::None));
        let qkv = qkv.reshape([n, h * w, 3 * c]);
        let part = |index: usize| qkv.clone().narrow(2, index * c, c);
        let o = attend(part(0), part(1), part(2)).reshape([n, h, w, c]);
        self.proj.add(o, x, Act::None)
    }
}

#[cfg(test)]
mod tests;
