//! Parameters of `AutoencoderKL` and `AutoencoderKLFlux2`, which share their encoder.

use serde::{Deserialize, Serialize};
use serde_json::{Error, Value};

use super::{bounds, channels, groups_fit};
use crate::{LatentNorm, nn::Act};

/// `AutoencoderKL`.
#[derive(Debug, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct KlConfig {
    pub(crate) in_channels: usize,
    pub(crate) down_block_types: Vec<DownBlock>,
    pub(crate) block_out_channels: Vec<usize>,
    pub(crate) layers_per_block: usize,
    pub(crate) act_fn: Act,
    pub(crate) latent_channels: usize,
    pub(crate) norm_num_groups: usize,
    pub(crate) use_quant_conv: bool,
    pub(crate) mid_block_add_attention: bool,
    pub(crate) scaling_factor: f64,
    pub(crate) shift_factor: Option<f64>,
    pub(crate) latents_mean: Option<Vec<f32>>,
    pub(crate) latents_std: Option<Vec<f32>>,
    /// Of the pictures it was trained on, which is what a tile is.
    pub(crate) sample_size: SampleSize,
    /// Bears on the choice of a dtype alone, and not on what comes out in a given one.
    #[serde(skip_serializing)]
    pub(crate) force_upcast: bool,
}

/// One side, or both.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(untagged)]
pub(crate) enum SampleSize {
    One(usize),
    Both([usize; 2]),
}

impl SampleSize {
    /// The side that diffusers goes by.
    pub(crate) const fn side(self) -> usize {
        match self {
            Self::One(side) | Self::Both([side, _]) => side,
        }
    }
}

/// What a stage of `AutoencoderKL` is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) enum DownBlock {
    /// Residual blocks, then the down-sampler.
    #[serde(rename = "DownEncoderBlock2D")]
    Plain,
    /// The same with an attention after every residual block.
    #[serde(rename = "AttnDownEncoderBlock2D")]
    Attention,
}

impl KlConfig {
    /// What an `AutoencoderKLTemporalDecoder` file holds: its encoder is this one, with the defaults of
    /// whatever is not a parameter of that class.
    pub(super) fn temporal_decoder(file: &Value) -> Result<Self, Error> {
        let config = Self::deserialize(file)?;
        let Self {
            act_fn,
            norm_num_groups,
            use_quant_conv,
            mid_block_add_attention,
            shift_factor,
            latents_mean,
            latents_std,
            ..
        } = Self::default();
        Ok(Self {
            act_fn,
            norm_num_groups,
            use_quant_conv,
            mid_block_add_attention,
            shift_factor,
            latents_mean,
            latents_std,
            ..config
        })
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
        let blocks = self.block_out_channels.len();
        if self.down_block_types.len() != blocks {
            return Some(format!(
                "{} down_block_types but {blocks} block_out_channels",
                self.down_block_types.len()
            ));
        }
        if let Some(reason) = groups_fit(&self.block_out_channels, self.norm_num_groups) {
            return Some(reason);
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
    }
}

impl Default for KlConfig {
    fn default() -> Self {
        Self {
            in_channels: 3,
            down_block_types: vec![DownBlock::Plain],
            block_out_channels: vec![64],
            layers_per_block: 1,
            act_fn: Act::Silu,
            latent_channels: 4,
            norm_num_groups: 32,
            use_quant_conv: true,
            mid_block_add_attention: true,
            scaling_factor: 0.18215,
            shift_factor: None,
            latents_mean: None,
            latents_std: None,
            sample_size: SampleSize::One(32),
            force_upcast: true,
        }
    }
}
