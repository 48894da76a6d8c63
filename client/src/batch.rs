//! What the trainer gets.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use preheat_proto::DType;

use crate::plan::{MicroConditioning, Size, Transform};

/// One rank's share of a step.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Counting from 0.
    pub epoch: u64,
    /// Counting from 0 in every epoch.
    pub step: u64,
    /// Size of the images that were encoded, in pixels; the same on all ranks.
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
}

/// Latents of equal shape, contiguous, little-endian.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Latents {
    /// Element type.
    pub dtype: DType,
    /// Samples, channels, height, width; the latter two in latent cells.
    pub shape: [u32; 4],
    /// The elements, row by row.
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
            size_of::<SampleInfo>() + one.key.len() + parts.sum::<usize>()
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

/// Lays tensors of `bytes` each end to end: in place if they already are, else with one copy, and
/// what is copied is let go at once, so that a batch is never held twice.
pub(crate) fn join(tensors: Vec<Tensor>, bytes: usize) -> Bytes {
    let Some(first) = tensors.first() else {
        return Bytes::new();
    };
    let in_place = tensors.iter().enumerate().all(|(at, tensor)| {
        tensor.buffer.as_ptr() == first.buffer.as_ptr()
            && tensor.buffer.len() == first.buffer.len()
            && tensor.offset == first.offset + at * bytes
    });
    if in_place {
        let end = first.offset + tensors.len() * bytes;
        return first.buffer.slice(first.offset..end);
    }
    let mut joined = BytesMut::with_capacity(tensors.len() * bytes);
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
        let at = |offset| Tensor {
            buffer: buffer.clone(),
            offset,
        };
        let joined = join(vec![at(64), at(128)], 64);
        assert_eq!(joined.as_ptr(), buffer[64..].as_ptr());
        assert_eq!(joined.len(), 128);
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
