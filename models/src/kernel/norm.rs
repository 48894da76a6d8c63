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
    /// Squares are taken around the mean of each chunk and joined in f64: the difference of two
    /// large sums would lose a nearly flat picture.
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
            let group = |channel: usize| total[channel / width];
            let scales = |(channel, gamma): (usize, &f32)| {
                let Moments { count, squares, .. } = group(channel);
                (f64::from(*gamma) / (squares / count + f64::from(eps)).sqrt()) as f32
            };
            Self {
                mean: (0..x.channels)
                    .map(|channel| group(channel).mean as f32)
                    .collect(),
                scale: gamma.iter().enumerate().map(scales).collect(),
                shift: beta.to_vec(),
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
    let means: Vec<f64> = per_group(&sums)
        .into_iter()
        .map(|sum| sum / count)
        .collect();
    let centre: Vec<f32> = (0..channels)
        .map(|channel| means[channel / width] as f32)
        .collect();
    sums.fill(0.0);
    for pixel in chunk.chunks_exact(channels) {
        for ((sum, x), mean) in sums.iter_mut().zip(pixel).zip(&centre) {
            *sum += (x - mean) * (x - mean);
        }
    }
    let squares = per_group(&sums);
    means
        .into_iter()
        .zip(squares)
        .map(|(mean, squares)| Moments {
            count,
            mean,
            squares,
        })
        .collect()
}
