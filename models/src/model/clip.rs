//! Clips: chunk by chunk through a network, so that the device holds a chunk and not the clip.

use std::{fmt, iter, ops::Range};

use burn::tensor::Tensor;

use super::{Coming, HostMap, Model, Tiling};
use crate::{
    Error, Pixels,
    nn::{Ops, Past},
};

/// An encoder of clips: the part that reads as its paper reads.
pub(crate) trait ClipFamily<B: Ops>: fmt::Debug + Send {
    /// The frames of each chunk of a clip of so many, in order. Overlaps are encoded again. `fit` is how
    /// many frames the device takes at one time without strain; what a result depends on comes first.
    fn chunks(&self, frames: usize, fit: usize) -> Vec<Range<usize>>;

    /// From the pixels of a chunk in [-1, 1], `[frames, height, width, 3]`, to its latent frames,
    /// `[latent frames, height, width, channels]`: where there is a posterior the means and, after
    /// them, the log-variances. With [`Past::still`] every frame is a picture of its own.
    fn encode(&self, x: Tensor<B, 4>, past: &mut Past<B>) -> Tensor<B, 4>;

    /// Whether it must have pixels in f32 even where it computes in less.
    fn reads_f32(&self) -> bool {
        false
    }
}

/// Chunks of a network that takes one frame and then multiples of `step`: each of as many frames as
/// fit, but at least `step` of them, or the first one alone.
pub(crate) fn in_steps(frames: usize, fit: usize, step: usize) -> Vec<Range<usize>> {
    let whole = |fit: usize| fit / step * step;
    let first = frames.min(1 + whole(fit.saturating_sub(1)));
    let more = (first..frames).step_by(whole(fit).max(step));
    let more = more.map(|start| start..frames.min(start + whole(fit).max(step)));
    iter::once(0..first).chain(more).collect()
}

impl<B: Ops> Model<B> {
    /// Every clip by itself, and of every clip a chunk at a time.
    pub(super) fn clips(
        &self,
        pixels: &Pixels,
        family: &dyn ClipFamily<B>,
        mut uploaded: impl FnMut(Range<usize>) -> Tensor<B, 4>,
    ) -> Vec<Coming> {
        let chunks = family.chunks(pixels.frames, fit::<B>(pixels.height * pixels.width));
        let mut maps = Vec::new();
        for element in 0..pixels.batch {
            let first = element * pixels.frames;
            let mut past = Past::new();
            for chunk in &chunks {
                past.next_chunk();
                let x = uploaded(first + chunk.start..first + chunk.end);
                maps.push(HostMap::on_its_way(family.encode(x, &mut past)));
            }
        }
        maps
    }

    /// The same, tile by tile. The pixels of a clip lie on the device in whole.
    pub(super) fn tiled_clips(
        &self,
        pixels: &Pixels,
        (family, tiling): (&dyn ClipFamily<B>, Tiling),
        mut uploaded: impl FnMut(Range<usize>) -> Tensor<B, 4>,
    ) -> Result<HostMap, Error> {
        let encode = |tile: Tensor<B, 4>| {
            let [frames, height, width, _] = tile.dims();
            let (mut past, mut map) = (Past::new(), HostMap::default());
            for chunk in family.chunks(frames, fit::<B>(height * width)) {
                past.next_chunk();
                let x = tile.clone().narrow(0, chunk.start, chunk.len());
                map.append(HostMap::on_its_way(family.encode(x, &mut past)).join()?);
            }
            Ok(map)
        };
        let mut maps = HostMap::default();
        for element in 0..pixels.batch {
            let first = element * pixels.frames;
            let clip = uploaded(first..first + pixels.frames);
            maps.append(tiling.run(&clip, encode)?);
        }
        Ok(maps)
    }
}

/// Frames of so many pixels that the device takes at one time: as many as it gains from.
fn fit<B: Ops>(frame: usize) -> usize {
    let pixels = usize::try_from(B::BATCH_PIXELS).unwrap_or(usize::MAX);
    (pixels.min(B::PASS_PIXELS) / frame).max(1)
}

#[cfg(test)]
mod tests;
