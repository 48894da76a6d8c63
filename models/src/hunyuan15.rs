//! `AutoencoderKLHunyuanVideo15`.
//!
//! Nothing in it looks ahead, and its norms are of single pixels: so a clip goes through it a few frames
//! at a time, exactly as it would in one piece. Its attention keeps the keys and values of all latent
//! frames.

use std::ops::Range;

use burn::tensor::Tensor;

use crate::{
    Error,
    config::{Downsample, Hunyuan15Config},
    model::{ClipFamily, in_steps},
    nn::{
        Act, Before, CausalAttention, CausalConv, ClipBlock, ClipBlocks, ClipNorm, ConvShape, Edge,
        Floor, Loader, Norms, Ops, Order, Past, group_mean, pointwise, space_to_depth,
        time_to_depth,
    },
};

/// With the least length that a pixel's channels are divided by.
const NORMS: Norms = Norms::Pixel(Floor::Length(1e-12));

/// The encoder.
#[derive(Debug)]
pub(crate) struct Hunyuan15<B: Ops> {
    /// Frames that become one latent frame.
    step: usize,
    moments: usize,
    conv_in: CausalConv<B>,
    stages: Vec<Stage<B>>,
    first: ClipBlock<B>,
    attention: CausalAttention<B>,
    second: ClipBlock<B>,
    norm_out: ClipNorm<B>,
    conv_out: CausalConv<B>,
}

/// Blocks of one resolution, and what folds it.
#[derive(Debug)]
struct Stage<B: Ops> {
    blocks: Vec<ClipBlock<B>>,
    fold: Option<Fold<B>>,
}

/// Two by two pixels, of two frames where `time` says so, become channels, after a convolution; and the
/// same without it, averaged, is added.
#[derive(Debug)]
struct Fold<B: Ops> {
    conv: CausalConv<B>,
    outputs: usize,
    time: usize,
}

impl<B: Ops> Hunyuan15<B> {
    pub(crate) fn load(load: &mut Loader<'_, B>, config: &Hunyuan15Config) -> Result<Self, Error> {
        let channels = &config.block_out_channels;
        let (first, last) = (channels[0], channels[channels.len() - 1]);
        let moments = 2 * config.latent_channels;
        let mid = "encoder.mid_block";
        let block = |load: &mut Loader<'_, B>, index| {
            let name = format!("{mid}.resnets.{index}");
            ClipBlock::load(load, &name, [last; 2], blocks())
        };
        Ok(Self {
            step: config.temporal_compression_ratio,
            moments,
            conv_in: conv(load, "encoder.conv_in", [config.in_channels, first])?,
            stages: stages(load, config)?,
            first: block(load, 0)?,
            attention: attention(load, &format!("{mid}.attentions.0"), last)?,
            second: block(load, 1)?,
            norm_out: NORMS.load(load, "encoder.norm_out", last)?,
            conv_out: conv(load, "encoder.conv_out", [last, moments])?,
        })
    }
}

impl<B: Ops> ClipFamily<B> for Hunyuan15<B> {
    fn chunks(&self, frames: usize, fit: usize) -> Vec<Range<usize>> {
        in_steps(frames, fit, self.step)
    }

    fn encode(&self, x: Tensor<B, 4>, past: &mut Past<B>) -> Tensor<B, 4> {
        let x = self.conv_in.forward(x, past);
        let x = (self.stages.iter()).fold(x, |x, stage| stage.forward(x, past));
        let x = self.first.forward(x, past);
        let x = self.attention.forward(x, past);
        let x = self.second.forward(x, past);
        let shortcut = group_mean(x.clone(), self.moments);
        let x = self.norm_out.forward(x, past, Act::Silu);
        self.conv_out.add(x, past, (shortcut, Act::None))
    }
}

fn stages<B: Ops>(
    load: &mut Loader<'_, B>,
    config: &Hunyuan15Config,
) -> Result<Vec<Stage<B>>, Error> {
    let mut inputs = config.block_out_channels[0];
    let mut stages = Vec::new();
    for (index, &channels) in config.block_out_channels.iter().enumerate() {
        let name = format!("encoder.down_blocks.{index}");
        let mut stage = Vec::new();
        for layer in 0..config.layers_per_block {
            let name = format!("{name}.resnets.{layer}");
            stage.push(ClipBlock::load(load, &name, [inputs, channels], blocks())?);
            inputs = channels;
        }
        let fold = match config.downsample(index) {
            Some(Downsample { outputs, time }) => {
                let name = format!("{name}.downsamplers.0.conv");
                inputs = outputs;
                Some(Fold {
                    conv: conv(load, &name, [channels, outputs / (4 * time)])?,
                    outputs,
                    time,
                })
            }
            None => None,
        };
        stages.push(Stage {
            blocks: stage,
            fold,
        });
    }
    Ok(stages)
}

impl<B: Ops> Stage<B> {
    fn forward(&self, x: Tensor<B, 4>, past: &mut Past<B>) -> Tensor<B, 4> {
        let x = (self.blocks.iter()).fold(x, |x, block| block.forward(x, past));
        match &self.fold {
            Some(fold) => fold.forward(x, past),
            None => x,
        }
    }
}

impl<B: Ops> Fold<B> {
    fn forward(&self, x: Tensor<B, 4>, past: &mut Past<B>) -> Tensor<B, 4> {
        let h = self.conv.forward(x.clone(), past);
        let [h, x] = [h, x].map(|x| space_to_depth(x, 2, Order::Yxc));
        if self.time == 1 {
            return h + group_mean(x, self.outputs);
        }
        let frames = h.dims()[0];
        // The first frame of a clip has no other to be folded with.
        let alone = match (past.is_still(), past.is_first()) {
            (true, _) => frames,
            (false, true) => 1,
            (false, false) => 0,
        };
        let mut parts = Vec::new();
        if alone > 0 {
            let first = |x: &Tensor<B, 4>| x.clone().narrow(0, 0, alone);
            let twice = first(&h).repeat_dim(3, self.time);
            parts.push(twice + group_mean(first(&x), self.outputs));
        }
        if frames > alone {
            let rest = |x: Tensor<B, 4>| {
                let x = x.narrow(0, alone, frames - alone);
                time_to_depth(x, self.time, false)
            };
            parts.push(rest(h) + group_mean(rest(x), self.outputs));
        }
        Tensor::cat(parts, 0)
    }
}

/// 3x3x3 with the nearest pixel and the first frame around.
fn conv<B: Ops>(
    load: &mut Loader<'_, B>,
    name: &str,
    [inputs, outputs]: [usize; 2],
) -> Result<CausalConv<B>, Error> {
    let shape = ConvShape::same(inputs, outputs, 3).over(3);
    let name = format!("{name}.conv");
    CausalConv::load(load, &name, shape, (Before::First, Edge::Replicate))
}

fn blocks() -> ClipBlocks {
    ClipBlocks {
        norms: NORMS,
        edge: Edge::Replicate,
        act: Act::Silu,
        shortcut: "conv_shortcut",
    }
}

fn attention<B: Ops>(
    load: &mut Loader<'_, B>,
    name: &str,
    channels: usize,
) -> Result<CausalAttention<B>, Error> {
    let mut conv = |conv| pointwise(load, &format!("{name}.{conv}"), [channels; 2]);
    let [to_q, to_k, to_v, proj] = [
        conv("to_q")?,
        conv("to_k")?,
        conv("to_v")?,
        conv("proj_out")?,
    ];
    Ok(CausalAttention {
        norm: NORMS.load(load, &format!("{name}.norm"), channels)?,
        to_q,
        to_k,
        to_v,
        proj,
    })
}
