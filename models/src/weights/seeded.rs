//! Weights made in code, for `builtin:tiny`. Untrained, but not noise: each 3x3 kernel is a random
//! mixture of channels times a blur, so latents keep the shapes of the picture.
//!
//! Only integer and exactly rounded arithmetic is used: the weights, and so the fingerprint, are the
//! same on every machine.

use crate::noise::Philox;

/// A recipe for the tensors of an AutoencoderTiny encoder.
#[derive(Debug)]
pub(crate) struct Seeded {
    /// Name of the last convolution, which sets the scale of the latents.
    pub(crate) last: &'static str,
    /// Gain of that convolution.
    pub(crate) last_gain: f32,
}

impl Seeded {
    /// The tensor `name`.
    pub(crate) fn make(&self, name: &str, shape: &[usize]) -> Vec<f32> {
        let digest = blake3::hash(name.as_bytes());
        let (seed, _) = digest
            .as_bytes()
            .split_first_chunk()
            .expect("a hash has 32 bytes");
        let mut philox = Philox::new(u64::from_le_bytes(*seed));
        let mut uniform = || {
            let bits = (philox.next() >> 40) as f32;
            bits / (1_u32 << 23) as f32 - 1.0
        };
        let [outputs, inputs, ..] = *shape else {
            return (0..shape[0]).map(|_| 0.1 * uniform()).collect();
        };
        let gain = self.gain(name) / (inputs as f32).sqrt();
        let mut weight = Vec::with_capacity(outputs * inputs * 9);
        for _ in 0..outputs * inputs {
            let mix = uniform();
            weight.extend(
                BLUR.iter()
                    .map(|blur| gain * (blur * mix + 0.1 * uniform())),
            );
        }
        weight
    }

    /// So that the scale of activations stays about the same from layer to layer.
    fn gain(&self, name: &str) -> f32 {
        match name {
            _ if name.starts_with(self.last) => self.last_gain,
            _ if name.contains(".conv.4.") => 0.7,
            _ => 2.4,
        }
    }
}

/// `[1 2 1]` by `[1 2 1]`.
const BLUR: [f32; 9] = [
    0.0625, 0.125, 0.0625, 0.125, 0.25, 0.125, 0.0625, 0.125, 0.0625,
];
