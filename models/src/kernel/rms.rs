//! Root-mean-square norm over the channels of each pixel.

use multiversion::multiversion;
use rayon::prelude::*;

use super::{Act, Map};

/// Pixels of one task.
const CHUNK: usize = 256;

/// Sums that run side by side, so that they become vector code. Fixed, as is their order.
const LANES: usize = 16;

/// What a norm needs to know besides the picture.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rms<'a> {
    /// Scale per channel.
    pub(crate) gamma: &'a [f32],
    /// Shift per channel.
    pub(crate) beta: &'a [f32],
    /// Added to the mean of squares.
    pub(crate) eps: f32,
    /// The least root of the sum of squares.
    pub(crate) least: f32,
}

impl Rms<'_> {
    /// Writes `act(x / rms(x) * gamma + beta)` to `out`, as large as `x`.
    pub(crate) fn run(self, x: Map<'_>, act: Act, out: &mut [f32]) {
        assert_eq!(out.len(), x.data.len(), "output size");
        let chunk = CHUNK * x.channels;
        let pairs = x.data.par_chunks(chunk).zip(out.par_chunks_mut(chunk));
        pairs.for_each(|(from, to)| {
            normalise(self, x.channels, from, to);
            act.apply(to);
        });
    }
}

#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn normalise<'a>(how: Rms<'a>, channels: usize, from: &[f32], to: &mut [f32]) {
    let count = channels as f32;
    for (from, to) in from
        .chunks_exact(channels)
        .zip(to.chunks_exact_mut(channels))
    {
        let mut sums = [0.0_f32; LANES];
        let (whole, rest) = from.as_chunks::<LANES>();
        for lanes in whole {
            sums.iter_mut()
                .zip(lanes)
                .for_each(|(sum, x)| *sum += x * x);
        }
        sums.iter_mut().zip(rest).for_each(|(sum, x)| *sum += x * x);
        let squares: f32 = sums.iter().sum();
        let length = squares.sqrt().max(how.least);
        let scale = 1.0 / (length * length / count + how.eps).sqrt();
        let parameters = how.gamma.iter().zip(how.beta);
        for ((x, y), (gamma, beta)) in from.iter().zip(to).zip(parameters) {
            *y = x * scale * gamma + beta;
        }
    }
}
