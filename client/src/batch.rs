//! What the trainer gets.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use preheat_proto::DType;

use crate::plan::{Size, Transform};

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
}

/// Where a latent came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SampleInfo {
    /// Index of the sample in the dataset.
    pub id: u64,
    /// Its path, relative to the dataset.
    pub key: String,
    /// Whether it only fills up the batch and is delivered elsewhere in this epoch as well.
    pub padding: bool,
    /// The bad sample that it stands in for, if any.
    pub substitute_of: Option<u64>,
    /// What was done to the image.
    pub transform: Transform,
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

    /// Bytes that it holds.
    pub(crate) fn bytes(&self) -> usize {
        let parts = self.samples.iter().flat_map(|sample| &sample.parts);
        self.latents.data.len() + parts.map(|(_, content)| content.len()).sum::<usize>()
    }
}

/// One tensor in one buffer.
#[derive(Clone, Debug)]
pub(crate) struct Tensor {
    pub(crate) buffer: Bytes,
    pub(crate) offset: usize,
}

/// Lays tensors of `bytes` each end to end: in place if they already are, else with one copy.
pub(crate) fn join(tensors: &[Tensor], bytes: usize) -> Bytes {
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
        let joined = join(&[at(64), at(128)], 64);
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
        assert_eq!(join(&[at(&one, 2), at(&two, 0), at(&one, 0)], 2), "bbccaa");
        assert_eq!(join(&[], 2), "");
    }
}
