//! Weights made in code, for `builtin:tiny`, `builtin:wan` and for the self-test.
//!
//! Only integer and exactly rounded arithmetic is used: the weights, and so the fingerprint, are the
//! same on every machine.

use crate::noise::Philox;

/// A recipe for the tensors of an encoder.
#[derive(Debug)]
pub(crate) enum Seeded {
    /// For AutoencoderTiny. Untrained, but not noise: each 3x3 kernel is a random mixture of channels
    /// times a blur, so latents keep the shapes of the picture.
    Blurs {
        /// Name of the last convolution, which sets the scale of the latents.
        last: &'static str,
        /// Gain of that convolution.
        last_gain: f32,
    },
    /// The same for AutoencoderKLWan, whose norms set the scales: kernels blur time as well, and see most
    /// of the latest frame.
    ClipBlurs,
    /// For every family: uniform, of about unit gain.
    Uniform,
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
        let uniform = || {
            let bits = (philox.next() >> 40) as f32;
            bits / (1_u32 << 23) as f32 - 1.0
        };
        match self {
            Self::ClipBlurs if name.ends_with(".gamma") => vec![1.0; shape.iter().product()],
            Self::ClipBlurs => {
                let blur = blur_of(shape.get(2..).unwrap_or_default());
                blurs(shape, (1.0, &blur, 0.01), uniform)
            }
            Self::Uniform => uniform_weights(name, shape, uniform),
            Self::Blurs { last, last_gain } => {
                let gain = match name {
                    _ if name.starts_with(last) => *last_gain,
                    _ if name.contains(".conv.4.") => 0.7,
                    _ => 2.4,
                };
                blurs(shape, (gain, &BLUR, 0.1), uniform)
            }
        }
    }
}

/// So that the scale of activations stays about the same from layer to layer. Kernels are the blur, and
/// `noise` of its own for each of their values.
fn blurs(
    shape: &[usize],
    (gain, blur, noise): (f32, &[f32], f32),
    mut uniform: impl FnMut() -> f32,
) -> Vec<f32> {
    let [outputs, inputs, ..] = *shape else {
        return (0..shape[0]).map(|_| 0.1 * uniform()).collect();
    };
    let gain = gain / (inputs as f32).sqrt();
    let mut weight = Vec::with_capacity(outputs * inputs * blur.len());
    for _ in 0..outputs * inputs {
        let mix = uniform();
        let tap = |blur: &f32| gain * (blur * mix + noise * uniform());
        weight.extend(blur.iter().map(tap));
    }
    weight
}

/// The blur of a kernel: over time, over the picture, over both, or over nothing.
fn blur_of(kernel: &[usize]) -> Vec<f32> {
    let time = match kernel {
        [3, _, _] => &TIME[..],
        _ => &[1.0],
    };
    let picture = match kernel {
        [.., 3, 3] => &BLUR[..],
        _ => &[1.0],
    };
    let both = |slice: &f32| picture.iter().map(|tap| slice * tap).collect::<Vec<_>>();
    time.iter().flat_map(both).collect()
}

/// Scales of norms near 1, biases near 0, everything else of variance `1 / inputs`.
fn uniform_weights(name: &str, shape: &[usize], mut uniform: impl FnMut() -> f32) -> Vec<f32> {
    let (centre, spread) = match shape {
        [_] if name.ends_with(".weight") => (1.0, 0.2),
        [_] => (0.0, 0.1),
        [_, inputs @ ..] => (0.0, (3.0 / inputs.iter().product::<usize>() as f32).sqrt()),
        [] => (0.0, 1.0),
    };
    let values = shape.iter().product();
    (0..values).map(|_| centre + spread * uniform()).collect()
}

/// `[1 2 1]` by `[1 2 1]`.
const BLUR: [f32; 9] = [
    0.0625, 0.125, 0.0625, 0.125, 0.25, 0.125, 0.0625, 0.125, 0.0625,
];

/// Oldest frame first.
const TIME: [f32; 3] = [0.1, 0.2, 0.7];
