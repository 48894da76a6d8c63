//! Group norm: statistics in one pass over memory, application folded into whatever reads next.

use multiversion::multiversion;
use rayon::prelude::*;

use super::{Act, Map};

/// Pixels whose statistics are taken together. Fixed, so that results do not depend on threads.
const CHUNK: usize = 256;

/// `(x - mean) * scale + shift` per channel of one picture, then an activation.
#[derive(Clone, Debug)]
pub(crate) struct Norm {
    mean: Vec<f32>,
    scale: Vec<f32>,
    shift: Vec<f32>,
    act: Act,
}

/// What a group norm needs to know besides the picture.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Statistics<'a> {
    /// Scale per channel.
    pub(crate) gamma: &'a [f32],
    /// Shift per channel.
    pub(crate) beta: &'a [f32],
    pub(crate) groups: usize,
    pub(crate) eps: f32,
}

/// Count, mean and sum of squared distances from it.
#[derive(Clone, Copy, Debug, Default)]
struct Moments {
    count: f64,
    mean: f64,
    squares: f64,
}

impl Moments {
    /// Of both samples together (Chan, Golub and LeVeque, 1979).
    fn join(self, other: Self) -> Self {
        let count = self.count + other.count;
        let delta = other.mean - self.mean;
        let share = other.count / count;
        Self {
            count,
            mean: self.mean + delta * share,
            squares: self.squares + other.squares + delta * delta * self.count * share,
        }
    }
}

impl Norm {
    /// Takes the statistics of every picture of `x`.
    ///
    /// Sums are taken around the mean of each chunk and joined in f64: the difference of two large
    /// sums would lose a nearly flat picture, and an error of its mean would shift all of it alike.
    pub(crate) fn measure(x: Map<'_>, how: Statistics<'_>, act: Act) -> Vec<Self> {
        let Statistics {
            gamma,
            beta,
            groups,
            eps,
        } = how;
        let width = x.channels / groups;
        let one = |index: usize| {
            let chunks: Vec<Vec<Moments>> = x
                .picture(index)
                .par_chunks(CHUNK * x.channels)
                .map(|chunk| chunk_moments(chunk, x.channels, groups))
                .collect();
            let mut total = vec![Moments::default(); groups];
            for chunk in chunks {
                total
                    .iter_mut()
                    .zip(chunk)
                    .for_each(|(t, m)| *t = t.join(m));
            }
            let (mut means, mut scales) = (Vec::new(), Vec::new());
            let mut shifts = Vec::new();
            for (channel, (gamma, beta)) in gamma.iter().zip(beta).enumerate() {
                let Moments {
                    count,
                    mean,
                    squares,
                } = total[channel / width];
                let scale = f64::from(*gamma) / (squares / count + f64::from(eps)).sqrt();
                // What the mean loses in f32 goes into the shift.
                let lost = mean - f64::from(mean as f32);
                means.push(mean as f32);
                scales.push(scale as f32);
                shifts.push((f64::from(*beta) - lost * scale) as f32);
            }
            Self {
                mean: means,
                scale: scales,
                shift: shifts,
                act,
            }
        };
        (0..x.n).map(one).collect()
    }

    /// Writes the normalised `from` to `to`; both hold whole pixels.
    pub(crate) fn apply(&self, from: &[f32], to: &mut [f32]) {
        scale(self, from, to);
        self.act.apply(to);
    }
}

/// Normalises every picture of `x` with its own of `norms`, in parallel, into `out`.
pub(crate) fn apply(norms: &[Norm], x: Map<'_>, out: &mut [f32]) {
    let picture_len = x.picture_len();
    for (index, (norm, out)) in norms
        .iter()
        .zip(out.chunks_exact_mut(picture_len))
        .enumerate()
    {
        let from = x.picture(index).par_chunks(CHUNK * x.channels);
        let to = out.par_chunks_mut(CHUNK * x.channels);
        from.zip(to).for_each(|(from, to)| norm.apply(from, to));
    }
}

#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn scale(norm: &Norm, from: &[f32], to: &mut [f32]) {
    let channels = norm.mean.len();
    for (from, to) in from
        .chunks_exact(channels)
        .zip(to.chunks_exact_mut(channels))
    {
        let pairs = from.iter().zip(to);
        let parameters = norm.mean.iter().zip(&norm.scale).zip(&norm.shift);
        for ((x, y), ((mean, scale), shift)) in pairs.zip(parameters) {
            *y = (x - mean) * scale + shift;
        }
    }
}

/// The corrected two-pass algorithm (Chan, Golub and LeVeque, 1983): the second pass is taken around
/// a mean that is rounded, and tells by how much.
#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn chunk_moments(chunk: &[f32], channels: usize, groups: usize) -> Vec<Moments> {
    let width = channels / groups;
    let count = (chunk.len() / groups) as f64;
    let per_group = |sums: &[f32]| {
        let group = |sums: &[f32]| sums.iter().map(|&sum| f64::from(sum)).sum::<f64>();
        sums.chunks_exact(width).map(group).collect::<Vec<f64>>()
    };
    let mut sums = vec![0.0_f32; channels];
    for pixel in chunk.chunks_exact(channels) {
        sums.iter_mut().zip(pixel).for_each(|(sum, x)| *sum += x);
    }
    let totals = per_group(&sums);
    let centre: Vec<f32> = (0..channels)
        .map(|channel| (totals[channel / width] / count) as f32)
        .collect();
    sums.fill(0.0);
    let mut squares = vec![0.0_f32; channels];
    for pixel in chunk.chunks_exact(channels) {
        let sums = sums.iter_mut().zip(&mut squares);
        for (((sum, square), x), centre) in sums.zip(pixel).zip(&centre) {
            let apart = x - centre;
            *sum += apart;
            *square += apart * apart;
        }
    }
    let joined = per_group(&sums).into_iter().zip(per_group(&squares));
    joined
        .zip(centre.iter().step_by(width))
        .map(|((sum, squares), centre)| Moments {
            count,
            mean: f64::from(*centre) + sum / count,
            squares: squares - sum * sum / count,
        })
        .collect()
}
