//! Parameters of `AutoencoderTiny`.

use serde::{Deserialize, Serialize};

use super::{bounds, channels};
use crate::{LatentNorm, nn::Act};

/// `AutoencoderTiny`.
#[derive(Debug, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct TinyConfig {
    pub(crate) in_channels: usize,
    pub(crate) encoder_block_out_channels: Vec<usize>,
    pub(crate) num_encoder_blocks: Vec<usize>,
    pub(crate) act_fn: Act,
    pub(crate) latent_channels: usize,
    pub(crate) scaling_factor: f64,
    pub(crate) shift_factor: Option<f64>,
}

impl TinyConfig {
    /// How a raw latent becomes what the diffusion model sees.
    pub(crate) fn latent_norm(&self) -> LatentNorm {
        LatentNorm::ShiftScale {
            shift: self.shift_factor.unwrap_or(0.0) as f32,
            scale: self.scaling_factor as f32,
        }
    }

    pub(super) fn fault(&self) -> Option<String> {
        let stages = &self.encoder_block_out_channels;
        if stages.len() != self.num_encoder_blocks.len() {
            return Some(format!(
                "{} encoder_block_out_channels but {} num_encoder_blocks",
                stages.len(),
                self.num_encoder_blocks.len()
            ));
        }
        if stages.iter().any(|&c| c != stages[0]) {
            return Some(format!(
                "encoder_block_out_channels {stages:?} differ; this class needs them equal"
            ));
        }
        bounds(stages, &self.num_encoder_blocks)
            .or_else(|| channels(&[self.in_channels, self.latent_channels]))
    }
}

impl Default for TinyConfig {
    fn default() -> Self {
        Self {
            in_channels: 3,
            encoder_block_out_channels: vec![64; 4],
            num_encoder_blocks: vec![1, 3, 3, 3],
            act_fn: Act::Relu,
            latent_channels: 4,
            scaling_factor: 1.0,
            shift_factor: None,
        }
    }
}
