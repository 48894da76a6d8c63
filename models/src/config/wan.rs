//! Parameters of `AutoencoderKLWan` and `AutoencoderKLQwenImage`, which share their encoder.

use serde::{Deserialize, Serialize};

use super::{bounds, channels};
use crate::LatentNorm;

/// `AutoencoderKLWan` and `AutoencoderKLQwenImage`.
#[derive(Debug, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct WanConfig {
    /// Qwen spells it the second way.
    #[serde(alias = "input_channels")]
    pub(crate) in_channels: usize,
    pub(crate) base_dim: usize,
    pub(crate) z_dim: usize,
    pub(crate) dim_mult: Vec<usize>,
    pub(crate) num_res_blocks: usize,
    pub(crate) attn_scales: Vec<f64>,
    /// Sic.
    pub(crate) temperal_downsample: Vec<bool>,
    pub(crate) is_residual: bool,
    pub(crate) patch_size: Option<usize>,
    pub(crate) latents_mean: Vec<f32>,
    pub(crate) latents_std: Vec<f32>,
    /// Wan only. Nothing but tiling goes by it.
    pub(crate) scale_factor_spatial: Option<usize>,
}

impl WanConfig {
    /// Of `builtin:wan`: as deep as Wan 2.1 but for its second blocks, and so narrow that a clip takes a
    /// fraction of a second on a CPU. What is not trained has no statistics.
    pub(crate) fn small() -> Self {
        let z_dim = 16;
        Self {
            base_dim: 8,
            z_dim,
            num_res_blocks: 1,
            latents_mean: vec![0.0; z_dim],
            latents_std: vec![1.0; z_dim],
            ..Self::default()
        }
    }

    /// Channels after the first convolution and after every level.
    pub(crate) fn dims(&self) -> Vec<usize> {
        let factors = [1].into_iter().chain(self.dim_mult.iter().copied());
        factors.map(|factor| factor * self.base_dim).collect()
    }

    /// Pixels along each side that become channels before the first convolution.
    pub(crate) fn patch(&self) -> usize {
        self.patch_size.unwrap_or(1)
    }

    /// Pixels per cell as diffusers counts them for tiling.
    pub(crate) fn nominal_cell(&self) -> usize {
        let counted = 1 << self.temperal_downsample.len();
        self.scale_factor_spatial
            .unwrap_or(counted)
            .max(self.patch())
    }

    /// Whether the down-sampler after level `index` halves time as well.
    pub(crate) fn halves_time(&self, index: usize) -> bool {
        self.temperal_downsample[index]
    }

    /// Frames per latent frame.
    pub(crate) fn temporal(&self) -> usize {
        let halvings = (0..self.dim_mult.len() - 1).filter(|&level| self.halves_time(level));
        1 << halvings.count()
    }

    /// How a raw latent becomes what the diffusion model sees.
    pub(crate) fn latent_norm(&self) -> LatentNorm {
        LatentNorm::MeanStd {
            mean: self.latents_mean.clone(),
            std: self.latents_std.clone(),
            scale: 1.0,
        }
    }

    pub(super) fn fault(&self) -> Option<String> {
        let levels = self.dim_mult.len();
        if self.temperal_downsample.len() + 1 < levels {
            return Some(format!(
                "{levels} levels in dim_mult need {} values in temperal_downsample",
                levels - 1
            ));
        }
        if [&self.latents_mean, &self.latents_std]
            .iter()
            .any(|v| v.len() != self.z_dim)
        {
            return Some(format!(
                "latents_mean and latents_std need {} values each, as z_dim says",
                self.z_dim
            ));
        }
        if !self.attn_scales.is_empty() {
            // diffusers cannot run such a model either.
            return Some("attn_scales are not served: no published model has them".to_owned());
        }
        let patch = self.patch();
        if patch == 0 || patch > 16 || self.in_channels != 3 * patch * patch {
            return Some(format!(
                "in_channels {} are not 3 colours of {patch}x{patch} pixels",
                self.in_channels
            ));
        }
        channels(&[self.base_dim, self.z_dim])
            .or_else(|| channels(&self.dim_mult))
            .or_else(|| bounds(&self.dims(), &[self.num_res_blocks]))
            .or_else(|| self.is_residual.then(|| self.uneven_shortcut()).flatten())
    }

    /// A shortcut averages groups of channels, which must come out even.
    fn uneven_shortcut(&self) -> Option<String> {
        let dims = self.dims();
        let uneven = |&index: &usize| {
            let last = index + 2 == dims.len();
            let time = if !last && self.halves_time(index) {
                2
            } else {
                1
            };
            let factor = if last { 1 } else { 4 * time };
            !(dims[index] * factor).is_multiple_of(dims[index + 1])
        };
        let index = (0..dims.len() - 1).find(uneven)?;
        Some(format!(
            "level {index} has no even shortcut: dim_mult {:?}",
            self.dim_mult
        ))
    }
}

impl Default for WanConfig {
    fn default() -> Self {
        Self {
            in_channels: 3,
            base_dim: 96,
            z_dim: 16,
            dim_mult: vec![1, 2, 4, 4],
            num_res_blocks: 2,
            attn_scales: Vec::new(),
            temperal_downsample: vec![false, true, true],
            is_residual: false,
            patch_size: None,
            scale_factor_spatial: None,
            latents_mean: vec![
                -0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508, 0.4134,
                -0.0715, 0.5517, -0.3632, -0.1922, -0.9497, 0.2503, -0.2921,
            ],
            latents_std: vec![
                2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743, 3.2687, 2.1526,
                2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.9160,
            ],
        }
    }
}
