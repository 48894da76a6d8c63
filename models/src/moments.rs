//! The posterior of a batch, and what callers want of it.

use crate::{DType, Error, Spec, noise};

/// What of the posterior to deliver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Posterior {
    /// The mean.
    Mode,
    /// `mean + exp(logvar / 2) * n`, with `n` from the noise generator keyed by this seed.
    Sample(u64),
    /// Mean and log-variance stacked along channels, raw.
    Moments,
}

/// The scale of a delivered latent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scale {
    /// As the encoder leaves it.
    Raw,
    /// As the diffusion model sees it.
    Normalized,
}

/// The posterior of a batch, in f32 on the host, raw.
#[derive(Clone, Debug, PartialEq)]
pub struct Moments {
    /// `[batch, channels, frames, height, width]` in latent cells.
    pub shape: [usize; 5],
    /// The means.
    pub mean: Vec<f32>,
    /// The log-variances, clamped to [-30, 20]; `None` where the class has no posterior.
    pub logvar: Option<Vec<f32>>,
}

impl Moments {
    /// Values of one element's mean.
    pub fn element_len(&self) -> usize {
        self.shape[1..].iter().product()
    }

    /// Whether every value of element `index`, computed in `dtype`, is finite.
    ///
    /// # Errors
    /// [`Error::NotFinite`], with the likely cause.
    pub fn check(&self, index: usize, dtype: DType) -> Result<(), Error> {
        let len = self.element_len();
        let range = index * len..(index + 1) * len;
        let parts = [Some(&self.mean), self.logvar.as_ref()];
        let mut values = parts
            .into_iter()
            .flatten()
            .flat_map(|part| &part[range.clone()]);
        if values.all(|value| value.is_finite()) {
            return Ok(());
        }
        let cause = match dtype {
            DType::F16 => {
                "activations overflow f16, as those of SDXL's own VAE do: use f32 or bf16, or weights \
                 made for f16"
            }
            DType::F32 | DType::BF16 => "the weights or the pixels have values that are not finite",
        };
        Err(Error::NotFinite { cause })
    }

    /// The latent of element `index`, `[channels, frames, height, width]` as packed by
    /// [`LatentNorm::pack`](crate::LatentNorm::pack); twice the channels for
    /// [`Posterior::Moments`], where a class without a log-variance gets -30 (a point mass).
    pub fn latent(&self, index: usize, spec: &Spec, want: Posterior, scale: Scale) -> Vec<f32> {
        let len = self.element_len();
        let range = index * len..(index + 1) * len;
        let mean = &self.mean[range.clone()];
        let logvar = self.logvar.as_deref().map(|values| &values[range]);
        let [_, channels, frames, height, width] = self.shape;
        let pack = |values| spec.norm.pack(values, [channels, frames, height, width]);
        let mut latent = match (want, logvar) {
            (Posterior::Moments, logvar) => {
                let mut both = pack(mean.to_vec());
                match logvar {
                    Some(logvar) => both.extend(pack(logvar.to_vec())),
                    None => both.resize(2 * len, LOGVAR_MIN),
                }
                return both;
            }
            (Posterior::Sample(seed), Some(logvar)) => {
                let mut normal = noise::Normal::new(seed);
                let draw = |(m, l): (&f32, &f32)| m + (0.5 * l).exp() * normal.next();
                mean.iter().zip(logvar).map(draw).collect()
            }
            _ => mean.to_vec(),
        };
        latent = pack(latent);
        if scale == Scale::Normalized {
            let patch = spec.norm.patch();
            spec.norm.apply(&mut latent, channels * patch * patch);
        }
        latent
    }
}

/// diffusers clamps log-variances to this range.
pub(crate) const LOGVAR_MIN: f32 = -30.0;
#[cfg_attr(not(feature = "cpu"), allow(dead_code))]
pub(crate) const LOGVAR_MAX: f32 = 20.0;
