//! `AutoencoderKLCogVideoX`.
//!
//! A clip goes through it eight frames at a time. Its group norms look at those eight together, so that
//! this is part of the model; its convolutions remember the frames before.

use std::{iter, ops::Range};

use burn::tensor::Tensor;

use crate::{
    Error,
    config::{CHUNK, CogVideoXConfig},
    model::ClipFamily,
    nn::{
        Act, Before, CausalConv, ClipBlock, ClipBlocks, ClipNorm, Conv2d, ConvShape, Edge, Loader,
        Norms, Ops, Past, pointwise,
    },
};

/// Of the last norm; the others' is in the config.
const EPS: f32 = 1e-6;

/// Blocks in the middle.
const MIDDLE: usize = 2;

/// The encoder and its `quant_conv`.
#[derive(Debug)]
pub(crate) struct CogVideoX<B: Ops> {
    conv_in: CausalConv<B>,
    stages: Vec<Stage<B>>,
    middle: Vec<ClipBlock<B>>,
    norm_out: ClipNorm<B>,
    conv_out: CausalConv<B>,
    quant_conv: Option<Conv2d<B>>,
}

/// Blocks of one resolution, and what halves it.
#[derive(Debug)]
struct Stage<B: Ops> {
    blocks: Vec<ClipBlock<B>>,
    downsample: Option<Halve<B>>,
}

/// Frames averaged in pairs, where `time` says so, then a strided convolution of each.
#[derive(Debug)]
struct Halve<B: Ops> {
    time: bool,
    conv: Conv2d<B>,
}

impl<B: Ops> CogVideoX<B> {
    pub(crate) fn load(load: &mut Loader<'_, B>, config: &CogVideoXConfig) -> Result<Self, Error> {
        let channels = &config.block_out_channels;
        let (first, last) = (channels[0], channels[channels.len() - 1]);
        let moments = 2 * config.latent_channels;
        let middle = |load: &mut Loader<'_, B>, index| {
            let name = format!("encoder.mid_block.resnets.{index}");
            ClipBlock::load(load, &name, [last; 2], blocks(config))
        };
        Ok(Self {
            conv_in: conv(load, "encoder.conv_in", [config.in_channels, first])?,
            stages: (0..channels.len())
                .map(|index| Stage::load(load, config, index))
                .collect::<Result<_, _>>()?,
            middle: (0..MIDDLE)
                .map(|index| middle(load, index))
                .collect::<Result<_, _>>()?,
            norm_out: norms(config, EPS).load(load, "encoder.norm_out", last)?,
            conv_out: conv(load, "encoder.conv_out", [last, moments])?,
            quant_conv: match config.use_quant_conv {
                true => Some(pointwise(load, "quant_conv", [moments; 2])?),
                false => None,
            },
        })
    }
}

impl<B: Ops> ClipFamily<B> for CogVideoX<B> {
    fn chunks(&self, frames: usize, _: usize) -> Vec<Range<usize>> {
        chunks(frames)
    }

    fn encode(&self, x: Tensor<B, 4>, past: &mut Past<B>) -> Tensor<B, 4> {
        let x = self.conv_in.forward(x, past);
        let x = (self.stages.iter()).fold(x, |x, stage| stage.forward(x, past));
        let x = (self.middle.iter()).fold(x, |x, block| block.forward(x, past));
        let x = self.norm_out.forward(x, past, Act::Silu);
        let x = self.conv_out.forward(x, past);
        match &self.quant_conv {
            Some(conv) => conv.forward(x),
            None => x,
        }
    }
}

/// Of [`CHUNK`] frames each, but for the first, which has the remainder as well.
fn chunks(frames: usize) -> Vec<Range<usize>> {
    let first = match frames < CHUNK {
        true => frames,
        false => CHUNK + frames % CHUNK,
    };
    let later = (first..frames).step_by(CHUNK);
    let later = later.map(|start| start..start + CHUNK);
    iter::once(0..first).chain(later).collect()
}

impl<B: Ops> Stage<B> {
    fn load(
        load: &mut Loader<'_, B>,
        config: &CogVideoXConfig,
        index: usize,
    ) -> Result<Self, Error> {
        let channels = config.block_out_channels[index];
        let before = config.block_out_channels[index.saturating_sub(1)];
        let name = format!("encoder.down_blocks.{index}");
        let block = |layer| {
            let inputs = if layer == 0 { before } else { channels };
            let name = format!("{name}.resnets.{layer}");
            ClipBlock::load(load, &name, [inputs, channels], blocks(config))
        };
        let blocks = (0..config.layers_per_block)
            .map(block)
            .collect::<Result<_, Error>>()?;
        let downsample = (index + 1 < config.block_out_channels.len())
            .then(|| {
                let name = format!("{name}.downsamplers.0.conv");
                Ok::<_, Error>(Halve {
                    time: index < config.time_halvings(),
                    conv: load.conv(&name, ConvShape::halve_asymmetric(channels))?,
                })
            })
            .transpose()?;
        Ok(Self { blocks, downsample })
    }

    fn forward(&self, x: Tensor<B, 4>, past: &mut Past<B>) -> Tensor<B, 4> {
        let x = (self.blocks.iter()).fold(x, |x, block| block.forward(x, past));
        match &self.downsample {
            Some(halve) if halve.time && !past.is_still() => halve.conv.forward(pairs(x)),
            Some(halve) => halve.conv.forward(x),
            None => x,
        }
    }
}

/// Means of frames two by two; of an odd number the first is left alone.
fn pairs<B: Ops>(x: Tensor<B, 4>) -> Tensor<B, 4> {
    let [n, h, w, c] = x.dims();
    let alone = n % 2;
    let first = (alone > 0).then(|| x.clone().narrow(0, 0, alone));
    let rest = (n > alone).then(|| {
        let pairs = (n - alone) / 2;
        let x = x.narrow(0, alone, n - alone);
        let x = x.reshape([pairs, 2, h * w, c]).mean_dim(1);
        x.reshape([pairs, h, w, c])
    });
    Tensor::cat(first.into_iter().chain(rest).collect(), 0)
}

/// 3x3x3 with zeros around and the first frame before.
fn conv<B: Ops>(
    load: &mut Loader<'_, B>,
    name: &str,
    [inputs, outputs]: [usize; 2],
) -> Result<CausalConv<B>, Error> {
    let shape = ConvShape::same(inputs, outputs, 3).over(3);
    let name = format!("{name}.conv");
    CausalConv::load(load, &name, shape, (Before::First, Edge::Zeros))
}

fn norms(config: &CogVideoXConfig, eps: f32) -> Norms {
    Norms::Chunk {
        groups: config.norm_num_groups,
        eps,
    }
}

fn blocks(config: &CogVideoXConfig) -> ClipBlocks {
    ClipBlocks {
        norms: norms(config, config.norm_eps),
        edge: Edge::Zeros,
        act: config.act_fn,
        shortcut: "conv_shortcut",
    }
}

#[cfg(test)]
mod tests {
    use super::chunks;

    #[test]
    fn the_first_chunk_has_the_remainder() {
        for (frames, lengths) in [
            (1, vec![1]),
            (7, vec![7]),
            (8, vec![8]),
            (15, vec![15]),
            (16, vec![8, 8]),
            (29, vec![13, 8, 8]),
        ] {
            let chunks = chunks(frames);
            let found: Vec<_> = chunks.iter().map(|chunk| chunk.len()).collect();
            assert_eq!(found, lengths, "{frames} frames");
            assert!(chunks.windows(2).all(|pair| pair[0].end == pair[1].start));
        }
    }
}
