//! `AutoencoderKLHunyuanVideo`.
//!
//! Its group norms and its attention look at all frames of a clip together, which diffusers bounds by
//! cutting a clip of more than 16 frames into overlapping tiles of 17. The tiles are part of the model:
//! each is encoded as a clip of its own.

use std::ops::Range;

use burn::tensor::Tensor;

use crate::{
    Error,
    config::HunyuanConfig,
    model::ClipFamily,
    nn::{
        Act, Before, CausalAttention, CausalConv, ClipBlock, ClipBlocks, ClipNorm, Conv2d,
        ConvShape, Edge, Loader, Norms, Ops, Past, pointwise,
    },
};

const EPS: f32 = 1e-6;

/// Frames of a tile, of which the last is the first of a latent frame that the next tile has too.
const TILE: usize = 17;

/// Frames from one tile to the next.
const STRIDE: usize = 12;

/// Latent frames of a tile that are not used, but for the first tile's. diffusers drops one and, where
/// it means to blend the next with the tile before, takes the other's.
const DROPPED: usize = 2;

/// Frames that the latent frames of [`DROPPED`] are made from: a tile of no more adds nothing.
const DROPPED_FRAMES: usize = 5;

/// The encoder and its `quant_conv`.
#[derive(Debug)]
pub(crate) struct Hunyuan<B: Ops> {
    conv_in: CausalConv<B>,
    stages: Vec<Stage<B>>,
    first: ClipBlock<B>,
    attention: Option<CausalAttention<B>>,
    second: ClipBlock<B>,
    norm_out: ClipNorm<B>,
    conv_out: CausalConv<B>,
    quant_conv: Conv2d<B>,
}

/// Blocks of one resolution, and what halves it in time, in space or in both.
#[derive(Debug)]
struct Stage<B: Ops> {
    blocks: Vec<ClipBlock<B>>,
    downsample: Option<CausalConv<B>>,
}

impl<B: Ops> Hunyuan<B> {
    pub(crate) fn load(load: &mut Loader<'_, B>, config: &HunyuanConfig) -> Result<Self, Error> {
        let channels = &config.block_out_channels;
        let (first, last) = (channels[0], channels[channels.len() - 1]);
        let moments = 2 * config.latent_channels;
        let mid = "encoder.mid_block";
        let block = |load: &mut Loader<'_, B>, index| {
            let name = format!("{mid}.resnets.{index}");
            ClipBlock::load(load, &name, [last; 2], blocks(config))
        };
        Ok(Self {
            conv_in: conv(load, "encoder.conv_in", [config.in_channels, first], [1; 2])?,
            stages: (0..channels.len())
                .map(|index| Stage::load(load, config, index))
                .collect::<Result<_, _>>()?,
            first: block(load, 0)?,
            attention: match config.mid_block_add_attention {
                true => Some(attention(load, &format!("{mid}.attentions.0"), config)?),
                false => None,
            },
            second: block(load, 1)?,
            norm_out: norms(config).load(load, "encoder.conv_norm_out", last)?,
            conv_out: conv(load, "encoder.conv_out", [last, moments], [1; 2])?,
            quant_conv: pointwise(load, "quant_conv", [moments; 2])?,
        })
    }

    /// A clip, or a tile of one.
    fn whole(&self, x: Tensor<B, 4>, past: &mut Past<B>) -> Tensor<B, 4> {
        let x = self.conv_in.forward(x, past);
        let x = (self.stages.iter()).fold(x, |x, stage| stage.forward(x, past));
        let x = self.first.forward(x, past);
        let x = match &self.attention {
            Some(attention) => attention.forward(x, past),
            None => x,
        };
        let x = self.second.forward(x, past);
        let x = self.norm_out.forward(x, past, Act::Silu);
        let x = self.conv_out.forward(x, past);
        self.quant_conv.forward(x)
    }
}

impl<B: Ops> ClipFamily<B> for Hunyuan<B> {
    fn chunks(&self, frames: usize, _: usize) -> Vec<Range<usize>> {
        tiles(frames)
    }

    fn encode(&self, x: Tensor<B, 4>, past: &mut Past<B>) -> Tensor<B, 4> {
        if past.is_still() {
            return self.whole(x, past);
        }
        let x = self.whole(x, &mut Past::nothing());
        match past.is_first() {
            true => x,
            false => {
                let rest = x.dims()[0] - DROPPED;
                x.narrow(0, DROPPED, rest)
            }
        }
    }
}

/// As diffusers' temporal tiling is by default, less those tiles of which nothing is used.
fn tiles(frames: usize) -> Vec<Range<usize>> {
    let later = (STRIDE..).step_by(STRIDE);
    let later = later.take_while(|start| start + DROPPED_FRAMES < frames);
    [0].into_iter()
        .chain(later)
        .map(|start| start..frames.min(start + TILE))
        .collect()
}

impl<B: Ops> Stage<B> {
    fn load(load: &mut Loader<'_, B>, config: &HunyuanConfig, index: usize) -> Result<Self, Error> {
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
        let downsample = config
            .stride(index)
            .map(|stride| {
                let name = format!("{name}.downsamplers.0.conv");
                conv(load, &name, [channels; 2], stride)
            })
            .transpose()?;
        Ok(Self { blocks, downsample })
    }

    fn forward(&self, x: Tensor<B, 4>, past: &mut Past<B>) -> Tensor<B, 4> {
        let x = (self.blocks.iter()).fold(x, |x, block| block.forward(x, past));
        match &self.downsample {
            Some(conv) => conv.forward(x, past),
            None => x,
        }
    }
}

/// 3x3x3 with the nearest pixel and the first frame around, of this stride in time and in space.
fn conv<B: Ops>(
    load: &mut Loader<'_, B>,
    name: &str,
    [inputs, outputs]: [usize; 2],
    [time, space]: [usize; 2],
) -> Result<CausalConv<B>, Error> {
    let shape = ConvShape {
        stride: space,
        ..ConvShape::same(inputs, outputs, 3).over(3).every(time)
    };
    let name = format!("{name}.conv");
    CausalConv::load(load, &name, shape, (Before::First, Edge::Replicate))
}

fn norms(config: &HunyuanConfig) -> Norms {
    Norms::Chunk {
        groups: config.norm_num_groups,
        eps: EPS,
    }
}

fn blocks(config: &HunyuanConfig) -> ClipBlocks {
    ClipBlocks {
        norms: norms(config),
        edge: Edge::Replicate,
        act: config.act_fn,
        shortcut: "conv_shortcut.conv",
    }
}

fn attention<B: Ops>(
    load: &mut Loader<'_, B>,
    name: &str,
    config: &HunyuanConfig,
) -> Result<CausalAttention<B>, Error> {
    let channels = config.block_out_channels[config.block_out_channels.len() - 1];
    Ok(CausalAttention {
        norm: norms(config).load(load, &format!("{name}.group_norm"), channels)?,
        to_q: load.linear(&format!("{name}.to_q"), channels)?,
        to_k: load.linear(&format!("{name}.to_k"), channels)?,
        to_v: load.linear(&format!("{name}.to_v"), channels)?,
        proj: load.linear(&format!("{name}.to_out.0"), channels)?,
    })
}

#[cfg(test)]
mod tests {
    use super::{DROPPED, TILE, tiles};

    #[test]
    fn tiles_are_those_of_which_something_is_used() {
        for (frames, starts, end) in [
            (1, vec![0], 1),
            (17, vec![0], 17),
            (21, vec![0, 12], 21),
            (29, vec![0, 12], 29),
            (33, vec![0, 12, 24], 33),
        ] {
            let tiles = tiles(frames);
            let found: Vec<_> = tiles.iter().map(|tile| tile.start).collect();
            assert_eq!(found, starts, "{frames} frames");
            assert_eq!(tiles[tiles.len() - 1].end, end);
        }
        for frames in (1..200).step_by(4) {
            let tiles = tiles(frames);
            assert!(tiles.iter().all(|tile| tile.len() <= TILE));
            let all: usize = tiles.iter().map(|tile| (tile.len() - 1) / 4 + 1).sum();
            let used = all - DROPPED * (tiles.len() - 1);
            assert_eq!(used, (frames - 1) / 4 + 1, "{frames} frames");
        }
    }
}
