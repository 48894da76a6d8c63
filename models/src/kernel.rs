//! Convolution and group norm for the CPU, on plain slices: no burn here, and no I/O.
//!
//! Pictures are `[n, height, width, channels]`: then the taps of one kernel row are one run of memory,
//! a convolution is a small matrix product that needs no unrolled copy of its input, and what stands
//! before it (norm, activation) is done while rows are brought into the cache.
//!
//! Every output is summed in one fixed order, so neither the batch nor the number of threads changes
//! a bit of it. Different instruction sets may differ in the last bits.

mod act;
mod conv;
mod norm;
mod rms;
#[allow(unsafe_code)] // a SIMD kernel, with its proof
mod tile;

pub(crate) use act::Act;
pub(crate) use conv::{Conv, Fused, Over, Residual};
pub(crate) use norm::{Norm, Statistics, apply};
pub(crate) use rms::Rms;

/// A batch of pictures in memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Map<'a> {
    /// Pictures that come first and lie elsewhere; they are among the `n`.
    pub(crate) before: &'a [f32],
    /// The values of the others: `height * width * channels` each.
    pub(crate) data: &'a [f32],
    pub(crate) n: usize,
    pub(crate) height: usize,
    pub(crate) width: usize,
    pub(crate) channels: usize,
}

impl<'a> Map<'a> {
    /// Values of one picture.
    pub(crate) const fn picture_len(&self) -> usize {
        self.height * self.width * self.channels
    }

    /// Picture `index`.
    pub(crate) fn picture(&self, index: usize) -> &'a [f32] {
        let (len, start) = (self.picture_len(), index * self.picture_len());
        match start.checked_sub(self.before.len()) {
            Some(start) => &self.data[start..][..len],
            None => &self.before[start..][..len],
        }
    }
}

#[cfg(test)]
mod tests;
