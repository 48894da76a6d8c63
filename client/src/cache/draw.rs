//! From moments to what is delivered, as a replica would have done it: the same operations in the
//! same order, all in f32, rounded once at the end.
//!
//! So equal to the bit where the loader's and the replica's `exp`, `ln` and `sin` are; those of other
//! platforms may differ in the last bit of an f32, before rounding.

use bytes::Bytes;
use half::{bf16, f16};
use preheat_proto::{DType, Posterior, Scale, v1};

use super::noise;
use crate::model::Ask;

/// The smallest magnitude that rounds to infinity in f16.
const F16_OVERFLOW: f32 = 65_520.0;

/// How latents are made of moments in this run.
#[derive(Clone, Debug)]
pub(crate) struct Draw {
    ask: Ask,
    norm: v1::Normalization,
}

impl Draw {
    /// # Errors
    /// In words, if the replica does not say how this model's latents are normalised.
    pub(crate) fn new(served: &v1::Model, ask: Ask) -> Result<Self, String> {
        let Some(norm) = served.normalization.clone() else {
            return Err(
                "the replica does not say how its latents are normalised, as older releases \
                        and weights of before a reload do not: set `cache.what` to Latents"
                    .into(),
            );
        };
        let channels = served.latent_channels as usize;
        let patch = norm.patch as usize;
        let fits = [&norm.mean, &norm.std]
            .into_iter()
            .all(|values| values.len() == 1 || values.len() == channels);
        if !fits || patch == 0 || !channels.is_multiple_of(patch.saturating_mul(patch).max(1)) {
            return Err(format!(
                "the replica describes the normalisation of {channels} channels wrongly: {norm:?}"
            ));
        }
        Ok(Self { ask, norm })
    }

    /// The latent of these moments, which are f32 of `[2 * channels, height, width]`: means, then
    /// log-variances.
    ///
    /// # Errors
    /// In words, if a value does not fit the dtype: the sample is bad, as it is where replicas draw.
    pub(crate) fn latent(
        &self,
        moments: &[u8],
        [height, width]: [usize; 2],
        seed: u64,
    ) -> Result<Bytes, String> {
        let mut values: Vec<f32> = moments
            .as_chunks()
            .0
            .iter()
            .map(|&bytes| f32::from_le_bytes(bytes))
            .collect();
        if self.ask.posterior != Posterior::Moments {
            let half = values.len() / 2;
            if self.ask.posterior == Posterior::Sample {
                let noise = self.noise(seed, half, [height, width]);
                let (means, logvars) = values.split_at_mut(half);
                for ((mean, logvar), noise) in means.iter_mut().zip(logvars).zip(noise) {
                    *mean += (0.5 * *logvar).exp() * noise;
                }
            }
            values.truncate(half);
            if self.ask.scale == Scale::Normalized {
                self.normalise(&mut values, height * width);
            }
        }
        self.bytes(&values)
    }

    /// Noise is drawn in the order of the encoder's own latent, before cells are packed.
    fn noise(&self, seed: u64, len: usize, [height, width]: [usize; 2]) -> Vec<f32> {
        let mut noise = vec![0.0; len];
        noise::fill(seed, &mut noise);
        let patch = self.norm.patch as usize;
        if patch == 1 {
            return noise;
        }
        let mut packed = Vec::with_capacity(len);
        let (tall, wide) = (height * patch, width * patch);
        for to in 0..len / (height * width).max(1) {
            let (channel, row, column) = (to / (patch * patch), to / patch % patch, to % patch);
            for y in 0..height {
                let line = (channel * tall + y * patch + row) * wide;
                let cells = noise[line..][..wide].iter();
                packed.extend(cells.skip(column).step_by(patch));
            }
        }
        packed
    }

    fn normalise(&self, values: &mut [f32], cells: usize) {
        let (mean, std) = (&self.norm.mean, &self.norm.std);
        let (means, stds) = (mean.iter().cycle(), std.iter().cycle());
        for ((values, mean), std) in values.chunks_mut(cells.max(1)).zip(means).zip(stds) {
            for value in values {
                *value = (*value - mean) * self.norm.scale / std;
            }
        }
    }

    fn bytes(&self, values: &[f32]) -> Result<Bytes, String> {
        let dtype = self.ask.dtype;
        let fits =
            |value: f32| value.is_finite() && (dtype != DType::F16 || value.abs() < F16_OVERFLOW);
        if let Some(value) = values.iter().find(|&&value| !fits(value)) {
            return Err(format!(
                "the latent holds {value}, which does not fit {dtype}: ask for bf16 or f32"
            ));
        }
        let mut bytes = Vec::with_capacity(values.len() * dtype.size());
        match dtype {
            DType::F32 => bytes.extend(values.iter().flat_map(|v| v.to_le_bytes())),
            DType::F16 => bytes.extend(values.iter().flat_map(|&v| f16::from_f32(v).to_le_bytes())),
            DType::BF16 => {
                bytes.extend(values.iter().flat_map(|&v| bf16::from_f32(v).to_le_bytes()));
            }
        }
        Ok(bytes.into())
    }
}

#[cfg(test)]
mod tests;
