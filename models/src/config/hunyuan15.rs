//! Parameters of `AutoencoderKLHunyuanVideo15`.

use serde::{Deserialize, Serialize};

use super::{MAX_STAGES, bounds, channels};
use crate::LatentNorm;

/// `AutoencoderKLHunyuanVideo15`.
#[derive(Debug, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct Hunyuan15Config {
    pub(crate) in_channels: usize,
    pub(crate) latent_channels: usize,
    pub(crate) block_out_channels: Vec<usize>,
    pub(crate) layers_per_block: usize,
    pub(crate) spatial_compression_ratio: usize,
    pub(crate) temporal_compression_ratio: usize,
    pub(crate) downsample_match_channel: bool,
    pub(crate) scaling_factor: f64,
}

/// What follows the blocks of a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Downsample {
    pub(crate) outputs: usize,
    /// Frames that become one.
    pub(crate) time: usize,
}

impl Hunyuan15Config {
    /// The down-sampler after stage `index`, if it has one.
    pub(crate) fn downsample(&self, index: usize) -> Option<Downsample> {
        let halvings = self.spatial_compression_ratio.ilog2() as usize;
        let in_time = self.temporal_compression_ratio.ilog2() as usize;
        let next = match self.downsample_match_channel {
            true => index + 1,
            false => index,
        };
        (index < halvings).then(|| Downsample {
            outputs: self.block_out_channels[next],
            time: if index + in_time >= halvings { 2 } else { 1 },
        })
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
        let (space, time) = (
            self.spatial_compression_ratio,
            self.temporal_compression_ratio,
        );
        if !space.is_power_of_two() || !time.is_power_of_two() || time > space {
            return Some(format!(
                "compression ratios {space} in space and {time} in time: use powers of two, the second \
                 no greater than the first"
            ));
        }
        // A down-sampler that matches the next stage's channels needs a next stage.
        let most = stages - usize::from(self.downsample_match_channel && stages > 0);
        if space.ilog2() as usize > most {
            return Some(format!(
                "spatial_compression_ratio {space}: {stages} stages make up to {}",
                1_usize << most.min(MAX_STAGES)
            ));
        }
        bounds(&self.block_out_channels, &[self.layers_per_block])
            .or_else(|| channels(&[self.in_channels, self.latent_channels]))
            .or_else(|| self.uneven())
    }

    /// Down-samplers move pixels to channels and average groups of channels, which must come out even.
    fn uneven(&self) -> Option<String> {
        let stages = &self.block_out_channels;
        let shortcut = |index: usize| {
            let Downsample { outputs, time } = self.downsample(index)?;
            let inputs = stages[index];
            let uneven = !outputs.is_multiple_of(4 * time) || !(4 * inputs).is_multiple_of(outputs);
            uneven.then(|| format!("no even shortcut from {inputs} to {outputs} channels"))
        };
        let (last, moments) = (stages[stages.len() - 1], 2 * self.latent_channels);
        (0..stages.len()).find_map(shortcut).or_else(|| {
            (!last.is_multiple_of(moments))
                .then(|| format!("no even shortcut from {last} to {moments} channels of moments"))
        })
    }
}

impl Default for Hunyuan15Config {
    fn default() -> Self {
        Self {
            in_channels: 3,
            latent_channels: 32,
            block_out_channels: vec![128, 256, 512, 1024, 1024],
            layers_per_block: 2,
            spatial_compression_ratio: 16,
            temporal_compression_ratio: 4,
            downsample_match_channel: true,
            scaling_factor: 1.03682,
        }
    }
}
