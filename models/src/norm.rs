//! From the encoder's scale to the diffusion model's.

/// How a raw latent `z` becomes what the diffusion model sees, per channel where there are vectors.
#[derive(Clone, Debug, PartialEq)]
pub enum LatentNorm {
    /// `z`
    None,
    /// `(z - shift) * scale`
    ShiftScale {
        /// `shift_factor`; 0 where the config has none.
        shift: f32,
        /// `scaling_factor`.
        scale: f32,
    },
    /// `(z - mean) * scale / std`
    MeanStd {
        /// `latents_mean`, one per channel.
        mean: Vec<f32>,
        /// `latents_std`, one per channel.
        std: Vec<f32>,
        /// `scaling_factor`; 1 where the class has none.
        scale: f32,
    },
    /// Every `patch` by `patch` cells become one, their channels in the order channel, row, column;
    /// then `(z - mean) / std`. Delivered latents are packed so whether normalised or raw.
    Patch {
        /// Cells along each side.
        patch: usize,
        /// One per packed channel.
        mean: Vec<f32>,
        /// One per packed channel.
        std: Vec<f32>,
    },
}

impl LatentNorm {
    /// Cells along each side that are packed into one.
    pub fn patch(&self) -> usize {
        match self {
            Self::Patch { patch, .. } => *patch,
            _ => 1,
        }
    }

    /// Packs one element, `[channels, frames, height, width]`, to `[channels * patch * patch, frames,
    /// height / patch, width / patch]`.
    pub fn pack(
        &self,
        latent: Vec<f32>,
        [channels, frames, height, width]: [usize; 4],
    ) -> Vec<f32> {
        let patch = self.patch();
        if patch == 1 {
            return latent;
        }
        let mut packed = Vec::with_capacity(latent.len());
        for to in 0..channels * patch * patch {
            let (channel, row, column) = (to / (patch * patch), to / patch % patch, to % patch);
            for frame in 0..frames {
                for y in 0..height / patch {
                    let line = (channel * frames + frame) * height + y * patch + row;
                    let cells = latent[line * width..][..width].iter();
                    packed.extend(cells.skip(column).step_by(patch));
                }
            }
        }
        packed
    }

    /// Normalises one element, `[channels, cells]` as packed, in place.
    pub fn apply(&self, latent: &mut [f32], channels: usize) {
        let cells = latent.len() / channels.max(1);
        match self {
            Self::None => {}
            Self::ShiftScale { shift, scale } => {
                latent.iter_mut().for_each(|z| *z = (*z - shift) * scale);
            }
            Self::Patch { mean, std, .. } => normalise(latent, cells, mean, std, 1.0),
            Self::MeanStd { mean, std, scale } => normalise(latent, cells, mean, std, *scale),
        }
    }
}

/// `(z - mean) * scale / std` with the mean and std of each channel.
fn normalise(latent: &mut [f32], cells: usize, mean: &[f32], std: &[f32], scale: f32) {
    for (values, (mean, std)) in latent
        .chunks_exact_mut(cells.max(1))
        .zip(mean.iter().zip(std))
    {
        values
            .iter_mut()
            .for_each(|z| *z = (*z - mean) * scale / std);
    }
}
