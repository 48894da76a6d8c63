//! What an order is made from.

use std::sync::Arc;

use super::{ClipSpec, Shares, Size, TransformSpec, Weights, buckets};

/// Order of samples and of batches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shuffle {
    /// Samples of a bucket, and batches of all buckets, permuted anew every epoch.
    Full,
    /// Shards permuted anew every epoch and taken in groups; samples of a bucket permuted within a
    /// group; batches in the order of the groups, permuted within one.
    ///
    /// A batch belongs to the group that completes it, so what is read at any time is the shards of
    /// one group, and of earlier groups less than `global_batch` samples of each bucket, which wait
    /// for their batch to fill. (Padding, once an epoch and bucket, is from the epoch's first
    /// groups.)
    Blocked(Block),
    /// Bucket after bucket, each in the order of the dataset. With [`PlanSpec::weights`] what is certain
    /// comes first, each sample as often as it does in a row, and then what is drawn.
    None,
    /// These sample ids are an epoch, every epoch, in this order; an id may come several times.
    /// Each batch is delivered where its last sample stands in the list, incomplete ones at the
    /// end. With one bucket that is the list itself.
    Given(Arc<[u64]>),
}

/// How much of the dataset is mixed at a time by [`Shuffle::Blocked`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Block {
    /// So many shards.
    Shards(u32),
    /// Shards until they have so many samples.
    Samples(u64),
}

/// What becomes of a bucket's last, incomplete batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tail {
    /// Filled up with samples from the front of the bucket's order, flagged as padding. A bucket
    /// smaller than a batch is repeated until it fills one.
    Pad,
    /// Left out; see [`Report::dropped`](super::Report::dropped).
    Drop,
    /// Delivered short. A rank's share may then be empty.
    Short,
}

/// The output sizes, and which of them a sample gets.
#[derive(Clone, Debug, PartialEq)]
pub enum Buckets {
    /// The sizes of [`buckets`] at one area; the one whose aspect ratio is nearest.
    Aspect {
        /// Pixels, approached from below.
        area: u64,
        /// Sides are multiples of it.
        step: u32,
        /// Longer over shorter side, at most.
        max_aspect: f64,
    },
    /// The same at each of several areas. Of the nearest size at every area, the largest that does
    /// not enlarge the image; the smallest where all would.
    Areas {
        /// Pixels, approached from below.
        areas: Vec<u64>,
        /// Sides are multiples of it.
        step: u32,
        /// Longer over shorter side, at most.
        max_aspect: f64,
    },
    /// These sizes, without repetition: the one whose aspect ratio is nearest. Of several that are
    /// equally near, the largest that does not enlarge the image; the smallest where all would.
    Sizes(Vec<Size>),
}

impl Buckets {
    /// The sizes, area after area; none twice.
    pub fn sizes(&self) -> Vec<Size> {
        let mut sizes: Vec<Size> = self.tiers().concat();
        sizes.sort_unstable();
        sizes.dedup();
        sizes
    }

    /// The sizes that compete by aspect ratio alone.
    pub(super) fn tiers(&self) -> Vec<Vec<Size>> {
        match self {
            Self::Aspect {
                area,
                step,
                max_aspect,
            } => vec![buckets(*area, *step, *max_aspect)],
            Self::Areas {
                areas,
                step,
                max_aspect,
            } => areas
                .iter()
                .map(|&area| buckets(area, *step, *max_aspect))
                .collect(),
            Self::Sizes(sizes) => vec![sizes.clone()],
        }
    }
}

/// What becomes of buckets with few samples. Each is named in [`Report`](super::Report).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SmallBuckets {
    /// They stay: their incomplete batches are the tail's business.
    Keep,
    /// Their samples go to the bucket of the nearest aspect ratio that has any, smallest bucket
    /// first, until none has fewer than `below`.
    Merge {
        /// Samples.
        below: u64,
    },
    /// Their samples are left out.
    Drop {
        /// Samples.
        below: u64,
    },
}

/// Which samples take part.
#[derive(Clone, Debug, PartialEq)]
pub enum Subset {
    /// All.
    All,
    /// Ids from `start` up to, not including, `end`.
    Range {
        /// The first.
        start: u64,
        /// The one after the last.
        end: u64,
    },
    /// Those whose hash with `seed`, as a number from 0 to 1, is at least `from` and below `to`:
    /// 0 to 0.99 and 0.99 to 1, with one seed, split off a hundredth for validation, whatever the
    /// run's own seed.
    Fraction {
        /// Where the share begins, 0 to 1.
        from: f64,
        /// Where it ends, 0 to 1.
        to: f64,
        /// Of the hash.
        seed: u64,
    },
    /// These ids, ascending.
    Ids(Arc<[u64]>),
}

/// Everything that the order depends on, apart from the samples.
#[derive(Clone, Debug)]
pub struct PlanSpec {
    /// Seed of every draw.
    pub seed: u64,
    /// Samples of one step, over all ranks.
    pub global_batch: u32,
    /// Order of samples and of batches.
    pub shuffle: Shuffle,
    /// What becomes of incomplete batches.
    pub tail: Tail,
    /// The output sizes.
    pub buckets: Buckets,
    /// What becomes of buckets with few samples.
    pub small_buckets: SmallBuckets,
    /// Which samples take part.
    pub subset: Subset,
    /// How often each of them is delivered in an epoch.
    pub repeats: u32,
    /// How often each sample is delivered, times `repeats`.
    pub weights: Weights,
    /// How much of an epoch comes from each source of the dataset; `None` for what they have.
    pub shares: Option<Shares>,
    /// What is drawn for each sample.
    pub transform: TransformSpec,
    /// How clips are cut out of videos; `None` where all samples are images.
    pub clips: Option<ClipSpec>,
}

impl PlanSpec {
    /// Frames of the clips that can be, shortest first: 1 of images.
    pub(super) fn lengths(&self) -> Vec<u32> {
        let lengths = self.clips.as_ref().map(ClipSpec::lengths);
        lengths.unwrap_or_else(|| vec![1])
    }
}

/// What a plan needs to know of a dataset. Ids are dense.
pub trait Samples: Sync {
    /// Samples, bad ones included.
    fn count(&self) -> u64;
    /// Size of an image, or of a video's frames; `None` for one that cannot be read.
    fn size(&self, id: u64) -> Option<Size>;
    /// Frames that a sample can give; 1 for an image.
    fn frames(&self, _id: u64) -> u32 {
        1
    }
    /// The first id of every shard, ascending from 0.
    fn shard_starts(&self) -> &[u64];
    /// Of every source the id after its last, ascending; empty where there is but one.
    fn source_ends(&self) -> &[u64] {
        &[]
    }
    /// Changes whenever a size does.
    fn fingerprint(&self) -> &str;
}
