//! Parameters of `AutoencoderKLMochi`.

use serde::{Deserialize, Serialize};

use super::{bounds, channels, groups_fit};
use crate::{LatentNorm, nn::Act};

/// `AutoencoderKLMochi`.
#[derive(Debug, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct MochiConfig {
    pub(crate) in_channels: usize,
    pub(crate) encoder_block_out_channels: Vec<usize>,
    pub(crate) latent_channels: usize,
    /// Of the first block, of every down-sampling one, and of the last.
    pub(crate) layers_per_block: Vec<usize>,
    /// After the last norm alone: diffusers' blocks use SiLU whatever it says.
    pub(crate) act_fn: Act,
    pub(crate) temporal_expansions: Vec<usize>,
    pub(crate) spatial_expansions: Vec<usize>,
    pub(crate) add_attention_block: Vec<bool>,
    pub(crate) latents_mean: Vec<f32>,
    pub(crate) latents_std: Vec<f32>,
    pub(crate) scaling_factor: f64,
}

/// Groups of every norm, and channels of a head.
pub(crate) const GROUPS: usize = 32;

/// A colour, and its sine and cosine at two frequencies.
pub(crate) const FEATURES: usize = 1 + 2 * 2;

/// Past this a down-sampler is taken for damage; published models have 1 to 3.
const MAX_EXPANSION: usize = 8;

impl MochiConfig {
    /// Down-samplers.
    pub(crate) fn stages(&self) -> usize {
        self.encoder_block_out_channels.len() - 1
    }

    /// Frames per latent frame, and pixels per cell along each side.
    pub(crate) fn compression(&self) -> [usize; 2] {
        let product = |expansions: &[usize]| expansions[..self.stages()].iter().product();
        [
            product(&self.temporal_expansions),
            product(&self.spatial_expansions),
        ]
    }

    /// How a raw latent becomes what the diffusion model sees.
    pub(crate) fn latent_norm(&self) -> LatentNorm {
        LatentNorm::MeanStd {
            mean: self.latents_mean.clone(),
            std: self.latents_std.clone(),
            scale: self.scaling_factor as f32,
        }
    }

    pub(super) fn fault(&self) -> Option<String> {
        let counts = &self.encoder_block_out_channels;
        if let Some(reason) = bounds(counts, &self.layers_per_block) {
            return Some(reason);
        }
        let stages = self.stages();
        let lengths = [
            ("layers_per_block", self.layers_per_block.len(), stages + 1),
            (
                "add_attention_block",
                self.add_attention_block.len(),
                stages + 1,
            ),
            (
                "temporal_expansions",
                self.temporal_expansions.len(),
                stages,
            ),
            ("spatial_expansions", self.spatial_expansions.len(), stages),
        ];
        if let Some((name, length, least)) = lengths.iter().find(|(_, n, least)| n < least) {
            return Some(format!(
                "{length} values in {name}, but {least} are needed for {} channels",
                counts.len()
            ));
        }
        let mut expansions = self
            .temporal_expansions
            .iter()
            .chain(&self.spatial_expansions);
        if let Some(n) = expansions.find(|&&n| n == 0 || n > MAX_EXPANSION) {
            return Some(format!("an expansion of {n}: use 1 to {MAX_EXPANSION}"));
        }
        if self.in_channels != 3 * FEATURES {
            return Some(format!(
                "in_channels {}, but 3 colours have {} features",
                self.in_channels,
                3 * FEATURES
            ));
        }
        let wrong = |v: &Vec<f32>| v.len() != self.latent_channels;
        if wrong(&self.latents_mean) || wrong(&self.latents_std) {
            return Some(format!(
                "latents_mean and latents_std need {} values each",
                self.latent_channels
            ));
        }
        channels(&[self.latent_channels]).or_else(|| groups_fit(counts, GROUPS))
    }
}

impl Default for MochiConfig {
    fn default() -> Self {
        Self {
            in_channels: 3 * FEATURES,
            encoder_block_out_channels: vec![64, 128, 256, 384],
            latent_channels: 12,
            layers_per_block: vec![3, 3, 4, 6, 3],
            act_fn: Act::Silu,
            temporal_expansions: vec![1, 2, 3],
            spatial_expansions: vec![2; 3],
            add_attention_block: vec![false, true, true, true, true],
            latents_mean: vec![
                -0.067_308_96,
                -0.038_011_38,
                -0.074_778_21,
                -0.055_652_645,
                0.012_767_231,
                -0.047_035_427,
                0.043_896_97,
                -0.093_463_06,
                -0.099_183_15,
                -0.008_729_793,
                -0.011_931_556,
                -0.032_199_34,
            ],
            latents_std: vec![
                0.926_379_5,
                0.924_889_45,
                0.939_305_94,
                0.959_253_7,
                0.824_456,
                0.917_26,
                0.929_415_44,
                1.372_094_2,
                0.881_393_7,
                0.916_831_57,
                0.918_524_9,
                0.927_475_76,
            ],
            scaling_factor: 1.0,
        }
    }
}
