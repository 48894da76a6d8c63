//! What the trainer gets.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use preheat_proto::DType;

use crate::plan::{MicroConditioning, Seconds, Size, Transform};

/// Where latents may begin: what allocators give everything.
pub const LATENTS_ALIGN: usize = 16;

/// One rank's share of a step.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Counting from 0.
    pub epoch: u64,
    /// Counting from 0 in every epoch.
    pub step: u64,
    /// Size of the images that were encoded, in pixels, and frames of the clips; the same on all ranks.
    pub bucket: Size,
    /// One entry for each latent, in order.
    pub samples: Vec<SampleInfo>,
    /// The latents.
    pub latents: Latents,
    /// Whether this is a batch of before with another place: see
    /// [`Config::headspace`](crate::Config::headspace). Not for training.
    pub replayed: bool,
}

/// Where a latent came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SampleInfo {
    /// Index of the sample in the dataset.
    pub id: u64,
    /// Its path, relative to the dataset; in a mix after the name of its source.
    pub key: String,
    /// Which of [`Dataset::sources`](crate::Dataset::sources) it is from; 0 in a dataset that is no mix.
    pub source: usize,
    /// Whether it only fills up the batch and is delivered elsewhere in this epoch as well.
    pub padding: bool,
    /// The bad sample that it stands in for, if any.
    pub substitute_of: Option<u64>,
    /// Whether its latent is one. Under [`BadSamples::Skip`](crate::BadSamples::Skip) that of a bad
    /// sample is zeros, and to be masked out of the loss; its transform means nothing.
    pub valid: bool,
    /// What was done to the image.
    pub transform: Transform,
    /// What SDXL is told of it.
    pub micro_conditioning: MicroConditioning,
    /// Whether to train on an empty caption instead of its own; drawn, see
    /// [`Config::caption_dropout`](crate::Config::caption_dropout).
    pub caption_dropped: bool,
    /// Key of its posterior draw.
    pub seed: u64,
    /// What travels with it, name and content: captions, classes, metadata. Of the sample that was
    /// delivered, not of one that it stands in for.
    pub parts: Vec<(Arc<str>, Bytes)>,
    /// Which frames of its video it has; `None` of an image, and where it is not [`Self::valid`].
    pub clip: Option<ClipInfo>,
}

/// A clip's place in its video.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClipInfo {
    /// When it begins, on the video's clock.
    pub start: Seconds,
    /// Its frames, by number in the video, counted from 0.
    pub frames: Arc<[u32]>,
    /// When these are shown, in ticks of the video's clock.
    pub times: Arc<[i64]>,
    /// Seconds of a tick, as a fraction.
    pub time_base: (u32, u32),
}

/// Latents of equal shape, contiguous, little-endian.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Latents {
    /// Element type.
    pub dtype: DType,
    /// Samples, channels, height, width; the latter two in latent cells. In a run of clips samples,
    /// channels, frames, height, width, also where clips have one frame.
    pub shape: Vec<u32>,
    /// The elements, row by row. They begin where elements may ([`LATENTS_ALIGN`]), and are nobody
    /// else's: `Bytes::try_into_mut` gives them to write to, without a copy. (Under
    /// [`Config::headspace`](crate::Config::headspace) they are shared with later batches.)
    pub data: Bytes,
}

impl Batch {
    /// The ids of its samples, in order.
    pub fn ids(&self) -> Vec<u64> {
        self.samples.iter().map(|sample| sample.id).collect()
    }

    /// Which latents to train on, in order: all, but under
    /// [`BadSamples::Skip`](crate::BadSamples::Skip).
    pub fn mask(&self) -> Vec<bool> {
        self.samples.iter().map(|sample| sample.valid).collect()
    }

    /// Bytes that it keeps in memory.
    pub(crate) fn held_bytes(&self) -> u64 {
        let samples = self.samples.iter().map(|one| {
            let parts = one.parts.iter().map(|(_, content)| content.len());
            let clip = one.clip.as_ref().map_or(0, |clip| 12 * clip.frames.len());
            size_of::<SampleInfo>() + one.key.len() + parts.sum::<usize>() + clip
        });
        (self.latents.data.len() + samples.sum::<usize>()) as u64
    }
}

/// One tensor in one buffer.
#[derive(Clone, Debug)]
pub(crate) struct Tensor {
    pub(crate) buffer: Bytes,
    pub(crate) offset: usize,
}

/// Lays tensors of `bytes` each end to end: in place if they already are, and where they may stay; else
/// with one copy, and what is copied is let go at once, so that a batch is never held twice.
///
/// What came in one frame lies anywhere in a buffer that is the connection's too, and what the latent
/// cache still writes is the cache's: neither may be given away.
pub(crate) fn join(mut tensors: Vec<Tensor>, bytes: usize) -> Bytes {
    let Some(first) = tensors.first() else {
        return Bytes::new();
    };
    let (count, start) = (tensors.len(), first.offset);
    let in_place = tensors.iter().enumerate().all(|(at, tensor)| {
        tensor.buffer.as_ptr() == first.buffer.as_ptr()
            && tensor.buffer.len() == first.buffer.len()
            && tensor.offset == start + at * bytes
    });
    let aligned = (first.buffer.as_ptr().addr() + start).is_multiple_of(LATENTS_ALIGN);
    if in_place && aligned {
        tensors.truncate(1);
        if tensors[0].buffer.is_unique() {
            return tensors.remove(0).buffer.slice(start..start + count * bytes);
        }
        let all = &tensors[0].buffer[start..start + count * bytes];
        return BytesMut::from(all).freeze();
    }
    let mut joined = BytesMut::with_capacity(count * bytes);
    for tensor in tensors {
        // By value: the last tensor of a buffer frees it.
        joined.extend_from_slice(&tensor.buffer[tensor.offset..tensor.offset + bytes]);
    }
    joined.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contiguous_tensors_are_not_copied() {
        let buffer = Bytes::from((0..192).collect::<Vec<u8>>());
        let place = buffer[64..].as_ptr();
        let tensors = [64, 128].map(|offset| Tensor {
            buffer: buffer.clone(),
            offset,
        });
        let joined = join(tensors.clone().into(), 64);
        assert_ne!(joined.as_ptr(), place, "two others have them");
        assert_eq!(joined, buffer.slice(64..));
        drop(buffer);
        let joined = join(tensors.into(), 64);
        assert_eq!((joined.as_ptr(), joined.len()), (place, 128));
        assert_eq!(joined.try_into_mut().unwrap().as_ptr(), place);
    }

    #[test]
    fn what_lies_anywhere_is_moved() {
        let buffer = Bytes::from((0..192).collect::<Vec<u8>>());
        let wanted = buffer.slice(65..129);
        let tensor = Tensor { buffer, offset: 65 };
        let joined = join(vec![tensor], 64);
        assert_eq!(joined, wanted);
        assert!(joined.as_ptr().addr().is_multiple_of(LATENTS_ALIGN));
    }

    #[test]
    fn others_are_copied_in_order() {
        let one = Bytes::from_static(b"aabb");
        let two = Bytes::from_static(b"cc");
        let at = |buffer: &Bytes, offset| Tensor {
            buffer: buffer.clone(),
            offset,
        };
        assert_eq!(
            join(vec![at(&one, 2), at(&two, 0), at(&one, 0)], 2),
            "bbccaa"
        );
        assert_eq!(join(Vec::new(), 2), "");
    }
}
