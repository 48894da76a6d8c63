//! Parameters of `AutoencoderKLCogVideoX`.

use serde::{Deserialize, Serialize};

use super::{bounds, channels, groups_fit};
use crate::{LatentNorm, nn::Act};

/// `AutoencoderKLCogVideoX`. Its `force_upcast` is left out: none of diffusers' pipelines goes by it.
#[derive(Debug, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct CogVideoXConfig {
    pub(crate) in_channels: usize,
    pub(crate) out_channels: usize,
    pub(crate) down_block_types: Vec<DownBlock>,
    pub(crate) block_out_channels: Vec<usize>,
    pub(crate) latent_channels: usize,
    pub(crate) layers_per_block: usize,
    pub(crate) act_fn: Act,
    pub(crate) norm_eps: f32,
    pub(crate) norm_num_groups: usize,
    pub(crate) temporal_compression_ratio: f64,
    pub(crate) scaling_factor: f64,
    pub(crate) shift_factor: Option<f64>,
    pub(crate) latents_mean: Option<Vec<f32>>,
    pub(crate) latents_std: Option<Vec<f32>>,
    pub(crate) use_quant_conv: bool,
}

/// The only kind of stage that diffusers knows here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) enum DownBlock {
    #[serde(rename = "CogVideoXDownBlock3D")]
    Causal,
}

/// Frames that go through the network together, but for the first, which take the remainder as well.
/// Group norms see them together, so that the number is part of the model.
pub(crate) const CHUNK: usize = 8;

impl CogVideoXConfig {
    /// How often time is halved: after as many of the first stages.
    pub(crate) fn time_halvings(&self) -> usize {
        self.temporal_compression_ratio.log2() as usize
    }

    /// How a raw latent becomes what the diffusion model sees.
    pub(crate) fn latent_norm(&self) -> LatentNorm {
        let scale = self.scaling_factor as f32;
        match (&self.latents_mean, &self.latents_std) {
            (Some(mean), Some(std)) => LatentNorm::MeanStd {
                mean: mean.clone(),
                std: std.clone(),
                scale,
            },
            _ => LatentNorm::ShiftScale {
                shift: self.shift_factor.unwrap_or(0.0) as f32,
                scale,
            },
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
        let halvings = (0..stages).map(|n| (1_usize << n.min(super::MAX_STAGES)) as f64);
        if time > CHUNK as f64 || !halvings.into_iter().any(|ratio| ratio == time) {
            return Some(format!(
                "temporal_compression_ratio {time}: use a power of two up to {CHUNK} for which {stages} \
                 stages are enough"
            ));
        }
        if self.use_quant_conv && self.out_channels != self.latent_channels {
            // diffusers cannot run such a model either.
            return Some(format!(
                "use_quant_conv makes a layer of {} channels for {} of moments",
                2 * self.out_channels,
                2 * self.latent_channels
            ));
        }
        let wrong =
            |v: &Option<Vec<f32>>| v.as_ref().is_some_and(|v| v.len() != self.latent_channels);
        if wrong(&self.latents_mean) || wrong(&self.latents_std) {
            return Some(format!(
                "latents_mean and latents_std need {} values each",
                self.latent_channels
            ));
        }
        bounds(&self.block_out_channels, &[self.layers_per_block])
            .or_else(|| channels(&[self.in_channels, self.latent_channels]))
            .or_else(|| groups_fit(&self.block_out_channels, self.norm_num_groups))
    }
}

impl Default for CogVideoXConfig {
    fn default() -> Self {
        Self {
            in_channels: 3,
            out_channels: 3,
            down_block_types: vec![DownBlock::Causal; 4],
            block_out_channels: vec![128, 256, 256, 512],
            latent_channels: 16,
            layers_per_block: 3,
            act_fn: Act::Silu,
            norm_eps: 1e-6,
            norm_num_groups: 32,
            temporal_compression_ratio: 4.0,
            scaling_factor: 1.15258426,
            shift_factor: None,
            latents_mean: None,
            latents_std: None,
            use_quant_conv: false,
        }
    }
}
