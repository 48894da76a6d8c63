//! The innermost loops: a few pixels times a block of output channels, kept in registers.
//!
//! The only unsafe code of this crate. The proof is in one place: [`band`] checks, before anything
//! runs, that the last value each loop can touch lies inside its slice; everything below stays
//! within those bounds. Which instructions the processor has is asked at run time.

/// Output channels of a block; weights are padded to whole blocks.
pub(super) const BLOCK: usize = 32;

/// Taps that are summed before their sum joins the total. Rounding errors of one long sum grow with
/// its length; these grow with the length of a chunk and the number of chunks.
const CHUNK: usize = 64;

/// The geometry of a band, in values (not pixels).
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    /// Rows of the kernel.
    pub(super) kernel_rows: usize,
    /// Taps of one kernel row: its width times the input channels, contiguous in the input.
    pub(super) run: usize,
    /// From the input of one output pixel to that of its right neighbour.
    pub(super) step: usize,
    /// From the input of one output row to that of the next.
    pub(super) row_step: usize,
    /// From one input row to the next.
    pub(super) pitch: usize,
    /// Output pixels of a row.
    pub(super) width: usize,
    /// Output channels.
    pub(super) outputs: usize,
}

/// Convolves padded `input` rows into `out`, whole rows of `[width, outputs]`.
/// `(weights, bias)` are `[block, kernel_rows, run, BLOCK]` and `[block, BLOCK]`.
pub(super) fn band(shape: Shape, input: &[f32], filter: (&[f32], &[f32]), out: &mut [f32]) {
    let Shape {
        kernel_rows,
        run,
        step,
        row_step,
        pitch,
        width,
        outputs,
    } = shape;
    let (weights, bias) = filter;
    assert!(
        kernel_rows > 0 && run > 0 && width > 0 && outputs > 0,
        "empty convolution"
    );
    let rows = out.len() / (width * outputs);
    let blocks = outputs.div_ceil(BLOCK);
    // The proof. Reads of the input end at the last tap of the last pixel of the last row; sums of
    // offsets only grow with the row, the kernel row, the pixel and the tap.
    if rows > 0 {
        let last = (rows - 1) * row_step + (kernel_rows - 1) * pitch + (width - 1) * step + run - 1;
        assert!(last < input.len(), "input is shorter than its shape");
    }
    assert_eq!(
        out.len(),
        rows * width * outputs,
        "output is not whole rows"
    );
    assert_eq!(weights.len(), blocks * kernel_rows * run * BLOCK, "weights");
    assert_eq!(bias.len(), blocks * BLOCK, "bias");

    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") {
            // SAFETY: the processor has AVX-512F, and the bounds are proven above.
            return unsafe { avx512::band(shape, input, filter, out) };
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            // SAFETY: the processor has AVX2 and FMA, and the bounds are proven above.
            return unsafe { avx2::band(shape, input, filter, out) };
        }
    }
    portable::band(shape, input, filter, out);
}

/// The loops for one instruction set. `$pixels` are the numbers of pixels of a tile, most first and
/// ending in 1; its channels are two vectors of `$lanes` lanes.
#[cfg(target_arch = "x86_64")]
macro_rules! kernel {
    ($name:ident, $features:literal, $lanes:literal, [$($pixels:literal),+],
     [$load:ident, $splat:ident, $multiply_add:ident, $add:ident, $store:ident]) => {
        mod $name {
            use std::arch::x86_64::{$add, $load, $multiply_add, $splat, $store};

            use super::{BLOCK, CHUNK, Shape};

            /// Channels of a tile.
            const PART: usize = 2 * $lanes;
            const _: () = assert!(BLOCK.is_multiple_of(PART));

            /// # Safety
            /// The processor has the features, and the slices are as long as [`super::band`] checks.
            #[target_feature(enable = $features)]
            pub(super) unsafe fn band(
                shape: Shape,
                input: &[f32],
                (weights, bias): (&[f32], &[f32]),
                out: &mut [f32],
            ) {
                let block_len = shape.kernel_rows * shape.run * BLOCK;
                let rows = out.len() / (shape.width * shape.outputs);
                for channel in (0..shape.outputs).step_by(PART) {
                    let weights = &weights[channel / BLOCK * block_len + channel % BLOCK..];
                    let bias = &bias[channel..];
                    let channels = (shape.outputs - channel).min(PART);
                    for row in 0..rows {
                        let mut x = 0;
                        while x < shape.width {
                            let input = &input[row * shape.row_step + x * shape.step..];
                            let at = (row * shape.width + x) * shape.outputs + channel;
                            let out = &mut out[at..];
                            let left = shape.width - x;
                            $(if left >= $pixels {
                                // SAFETY: `$pixels` pixels are left in this row, so no offset passes
                                // the last one that `super::band` checked.
                                let sums = unsafe { tile::<$pixels>(shape, input, weights, bias) };
                                for (pixel, values) in sums.iter().enumerate() {
                                    out[pixel * shape.outputs..][..channels]
                                        .copy_from_slice(&values[..channels]);
                                }
                                x += $pixels;
                            } else)+ {}
                        }
                    }
                }
            }

            /// # Safety
            /// As [`band`]; `PIXELS` neighbouring output pixels start at `input`, and `weights` and
            /// `bias` at the tile's first channel.
            #[target_feature(enable = $features)]
            #[inline]
            unsafe fn tile<const PIXELS: usize>(
                shape: Shape,
                input: &[f32],
                weights: &[f32],
                bias: &[f32],
            ) -> [[f32; PART]; PIXELS] {
                let (mut weights, input) = (weights.as_ptr(), input.as_ptr());
                // SAFETY: a tile's channels are part of a block, and `bias` has whole blocks.
                let start = unsafe { [$load(bias.as_ptr()), $load(bias.as_ptr().add($lanes))] };
                let mut totals = [start; PIXELS];
                for kernel_row in 0..shape.kernel_rows {
                    // SAFETY: the kernel row is below its bound.
                    let input = unsafe { input.add(kernel_row * shape.pitch) };
                    for first in (0..shape.run).step_by(CHUNK) {
                        let mut sums = [[$splat(0.0); 2]; PIXELS];
                        for tap in first..shape.run.min(first + CHUNK) {
                            // SAFETY: this is tap `kernel_row * run + tap` of those checked, and
                            // every tap has a whole block.
                            let (low, high) =
                                unsafe { ($load(weights), $load(weights.add($lanes))) };
                            // Wraps past the end after the last tap, where it is read no more.
                            weights = weights.wrapping_add(BLOCK);
                            for pixel in 0..PIXELS {
                                // SAFETY: kernel row, pixel and tap are each below their bound.
                                let value = $splat(unsafe { *input.add(pixel * shape.step + tap) });
                                sums[pixel][0] = $multiply_add(value, low, sums[pixel][0]);
                                sums[pixel][1] = $multiply_add(value, high, sums[pixel][1]);
                            }
                        }
                        for pixel in 0..PIXELS {
                            totals[pixel][0] = $add(totals[pixel][0], sums[pixel][0]);
                            totals[pixel][1] = $add(totals[pixel][1], sums[pixel][1]);
                        }
                    }
                }
                let mut values = [[0.0; PART]; PIXELS];
                for (values, totals) in values.iter_mut().zip(totals) {
                    for (values, total) in values.chunks_exact_mut($lanes).zip(totals) {
                        // SAFETY: the chunk has as many values as the vector.
                        unsafe { $store(values.as_mut_ptr(), total) };
                    }
                }
                values
            }
        }
    };
}

// 8 x 2 sums, 8 inputs and 2 weights of 32 registers. Twelve pixels fit too, but then the compiler
// loads all inputs first, runs out of registers, and the kernel a third slower.
#[cfg(target_arch = "x86_64")]
kernel!(
    avx512,
    "avx512f",
    16,
    [8, 4, 2, 1],
    [
        _mm512_loadu_ps,
        _mm512_set1_ps,
        _mm512_fmadd_ps,
        _mm512_add_ps,
        _mm512_storeu_ps
    ]
);

// 4 x 2 sums, 4 inputs and 2 weights of 16 registers.
#[cfg(target_arch = "x86_64")]
kernel!(
    avx2,
    "avx2,fma",
    8,
    [4, 2, 1],
    [
        _mm256_loadu_ps,
        _mm256_set1_ps,
        _mm256_fmadd_ps,
        _mm256_add_ps,
        _mm256_storeu_ps
    ]
);

/// Without unsafe code, in a shape that compilers turn into what vectors the target has.
mod portable {
    use super::{BLOCK, CHUNK, Shape};

    /// Output channels that are summed at a time.
    const PART: usize = 8;

    pub(super) fn band(
        shape: Shape,
        input: &[f32],
        (weights, bias): (&[f32], &[f32]),
        out: &mut [f32],
    ) {
        let block_len = shape.kernel_rows * shape.run * BLOCK;
        for (at, out) in out.chunks_exact_mut(shape.outputs).enumerate() {
            let (row, x) = (at / shape.width, at % shape.width);
            let input = &input[row * shape.row_step + x * shape.step..];
            for (part, out) in out.chunks_mut(PART).enumerate() {
                let channel = part * PART;
                let weights = &weights[channel / BLOCK * block_len + channel % BLOCK..];
                let sums = pixel(shape, input, weights, &bias[channel..]);
                out.copy_from_slice(&sums[..out.len()]);
            }
        }
    }

    fn pixel(shape: Shape, input: &[f32], weights: &[f32], bias: &[f32]) -> [f32; PART] {
        let mut totals = [0.0; PART];
        totals.copy_from_slice(&bias[..PART]);
        for kernel_row in 0..shape.kernel_rows {
            let taps = input[kernel_row * shape.pitch..][..shape.run].chunks(CHUNK);
            let weights = weights[kernel_row * shape.run * BLOCK..].chunks(CHUNK * BLOCK);
            for (taps, weights) in taps.zip(weights) {
                let mut sums = [0.0; PART];
                for (value, weights) in taps.iter().zip(weights.chunks(BLOCK)) {
                    for (sum, weight) in sums.iter_mut().zip(&weights[..PART]) {
                        *sum += value * weight;
                    }
                }
                for (total, sum) in totals.iter_mut().zip(sums) {
                    *total += sum;
                }
            }
        }
        totals
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every instruction set that this processor has agrees with the portable code, at widths and
    /// channels that use every tile.
    #[test]
    fn instruction_sets_agree() {
        for (outputs, width) in [(1, 1), (7, 3), (16, 23), (40, 35), (64, 14)] {
            let (kernel_rows, run) = (3, 15);
            let (step, pitch) = (5, width * 5 + 10);
            let shape = Shape {
                kernel_rows,
                run,
                step,
                row_step: pitch,
                pitch,
                width,
                outputs,
            };
            let wave = |n: usize| (0..n).map(|i| (i as f32 * 0.7).sin()).collect::<Vec<_>>();
            let input = wave(4 * pitch);
            let blocks = outputs.div_ceil(BLOCK);
            let (weights, bias) = (
                wave(blocks * kernel_rows * run * BLOCK),
                wave(blocks * BLOCK),
            );
            let filter = (&weights[..], &bias[..]);
            let mut expected = vec![0.0; 2 * width * outputs];
            portable::band(shape, &input, filter, &mut expected);
            let check = |name: &str, out: &[f32]| {
                let worst = out
                    .iter()
                    .zip(&expected)
                    .map(|(a, b)| (a - b).abs())
                    .fold(0.0, f32::max);
                assert!(
                    worst < 1e-5,
                    "{name}, {outputs} channels, {width} wide: {worst:e}"
                );
            };
            let mut out = vec![f32::NAN; expected.len()];
            band(shape, &input, filter, &mut out);
            check("detected", &out);
            #[cfg(target_arch = "x86_64")]
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                out.fill(f32::NAN);
                // SAFETY: the features were asked for, and `band` has checked these very slices.
                unsafe { avx2::band(shape, &input, filter, &mut out) };
                check("avx2", &out);
            }
        }
    }

    #[test]
    #[should_panic(expected = "input is shorter")]
    fn short_input_is_refused() {
        let shape = Shape {
            kernel_rows: 1,
            run: 4,
            step: 4,
            row_step: 8,
            pitch: 8,
            width: 2,
            outputs: 1,
        };
        band(
            shape,
            &[0.0; 7],
            (&[0.0; 4 * BLOCK], &[0.0; BLOCK]),
            &mut [0.0; 2],
        );
    }
}
