//! Convolution: bands of output rows in parallel, each from a padded copy of its input rows.

use std::ops::Range;

use rayon::prelude::*;

use super::{Act, Map, Norm, tile};

/// Values of a band's padded input rows, a mebibyte: larger bands normalise fewer rows twice, smaller
/// ones stay closer to the core.
const BAND_VALUES: usize = 256 * 1024;

/// Bands for every thread, at least, so that no thread waits long for the last one.
const BANDS_PER_THREAD: usize = 3;

/// A convolution with its weights laid out for [`tile`]: `[block, ky, frame, kx, input, BLOCK]`.
#[derive(Debug)]
pub(crate) struct Conv {
    over: Over,
    inputs: usize,
    outputs: usize,
    kernel: [usize; 2],
    stride: usize,
    /// Zeros around the input: top, left, bottom, right.
    pad: [usize; 4],
    weights: Vec<f32>,
    bias: Vec<f32>,
}

/// How a kernel lies over the frames of a clip. No frame but those given is seen: what stands before
/// the first is up to the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Over {
    /// Frames under the kernel.
    pub(crate) frames: usize,
    /// Frames from one output to the next.
    pub(crate) stride: usize,
}

impl Over {
    /// Every picture by itself.
    pub(crate) const SINGLE: Self = Self {
        frames: 1,
        stride: 1,
    };

    /// Outputs of `frames` frames.
    pub(crate) const fn outputs(self, frames: usize) -> usize {
        match frames.checked_sub(self.frames) {
            Some(more) => more / self.stride + 1,
            None => 0,
        }
    }
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
    /// Lays out `weight`, `[outputs, frames * inputs, kh, kw]`, and `bias`, `[outputs]`.
    pub(crate) fn new(
        over: Over,
        weight: &[f32],
        [outputs, channels, kh, kw]: [usize; 4],
        bias: Option<&[f32]>,
        (stride, pad): (usize, [usize; 4]),
    ) -> Self {
        let (frames, inputs) = (over.frames, channels / over.frames);
        let blocks = outputs.div_ceil(tile::BLOCK);
        let mut weights = vec![0.0; blocks * kh * kw * channels * tile::BLOCK];
        for (output, weight) in weight.chunks_exact(channels * kh * kw).enumerate() {
            let (block, lane) = (output / tile::BLOCK, output % tile::BLOCK);
            for (channel, weight) in weight.chunks_exact(kh * kw).enumerate() {
                let (frame, input) = (channel / inputs, channel % inputs);
                for (tap, value) in weight.iter().enumerate() {
                    let line = (block * kh + tap / kw) * frames + frame;
                    let row = (line * kw + tap % kw) * inputs + input;
                    weights[row * tile::BLOCK + lane] = *value;
                }
            }
        }
        let mut padded = vec![0.0; blocks * tile::BLOCK];
        if let Some(bias) = bias {
            padded[..outputs].copy_from_slice(bias);
        }
        Self {
            over,
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

    /// Output pictures of `n` input pictures.
    pub(crate) const fn pictures(&self, n: usize) -> usize {
        self.over.outputs(n)
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

    /// Writes `act(conv(norm(x)) + residual)`, `[pictures, height, width, outputs]`, to `out`.
    pub(crate) fn run(&self, x: Map<'_>, fused: Fused<'_>, out: &mut [f32]) {
        assert_eq!(x.channels, self.inputs, "input channels");
        let [height, width] = self.output(x.height, x.width);
        let (pictures, frames) = (self.pictures(x.n), self.over.frames);
        assert_eq!(
            out.len(),
            pictures * height * width * self.outputs,
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
                    kernel_rows: self.kernel[0] * frames,
                    run: self.kernel[1] * self.inputs,
                    step: self.stride * self.inputs,
                    row_step: self.stride * frames * pitch,
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
        let pitch = (x.width + left + right) * x.channels * self.over.frames;
        let fit = (BAND_VALUES / pitch).saturating_sub(self.kernel[0] - 1) / self.stride;
        let share = height.div_ceil(BANDS_PER_THREAD * rayon::current_num_threads());
        fit.min(share).max(1)
    }

    /// Brings the input rows under the output rows `rows` of picture `index` into `scratch`, padded
    /// and normalised: each row of every frame under the kernel, then the next row. Returns the
    /// distance from one to the next.
    fn fill(
        &self,
        x: Map<'_>,
        (index, norm): (usize, Option<&Norm>),
        rows: &Range<usize>,
        scratch: &mut Vec<f32>,
    ) -> usize {
        let [top, left, _, right] = self.pad;
        let Over { frames, stride } = self.over;
        let (row, left, right) = (x.width * x.channels, left * x.channels, right * x.channels);
        let pitch = left + row + right;
        let needed = (rows.len() - 1) * self.stride + self.kernel[0];
        scratch.resize(needed * frames * pitch, 0.0);
        for (line, to) in scratch.chunks_exact_mut(pitch).enumerate() {
            let (offset, frame) = (line / frames, line % frames);
            let picture = x.picture(index * stride + frame);
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
