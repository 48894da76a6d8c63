//! Parameters of `AutoencoderKLHunyuanVideo`.

use serde::{Deserialize, Serialize};

use super::{bounds, channels, groups_fit};
use crate::{LatentNorm, nn::Act};

/// `AutoencoderKLHunyuanVideo`.
#[derive(Debug, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct HunyuanConfig {
    pub(crate) in_channels: usize,
    pub(crate) latent_channels: usize,
    pub(crate) down_block_types: Vec<DownBlock>,
    pub(crate) block_out_channels: Vec<usize>,
    pub(crate) layers_per_block: usize,
    pub(crate) act_fn: Act,
    pub(crate) norm_num_groups: usize,
    pub(crate) scaling_factor: f64,
    pub(crate) spatial_compression_ratio: usize,
    pub(crate) temporal_compression_ratio: usize,
    pub(crate) mid_block_add_attention: bool,
}

/// The only kind of stage that diffusers knows here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) enum DownBlock {
    #[serde(rename = "HunyuanVideoDownBlock3D")]
    Causal,
}

/// Frames per latent frame: diffusers builds no other decoder.
const TEMPORAL: usize = 4;

impl HunyuanConfig {
    /// Strides in time and space of the down-sampler after stage `index`, if it has one.
    pub(crate) fn stride(&self, index: usize) -> Option<[usize; 2]> {
        let last = self.block_out_channels.len() - 1;
        let halvings = TEMPORAL.ilog2() as usize;
        let time = index + halvings >= last && index < last;
        let space = index < self.spatial_compression_ratio.ilog2() as usize;
        let stride = |halves| if halves { 2 } else { 1 };
        (time || space).then(|| [stride(time), stride(space)])
    }

    /// How a raw latent becomes what the diffusion model sees.
    pub(crate) fn latent_norm(&self) -> LatentNorm {
        LatentNorm::ShiftScale {
            shift: 0.0,
            scale: self.scaling_factor as f32,
        }
    }

    pub(super) fn fault(&self) -> Option<String> {
        let stages = self.block_out_channels.len();
        if self.down_block_types.len() != stages {
            return Some(format!(
                "{} down_block_types but {stages} block_out_channels",
                self.down_block_types.len()
            ));
        }
        let time = self.temporal_compression_ratio;
        if time != TEMPORAL || stages < 3 {
            return Some(format!(
                "temporal_compression_ratio {time} in {stages} stages: diffusers has {TEMPORAL}, in 3 \
                 stages at least"
            ));
        }
        let space = self.spatial_compression_ratio;
        if !space.is_power_of_two() || space.ilog2() as usize > stages {
            return Some(format!(
                "spatial_compression_ratio {space}: {stages} stages make a power of two up to {}",
                1_usize << stages.min(super::MAX_STAGES)
            ));
        }
        bounds(&self.block_out_channels, &[self.layers_per_block])
            .or_else(|| channels(&[self.in_channels, self.latent_channels]))
            .or_else(|| groups_fit(&self.block_out_channels, self.norm_num_groups))
    }
}

impl Default for HunyuanConfig {
    fn default() -> Self {
        Self {
            in_channels: 3,
            latent_channels: 16,
            down_block_types: vec![DownBlock::Causal; 4],
            block_out_channels: vec![128, 256, 512, 512],
            layers_per_block: 2,
            act_fn: Act::Silu,
            norm_num_groups: 32,
            scaling_factor: 0.476986,
            spatial_compression_ratio: 8,
            temporal_compression_ratio: TEMPORAL,
            mid_block_add_attention: true,
        }
    }
}
