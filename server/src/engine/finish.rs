//! From moments to the answer: posterior, scale, rounding, layout. Off the device's thread, so
//! that the device goes on meanwhile.

use preheat_models::{DType, Posterior, Scale, Spec};

use super::item::{Answer, Encoded, Fault, FaultKind, Outcome, Shape};

/// The smallest magnitude that rounds to infinity in f16.
const F16_OVERFLOW: f32 = 65_520.0;

/// How the items of a call are to be answered.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) spec: Spec,
    pub(crate) shape: Shape,
    pub(crate) dtype: DType,
    pub(crate) scale: Scale,
    pub(crate) posteriors: Vec<Posterior>,
    /// Every tensor starts at a multiple of so many bytes.
    pub(crate) align: usize,
}

impl Plan {
    /// Writes all tensors into one buffer; items that failed leave no gap.
    pub(crate) fn finish(&self, outcomes: Vec<Outcome>) -> Answer {
        let shape = self.latent_shape();
        let stride =
            (shape.iter().product::<usize>() * self.dtype.size()).next_multiple_of(self.align);
        let good = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
        let mut latents = Vec::with_capacity(good * stride);
        let mut items = Vec::with_capacity(outcomes.len());
        for (outcome, &posterior) in outcomes.into_iter().zip(&self.posteriors) {
            let values = outcome.and_then(|encoded| self.latent(&encoded, posterior));
            items.push(values.map(|values| {
                let offset = latents.len();
                self.dtype.write(&values, &mut latents);
                latents.resize(latents.len().next_multiple_of(self.align), 0);
                offset
            }));
        }
        Answer {
            latents,
            shape,
            items,
        }
    }

    fn latent(&self, encoded: &Encoded, posterior: Posterior) -> Result<Vec<f32>, Fault> {
        let Encoded { moments, index, .. } = encoded;
        let values = moments.latent(*index, &self.spec, posterior, self.scale);
        let expected: usize = self.latent_shape().iter().product();
        if values.len() != expected {
            return Err(Fault::new(
                FaultKind::Internal,
                format!(
                    "the model gave {} values, expected {expected}",
                    values.len()
                ),
            ));
        }
        match values.iter().find(|value| !self.fits(**value)) {
            Some(&value) => Err(self.not_finite(value)),
            None => Ok(values),
        }
    }

    fn fits(&self, value: f32) -> bool {
        value.is_finite() && (self.dtype != DType::F16 || value.abs() < F16_OVERFLOW)
    }

    fn not_finite(&self, value: f32) -> Fault {
        let computed = self.spec.dtype;
        let cause = match (value.is_finite(), computed) {
            (true, _) => format!(
                "the latent holds {value}, which does not fit {}: ask for bf16 or f32",
                self.dtype
            ),
            (false, DType::F32) => format!(
                "the latent holds {value} although the model computes in f32: its weights are \
                 damaged or not finite"
            ),
            (false, _) => format!(
                "the latent holds {value}: the model likely overflowed in {computed}, serve it \
                 with --dtype f32"
            ),
        };
        Fault::new(FaultKind::NotFinite, cause)
    }

    /// `[channels, frames, height, width]` of one tensor.
    fn latent_shape(&self) -> [usize; 4] {
        let moments = self.posteriors.first() == Some(&Posterior::Moments);
        let cells = |pixels: u32| (pixels as usize / self.spec.spatial_compression).max(1);
        let frames = (self.shape.frames as usize - 1) / self.spec.temporal_compression.max(1) + 1;
        [
            self.spec.latent_channels * if moments { 2 } else { 1 },
            frames,
            cells(self.shape.height),
            cells(self.shape.width),
        ]
    }
}

#[cfg(test)]
mod tests;
