//! `AutoencoderKLWan` 2.1 and 2.2 and `AutoencoderKLQwenImage`.
//!
//! Their causal convolutions see zeros before the first frame, and their temporal down-samplers let
//! that frame pass: so of a picture only the last temporal slice of a kernel sees anything, and the
//! network collapses, exactly, to a 2-D one. Norms and attention look at single frames: so chunks of
//! a clip give exactly what the whole would.

use std::ops::Range;

use burn::tensor::Tensor;

use crate::{
    Error,
    config::WanConfig,
    model::{ClipFamily, in_steps},
    nn::{
        Act, Before, CausalConv, Conv2d, ConvShape, Edge, Floor, Loader, Ops, Order, Past, RmsNorm,
        attend, group_mean, space_to_depth, time_to_depth,
    },
};

/// diffusers takes a clip in fours after its first frame, and would drop what is left over.
pub(crate) const STEP: usize = 4;

/// The least length that a pixel's channels are divided by.
const FLOOR: Floor = Floor::Length(1e-12);

/// The encoder and its `quant_conv`.
#[derive(Debug)]
pub(crate) struct Wan<B: Ops> {
    patch: usize,
    step: usize,
    conv_in: CausalConv<B>,
    levels: Vec<Level<B>>,
    first: Block<B>,
    attention: Attention<B>,
    second: Block<B>,
    norm_out: RmsNorm<B>,
    conv_out: CausalConv<B>,
    quant_conv: CausalConv<B>,
}

/// Blocks of one resolution. In Wan 2.2 the level's input, averaged, is added to its output.
#[derive(Debug)]
struct Level<B: Ops> {
    blocks: Vec<Block<B>>,
    downsample: Option<Downsample<B>>,
    shortcut: Option<Shortcut>,
}

/// Halves height and width, and where there is a `time_conv` also time, which lets the first frame
/// pass untouched.
#[derive(Debug)]
struct Downsample<B: Ops> {
    resample: Conv2d<B>,
    time_conv: Option<CausalConv<B>>,
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
    conv1: CausalConv<B>,
    norm2: RmsNorm<B>,
    conv2: CausalConv<B>,
    shortcut: Option<CausalConv<B>>,
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
        let mid = "encoder.mid_block";
        let conv_in = [config.in_channels, first];
        Ok(Self {
            patch: config.patch(),
            step: config.temporal().max(STEP),
            conv_in: causal(load, "encoder.conv_in", conv_in, 3)?,
            levels: levels(load, config)?,
            first: Block::load(load, &format!("{mid}.resnets.0"), [last; 2])?,
            attention: Attention::load(load, &format!("{mid}.attentions.0"), last)?,
            second: Block::load(load, &format!("{mid}.resnets.1"), [last; 2])?,
            norm_out: load.gamma("encoder.norm_out.gamma", &[last, 1, 1, 1], FLOOR)?,
            conv_out: causal(load, "encoder.conv_out", [last, moments], 3)?,
            quant_conv: causal(load, "quant_conv", [moments; 2], 1)?,
        })
    }
}

/// A convolution over as many frames as rows and columns, that keeps the size.
fn causal<B: Ops>(
    load: &mut Loader<'_, B>,
    name: &str,
    [inputs, outputs]: [usize; 2],
    kernel: usize,
) -> Result<CausalConv<B>, Error> {
    let shape = ConvShape::same(inputs, outputs, kernel).over(kernel);
    CausalConv::load(load, name, shape, (Before::Zeros, Edge::Zeros))
}

impl<B: Ops> ClipFamily<B> for Wan<B> {
    fn chunks(&self, frames: usize, fit: usize) -> Vec<Range<usize>> {
        in_steps(frames, fit, self.step)
    }

    fn encode(&self, x: Tensor<B, 4>, past: &mut Past<B>) -> Tensor<B, 4> {
        let x = space_to_depth(x, self.patch, Order::Cxy);
        let x = self.conv_in.forward(x, past);
        let x = (self.levels.iter()).fold(x, |x, level| level.forward(x, past));
        let x = self.first.forward(x, past);
        let x = self.attention.forward(x);
        let x = self.second.forward(x, past);
        let x = B::rms_norm(x, &self.norm_out, Act::Silu);
        let x = self.conv_out.forward(x, past);
        self.quant_conv.forward(x, past)
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
                Some(Downsample::load(load, &name, outputs, halves_time)?)
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

impl<B: Ops> Downsample<B> {
    fn load(
        load: &mut Loader<'_, B>,
        name: &str,
        channels: usize,
        halves_time: bool,
    ) -> Result<Self, Error> {
        let resample = ConvShape::halve_asymmetric(channels);
        let time_conv = ConvShape::same(channels, channels, 1).over(3).every(2);
        let how = (Before::Nothing, Edge::Zeros);
        Ok(Self {
            resample: load.conv(&format!("{name}.resample.1"), resample)?,
            time_conv: match halves_time {
                true => {
                    let name = format!("{name}.time_conv");
                    Some(CausalConv::load(load, &name, time_conv, how)?)
                }
                false => None,
            },
        })
    }

    /// With `around` added to the result.
    fn forward(
        &self,
        x: Tensor<B, 4>,
        around: Option<Tensor<B, 4>>,
        past: &mut Past<B>,
    ) -> Tensor<B, 4> {
        let time_conv = self.time_conv.as_ref().filter(|_| !past.is_still());
        match (time_conv, around) {
            (None, None) => self.resample.forward(x),
            (None, Some(around)) => self.resample.add(x, around, Act::None),
            (Some(time_conv), around) => {
                let x = self.resample.forward(x);
                let first = past.is_first().then(|| x.clone().narrow(0, 0, 1));
                let rest = time_conv.filled(x, past);
                let x = Tensor::cat(first.into_iter().chain(rest).collect(), 0);
                match around {
                    Some(around) => x + around,
                    None => x,
                }
            }
        }
    }
}

impl<B: Ops> Level<B> {
    fn forward(&self, x: Tensor<B, 4>, past: &mut Past<B>) -> Tensor<B, 4> {
        let around = (self.shortcut).map(|shortcut| shortcut.forward(x.clone(), past));
        let x = (self.blocks.iter()).fold(x, |x, block| block.forward(x, past));
        match (&self.downsample, around) {
            (Some(downsample), around) => downsample.forward(x, around, past),
            (None, Some(around)) => x + around,
            (None, None) => x,
        }
    }
}

impl Shortcut {
    fn forward<B: Ops>(self, x: Tensor<B, 4>, past: &Past<B>) -> Tensor<B, 4> {
        let x = match self.time {
            1 => x,
            time => time_to_depth(self.whole_times(x, past), time, true),
        };
        group_mean(space_to_depth(x, self.space, Order::Cyx), self.outputs)
    }

    /// The first frame is preceded by zeros up to the factor.
    fn whole_times<B: Ops>(self, x: Tensor<B, 4>, past: &Past<B>) -> Tensor<B, 4> {
        let [n, h, w, c] = x.dims();
        let zeros = |n| Tensor::zeros([n, h, w, c], (&x.device(), x.dtype()));
        match () {
            () if past.is_still() => {
                let axis = |x: Tensor<B, 4>| x.unsqueeze_dim::<5>(1);
                let zeros = axis(zeros(n)).repeat_dim(1, self.time - 1);
                let frames = Tensor::cat(vec![zeros, axis(x.clone())], 1);
                frames.reshape([n * self.time, h, w, c])
            }
            () if past.is_first() => Tensor::cat(vec![zeros(self.time - 1), x.clone()], 0),
            () => x,
        }
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
            causal(load, &format!("{name}.{conv}"), [inputs, outputs], kernel)
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

    fn forward(&self, x: Tensor<B, 4>, past: &mut Past<B>) -> Tensor<B, 4> {
        let h = B::rms_norm(x.clone(), &self.norm1, Act::Silu);
        let h = self.conv1.forward(h, past);
        let h = B::rms_norm(h, &self.norm2, Act::Silu);
        let shortcut = match &self.shortcut {
            Some(conv) => conv.forward(x, past),
            None => x,
        };
        self.conv2.add(h, past, (shortcut, Act::None))
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
