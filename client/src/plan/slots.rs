//! The slots of an epoch: the batches of all buckets, one bucket after the other.

use super::{
    BucketReport, PlanSpec, Purpose, Size, Tail, draw,
    layout::Filled,
    weights::{self, Weighted},
};

/// A bucket with its batches.
#[derive(Clone, Debug)]
pub(super) struct Bucket {
    pub(super) report: BucketReport,
    /// Where its samples start in `Layout::members`.
    pub(super) start: usize,
    /// Number of its first batch, counting through all buckets.
    pub(super) first_slot: u64,
}

impl Bucket {
    /// Keyed by what the bucket is, not by its number, which other samples can change.
    pub(super) fn key(&self, (spec, epoch): (&PlanSpec, u64), purpose: Purpose) -> u64 {
        let Size {
            width,
            height,
            frames,
        } = self.report.size;
        // Heights have 16 bits, and images one frame: their keys are those of before there were clips.
        let later = u64::from(frames - 1) << 16;
        let name = (u64::from(width) << 32) | later | u64::from(height);
        draw(spec.seed, epoch, name, purpose)
    }
}

/// The buckets with their batches, and the number of steps.
pub(super) fn lay_out(
    spec: &PlanSpec,
    filled: &[Filled],
    weighted: Option<&Weighted>,
) -> (Vec<Bucket>, u64) {
    let batch = u64::from(spec.global_batch);
    let mut buckets = Vec::new();
    let (mut slots, mut start) = (0, 0);
    for (at, bucket) in filled.iter().enumerate() {
        let places = weights::places(spec, weighted, at, bucket.members);
        let batches = match spec.tail {
            Tail::Pad | Tail::Short => places.div_ceil(batch),
            Tail::Drop => places / batch,
        };
        let delivered = batches * batch;
        let report = BucketReport {
            size: bucket.size(),
            samples: bucket.members,
            places,
            batches,
            padded: match spec.tail {
                Tail::Pad => delivered - places,
                Tail::Drop | Tail::Short => 0,
            },
            dropped: places.saturating_sub(delivered),
        };
        buckets.push(Bucket {
            report,
            start,
            first_slot: slots,
        });
        start += bucket.members as usize;
        slots += batches;
    }
    (buckets, slots)
}
