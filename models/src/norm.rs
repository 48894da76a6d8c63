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
}

impl LatentNorm {
    /// Normalises one element, `[channels, cells]`, in place.
    pub fn apply(&self, latent: &mut [f32], channels: usize) {
        let cells = latent.len() / channels.max(1);
        match self {
            Self::None => {}
            Self::ShiftScale { shift, scale } => {
                latent.iter_mut().for_each(|z| *z = (*z - shift) * scale);
            }
            Self::MeanStd { mean, std, scale } => {
                for (channel, values) in latent.chunks_exact_mut(cells.max(1)).enumerate() {
                    let (mean, std) = (mean[channel], std[channel]);
                    values
                        .iter_mut()
                        .for_each(|z| *z = (*z - mean) * scale / std);
                }
            }
        }
    }
}
