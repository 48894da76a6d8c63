//! Convolution: bands of output rows in parallel, each from a padded copy of its input rows.

use std::ops::Range;

use rayon::prelude::*;

use super::{Act, Map, Norm, tile};

/// Values of a band's padded input rows, a mebibyte: larger bands normalise fewer rows twice, smaller
/// ones stay closer to the core.
const BAND_VALUES: usize = 256 * 1024;

/// Bands for every thread, at least, so that no thread waits long for the last one.
const BANDS_PER_THREAD: usize = 3;

/// A convolution with its weights laid out for [`tile`]: `[block, ky, kx, input, BLOCK]`.
#[derive(Debug)]
pub(crate) struct Conv {
    inputs: usize,
    outputs: usize,
    kernel: [usize; 2],
    stride: usize,
    /// Zeros around the input: top, left, bottom, right.
    pad: [usize; 4],
    weights: Vec<f32>,
    bias: Vec<f32>,
}

/// What stands before and after a convolution: `act(conv(norm(x)) + residual)`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fused<'a> {
    /// One per picture, or none at all.
    pub(crate) norms: Option<&'a [Norm]>,
    pub(crate) residual: Residual<'a>,
    pub(crate) act: Act,
}

/// What is added to the output of a convolution.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Residual<'a> {
    /// Nothing.
    None,
    /// Values as many as the output's.
    Apart(&'a [f32]),
    /// What lies in the output when the convolution starts.
    InOut,
}

/// A thread's padded input rows, and its copy of a residual.
type Scratch = (Vec<f32>, Vec<f32>);

impl Conv {
    /// Lays out `weight`, `[outputs, inputs, kh, kw]`, and `bias`, `[outputs]`.
    pub(crate) fn new(
        weight: &[f32],
        [outputs, inputs, kh, kw]: [usize; 4],
        bias: Option<&[f32]>,
        stride: usize,
        pad: [usize; 4],
    ) -> Self {
        let blocks = outputs.div_ceil(tile::BLOCK);
        let mut weights = vec![0.0; blocks * kh * kw * inputs * tile::BLOCK];
        for (output, weight) in weight.chunks_exact(inputs * kh * kw).enumerate() {
            let (block, lane) = (output / tile::BLOCK, output % tile::BLOCK);
            for (input, weight) in weight.chunks_exact(kh * kw).enumerate() {
                for (tap, value) in weight.iter().enumerate() {
                    let row = (block * kh * kw + tap) * inputs + input;
                    weights[row * tile::BLOCK + lane] = *value;
                }
            }
        }
        let mut padded = vec![0.0; blocks * tile::BLOCK];
        if let Some(bias) = bias {
            padded[..outputs].copy_from_slice(bias);
        }
        Self {
            inputs,
            outputs,
            kernel: [kh, kw],
            stride,
            pad,
            weights,
            bias: padded,
        }
    }

    /// Output channels.
    pub(crate) const fn outputs(&self) -> usize {
        self.outputs
    }

    /// Output height and width.
    pub(crate) const fn output(&self, height: usize, width: usize) -> [usize; 2] {
        let [top, left, bottom, right] = self.pad;
        let [kh, kw] = self.kernel;
        [
            (height + top + bottom - kh) / self.stride + 1,
            (width + left + right - kw) / self.stride + 1,
        ]
    }

    /// Writes `act(conv(norm(x)) + residual)`, `[n, height, width, outputs]`, to `out`.
    pub(crate) fn run(&self, x: Map<'_>, fused: Fused<'_>, out: &mut [f32]) {
        assert_eq!(x.channels, self.inputs, "input channels");
        let [height, width] = self.output(x.height, x.width);
        assert_eq!(
            out.len(),
            x.n * height * width * self.outputs,
            "output size"
        );
        let rows = self.band_rows(x, height);
        let row = width * self.outputs;
        for (index, out) in out.chunks_exact_mut(height * row).enumerate() {
            let norm = fused.norms.map(|norms| &norms[index]);
            let picture = index * height * row;
            let band = |(scratch, kept): &mut Scratch, (band, out): (usize, &mut [f32])| {
                let first = band * rows;
                let rows = first..first + out.len() / row;
                let pitch = self.fill(x, (index, norm), &rows, scratch);
                let shape = tile::Shape {
                    kernel_rows: self.kernel[0],
                    run: self.kernel[1] * self.inputs,
                    step: self.stride * self.inputs,
                    row_step: self.stride * pitch,
                    pitch,
                    width,
                    outputs: self.outputs,
                };
                let residual = match fused.residual {
                    Residual::None => &[],
                    Residual::Apart(residual) => &residual[picture + first * row..][..out.len()],
                    Residual::InOut => {
                        kept.clear();
                        kept.extend_from_slice(out);
                        &kept[..]
                    }
                };
                tile::band(shape, scratch, (&self.weights, &self.bias), out);
                out.iter_mut().zip(residual).for_each(|(y, r)| *y += r);
                fused.act.apply(out);
            };
            out.par_chunks_mut(rows * row)
                .enumerate()
                .for_each_init(Scratch::default, band);
        }
    }

    /// Output rows of a band: as many as fit the cache, but enough bands for all threads.
    fn band_rows(&self, x: Map<'_>, height: usize) -> usize {
        let [_, left, _, right] = self.pad;
        let pitch = (x.width + left + right) * x.channels;
        let fit = (BAND_VALUES / pitch).saturating_sub(self.kernel[0] - 1) / self.stride;
        let share = height.div_ceil(BANDS_PER_THREAD * rayon::current_num_threads());
        fit.min(share).max(1)
    }

    /// Brings the input rows under the output rows `rows` into `scratch`, padded and normalised.
    /// Returns the distance from one to the next.
    fn fill(
        &self,
        x: Map<'_>,
        (index, norm): (usize, Option<&Norm>),
        rows: &Range<usize>,
        scratch: &mut Vec<f32>,
    ) -> usize {
        let [top, left, _, right] = self.pad;
        let picture = x.picture(index);
        let (row, left, right) = (x.width * x.channels, left * x.channels, right * x.channels);
        let pitch = left + row + right;
        let needed = (rows.len() - 1) * self.stride + self.kernel[0];
        scratch.resize(needed * pitch, 0.0);
        for (offset, to) in scratch.chunks_exact_mut(pitch).enumerate() {
            let from = (rows.start * self.stride + offset).checked_sub(top);
            let Some(from) = from.filter(|&y| y < x.height) else {
                to.fill(0.0);
                continue;
            };
            let from = &picture[from * row..][..row];
            to[..left].fill(0.0);
            to[left + row..].fill(0.0);
            match norm {
                Some(norm) => norm.apply(from, &mut to[left..][..row]),
                None => to[left..][..row].copy_from_slice(from),
            }
        }
        pitch
    }
}
