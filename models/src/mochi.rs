//! `AutoencoderKLMochi`.
//!
//! Nothing in it looks ahead, and its norms are of single frames: so a clip goes through it a few frames
//! at a time, exactly as it would in one piece. Its attention is over time alone, and keeps the keys and
//! values of all frames.

mod attention;
mod features;

use std::ops::Range;

use burn::tensor::{FloatDType, Tensor};

use crate::{
    Error,
    config::{FEATURES, GROUPS, MochiConfig},
    model::{ClipFamily, in_steps},
    nn::{
        Act, Before, CausalConv, ClipBlock, ClipBlocks, ClipNorm, Conv2d, ConvShape, Edge, Loader,
        Norms, Ops, Past,
    },
};
use attention::TimeAttention;

const NORMS: Norms = Norms::Frame {
    groups: GROUPS,
    eps: 1e-5,
};

/// The encoder.
#[derive(Debug)]
pub(crate) struct Mochi<B: Ops> {
    /// Frames that become one latent frame.
    step: usize,
    /// What passes between layers.
    dtype: FloatDType,
    proj_in: Conv2d<B>,
    stages: Vec<Stage<B>>,
    norm_out: ClipNorm<B>,
    act: Act,
    proj_out: Conv2d<B>,
}

/// What folds frames and pixels, where anything does, then blocks, each with its attention where the
/// stage has them.
#[derive(Debug)]
struct Stage<B: Ops> {
    fold: Option<CausalConv<B>>,
    blocks: Vec<(ClipBlock<B>, Option<TimeAttention<B>>)>,
}

/// Where a stage lies in the config.
struct Place {
    name: String,
    /// Its index among layers and attentions.
    index: usize,
    channels: usize,
}

impl<B: Ops> Mochi<B> {
    pub(crate) fn load(load: &mut Loader<'_, B>, config: &MochiConfig) -> Result<Self, Error> {
        let channels = &config.encoder_block_out_channels;
        let (first, last) = (channels[0], channels[channels.len() - 1]);
        let moments = 2 * config.latent_channels;
        let proj_out = ConvShape::same(last, moments, 1).without_bias();
        Ok(Self {
            step: config.compression()[0],
            dtype: B::activations(load.dtype.float()),
            proj_in: linear(
                load,
                "encoder.proj_in",
                ConvShape::same(3 * FEATURES, first, 1),
            )?,
            stages: stages(load, config)?,
            norm_out: NORMS.load(load, "encoder.norm_out", last)?,
            act: config.act_fn,
            proj_out: linear(load, "encoder.proj_out", proj_out)?,
        })
    }
}

impl<B: Ops> ClipFamily<B> for Mochi<B> {
    fn chunks(&self, frames: usize, fit: usize) -> Vec<Range<usize>> {
        in_steps(frames, fit, self.step)
    }

    fn encode(&self, x: Tensor<B, 4>, past: &mut Past<B>) -> Tensor<B, 4> {
        let x = self.proj_in.forward(features::fourier(x).cast(self.dtype));
        let x = (self.stages.iter()).fold(x, |x, stage| stage.forward(x, past));
        self.proj_out
            .forward(self.norm_out.forward(x, past, self.act))
    }

    fn reads_f32(&self) -> bool {
        // 128 turns for a unit of colour: rounded to eight bits, colours would be noise.
        true
    }
}

fn stages<B: Ops>(load: &mut Loader<'_, B>, config: &MochiConfig) -> Result<Vec<Stage<B>>, Error> {
    let channels = &config.encoder_block_out_channels;
    let place = |name: &str, index, channels| Place {
        name: format!("encoder.{name}"),
        index,
        channels,
    };
    let first = place("block_in", 0, channels[0]);
    let mut stages = vec![Stage::load(load, config, first)?];
    for (index, pair) in channels.windows(2).enumerate() {
        let name = format!("down_blocks.{index}");
        let fold = fold(load, config, (&name, index))?;
        let stage = Stage::load(load, config, place(&name, index + 1, pair[1]))?;
        stages.push(Stage {
            fold: Some(fold),
            ..stage
        });
    }
    // Both lists are read from their end here.
    let last = config.layers_per_block.len() - 1;
    let last = place("block_out", last, channels[channels.len() - 1]);
    stages.push(Stage::load(load, config, last)?);
    Ok(stages)
}

impl<B: Ops> Stage<B> {
    fn load(load: &mut Loader<'_, B>, config: &MochiConfig, place: Place) -> Result<Self, Error> {
        let Place {
            name,
            index,
            channels,
        } = place;
        let layers = config.layers_per_block[index];
        let attends = config.add_attention_block[index];
        let block = |layer: usize| {
            let resnet = format!("{name}.resnets.{layer}");
            let block = ClipBlock::load(load, &resnet, [channels; 2], blocks())?;
            let attention = match attends {
                true => Some(TimeAttention::load(load, &name, (layer, channels))?),
                false => None,
            };
            Ok((block, attention))
        };
        Ok(Self {
            fold: None,
            blocks: (0..layers).map(block).collect::<Result<_, Error>>()?,
        })
    }

    fn forward(&self, x: Tensor<B, 4>, past: &mut Past<B>) -> Tensor<B, 4> {
        let x = match &self.fold {
            Some(conv) => conv.forward(x, past),
            None => x,
        };
        self.blocks.iter().fold(x, |x, (block, attention)| {
            let x = block.forward(x, past);
            match attention {
                Some(attention) => attention.forward(x, past),
                None => x,
            }
        })
    }
}

/// A convolution whose strides are its kernel.
fn fold<B: Ops>(
    load: &mut Loader<'_, B>,
    config: &MochiConfig,
    (name, index): (&str, usize),
) -> Result<CausalConv<B>, Error> {
    let channels = &config.encoder_block_out_channels[index..];
    let (time, space) = (
        config.temporal_expansions[index],
        config.spatial_expansions[index],
    );
    let shape = ConvShape {
        stride: space,
        pad: [(space - 1) / 2; 4],
        ..ConvShape::same(channels[0], channels[1], space)
            .over(time)
            .every(time)
    };
    let name = format!("encoder.{name}.conv_in.conv");
    CausalConv::load(load, &name, shape, (Before::First, Edge::Replicate))
}

/// A linear layer over the channels of a pixel.
fn linear<B: Ops>(
    load: &mut Loader<'_, B>,
    name: &str,
    shape: ConvShape,
) -> Result<Conv2d<B>, Error> {
    let sides = [shape.outputs, shape.inputs];
    let weight = load.weights.take(&format!("{name}.weight"), &sides)?;
    load.conv_of(name, weight, shape)
}

fn blocks() -> ClipBlocks {
    ClipBlocks {
        norms: NORMS,
        edge: Edge::Replicate,
        act: Act::Silu,
        // No block changes the channels.
        shortcut: "conv_shortcut",
    }
}
