//! The order of a run, computed and never stored.
//!
//! Pure: no I/O, no clock. What is delivered at (epoch, step) is a function of the samples' sizes
//! and of [`PlanSpec`], with random access, and does not know how many ranks there are.
//!
//! Each epoch, the samples of every bucket are permuted, and so is the schedule of all batches of
//! all buckets. A global batch is one run of its bucket's order; ranks take contiguous slices of
//! it, so the slices laid end to end are the same list for every world size.

mod bucket;
mod permute;
mod seeds;
mod transform;

pub use bucket::{Size, buckets, nearest};
pub use permute::Permutation;
pub use seeds::{Purpose, below, draw};
pub use transform::{Crop, Transform, TransformSpec, cover, transform};

use crate::error::Error;

#[cfg(test)]
mod tests;

/// Version of everything in this module that a delivered sequence depends on.
pub const ORDER_VERSION: u32 = 1;

/// Order of samples and of batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shuffle {
    /// Samples of a bucket, and batches of all buckets, permuted anew every epoch.
    Full,
    /// Bucket after bucket, each in the order of the dataset.
    None,
}

/// What becomes of a bucket's last, incomplete batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tail {
    /// Filled up with samples from the front of the bucket's order, flagged as padding.
    Pad,
    /// Left out; see [`Report::dropped`].
    Drop,
    /// Delivered short. A rank's share may then be empty.
    Short,
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
    /// The output sizes, without repetition.
    pub buckets: Vec<Size>,
    /// What is drawn for each sample.
    pub transform: TransformSpec,
}

/// One place in a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Which sample: its index in the dataset.
    pub sample: u64,
    /// Where it stands in its bucket's order of this epoch.
    pub place: u64,
    /// Whether it only fills up the batch and is delivered elsewhere in this epoch as well.
    pub padding: bool,
}

/// What one step delivers, or one rank's share of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedBatch {
    /// Index into [`Report::buckets`].
    pub bucket: usize,
    /// Output size of every sample.
    pub size: Size,
    /// The samples, in order.
    pub positions: Vec<Position>,
}

/// What became of the samples of one bucket, in every epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BucketReport {
    /// Output size.
    pub size: Size,
    /// Samples assigned to it.
    pub samples: u64,
    /// Global batches.
    pub batches: u64,
    /// Places filled a second time to complete the last batch.
    pub padded: u64,
    /// Samples left out with an incomplete last batch.
    pub dropped: u64,
}

/// What becomes of the samples, in every epoch: nothing is silent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// One entry for each bucket that has samples.
    pub buckets: Vec<BucketReport>,
    /// Samples that cannot be transformed or read, and so are always substituted.
    pub unusable: u64,
    /// Steps of one epoch.
    pub steps: u64,
    /// Sum over the buckets.
    pub padded: u64,
    /// Sum over the buckets.
    pub dropped: u64,
}

#[derive(Clone, Debug)]
struct Bucket {
    report: BucketReport,
    /// Where its samples start in `Plan::members`.
    start: usize,
    /// Number of its first batch, counting through all buckets.
    first_slot: u64,
}

/// The order of a dataset.
#[derive(Clone, Debug)]
pub struct Plan {
    spec: PlanSpec,
    /// Sample indices, bucket after bucket, ascending within each.
    members: Vec<u32>,
    buckets: Vec<Bucket>,
    steps: u64,
    unusable: Vec<u64>,
}

impl Plan {
    /// Lays out a dataset. `sizes` holds the size of each sample, or `None` for one that cannot be
    /// read: it keeps its place, in the fullest bucket, so that nothing else moves.
    ///
    /// # Errors
    /// [`Error::Config`] if no batch can be formed.
    pub fn new(
        spec: PlanSpec,
        sizes: impl Iterator<Item = Option<Size>> + Clone,
    ) -> Result<Self, Error> {
        let place = |size: Option<Size>| {
            let at = nearest(&spec.buckets, size?);
            // A needle of an image may need more pixels to cover its bucket than the wire allows.
            cover(size?, spec.buckets[at]).map(|_| at)
        };
        let mut counts = vec![0_u64; spec.buckets.len()];
        let mut unusable = Vec::new();
        for (sample, size) in (0_u64..).zip(sizes.clone()) {
            match place(size) {
                Some(at) => counts[at] += 1,
                None => unusable.push(sample),
            }
        }
        // The first of the fullest; `max_by_key` alone would take the last.
        let fullest = (0..counts.len())
            .rev()
            .max_by_key(|&at| counts[at])
            .unwrap_or(0);
        if counts.iter().all(|&count| count == 0) {
            return Err(Error::config("dataset", "has no usable image"));
        }
        counts[fullest] += unusable.len() as u64;

        let mut next = Vec::with_capacity(counts.len());
        let mut total = 0;
        for &count in &counts {
            next.push(total);
            total += usize::try_from(count).unwrap_or(usize::MAX);
        }
        let starts = next.clone();
        let mut members = vec![0_u32; total];
        for (sample, size) in (0_u32..).zip(sizes) {
            let at = place(size).unwrap_or(fullest);
            members[next[at]] = sample;
            next[at] += 1;
        }
        let (buckets, steps) = lay_out(&spec, &counts, &starts);
        if steps == 0 {
            let reason = format!(
                "is {}, more than any bucket holds, and incomplete batches are dropped: lower it, \
                 use fewer buckets, or set `tail` to Pad",
                spec.global_batch
            );
            return Err(Error::config("global_batch", reason));
        }
        Ok(Self {
            spec,
            members,
            buckets,
            steps,
            unusable,
        })
    }

    /// Steps of one epoch.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// What the order was made from.
    pub fn spec(&self) -> &PlanSpec {
        &self.spec
    }

    /// Samples that cannot be read or transformed, ascending.
    pub fn unusable(&self) -> &[u64] {
        &self.unusable
    }

    /// What a step delivers, over all ranks.
    ///
    /// # Panics
    /// If `step` is not below [`Self::steps`].
    pub fn global_batch(&self, epoch: u64, step: u64) -> PlannedBatch {
        self.rank_slice(epoch, step, (0, 1))
    }

    /// What a step delivers to `rank` of `world_size`: places `rank * n / world_size` up to
    /// `(rank + 1) * n / world_size` of the batch's `n`.
    ///
    /// # Panics
    /// If `step` is not below [`Self::steps`].
    pub fn rank_slice(
        &self,
        epoch: u64,
        step: u64,
        (rank, world_size): (u32, u32),
    ) -> PlannedBatch {
        assert!(step < self.steps, "step {step} of {}", self.steps);
        let slot = match self.spec.shuffle {
            Shuffle::Full => {
                let key = draw(self.spec.seed, epoch, 0, Purpose::Schedule);
                Permutation::new(self.steps, key).get(step)
            }
            Shuffle::None => step,
        };
        let index = self
            .buckets
            .partition_point(|bucket| bucket.first_slot <= slot)
            - 1;
        let bucket = &self.buckets[index];
        let samples = bucket.report.samples;
        let batch = u64::from(self.spec.global_batch);
        let first = (slot - bucket.first_slot) * batch;
        let len = match self.spec.tail {
            Tail::Short => batch.min(samples - first),
            Tail::Pad | Tail::Drop => batch,
        };
        let cut = |rank: u32| first + u64::from(rank) * len / u64::from(world_size);
        let order = self.order(epoch, index);
        let positions = (cut(rank)..cut(rank + 1))
            .map(|at| Position {
                sample: self.member(index, &order, at % samples),
                place: at % samples,
                padding: at >= samples,
            })
            .collect();
        PlannedBatch {
            bucket: index,
            size: bucket.report.size,
            positions,
        }
    }

    /// The samples that follow `place` in the bucket's order of the epoch, starting over at its
    /// end, without `place` itself.
    pub fn following(
        &self,
        epoch: u64,
        bucket: usize,
        place: u64,
    ) -> impl Iterator<Item = u64> + use<'_> {
        let samples = self.buckets[bucket].report.samples;
        let order = self.order(epoch, bucket);
        (1..samples).map(move |ahead| self.member(bucket, &order, (place + ahead) % samples))
    }

    /// The geometry of a sample in an epoch; `None` for one that cannot be transformed.
    pub fn transform(
        &self,
        epoch: u64,
        sample: u64,
        source: Size,
        size: Size,
    ) -> Option<Transform> {
        let key = (self.spec.seed, epoch, sample);
        transform(self.spec.transform, key, source, size)
    }

    /// The key of a sample's posterior draw in an epoch.
    pub fn posterior_seed(&self, epoch: u64, sample: u64) -> u64 {
        draw(self.spec.seed, epoch, sample, Purpose::Posterior)
    }

    /// What becomes of the samples.
    pub fn report(&self) -> Report {
        let buckets: Vec<_> = self.buckets.iter().map(|bucket| bucket.report).collect();
        Report {
            unusable: self.unusable.len() as u64,
            steps: self.steps,
            padded: buckets.iter().map(|bucket| bucket.padded).sum(),
            dropped: buckets.iter().map(|bucket| bucket.dropped).sum(),
            buckets,
        }
    }

    /// The order of a bucket's samples, or `None` for that of the dataset.
    fn order(&self, epoch: u64, bucket: usize) -> Option<Permutation> {
        let BucketReport { size, samples, .. } = self.buckets[bucket].report;
        // Keyed by what the bucket is, not by its number, which other samples can change.
        let name = (u64::from(size.width) << 32) | u64::from(size.height);
        (self.spec.shuffle == Shuffle::Full).then(|| {
            let key = draw(self.spec.seed, epoch, name, Purpose::Order);
            Permutation::new(samples, key)
        })
    }

    fn member(&self, bucket: usize, order: &Option<Permutation>, place: u64) -> u64 {
        let at = order.as_ref().map_or(place, |order| order.get(place));
        u64::from(self.members[self.buckets[bucket].start + at as usize])
    }
}

/// The buckets that have samples, and the number of steps.
fn lay_out(spec: &PlanSpec, counts: &[u64], starts: &[usize]) -> (Vec<Bucket>, u64) {
    let batch = u64::from(spec.global_batch);
    let mut buckets = Vec::new();
    let mut slots = 0;
    for ((&size, &samples), &start) in spec.buckets.iter().zip(counts).zip(starts) {
        let batches = match spec.tail {
            Tail::Pad | Tail::Short => samples.div_ceil(batch),
            Tail::Drop => samples / batch,
        };
        if samples == 0 {
            continue;
        }
        let places = batches * batch;
        let report = BucketReport {
            size,
            samples,
            batches,
            padded: if spec.tail == Tail::Pad {
                places - samples
            } else {
                0
            },
            dropped: samples.saturating_sub(places),
        };
        buckets.push(Bucket {
            report,
            start,
            first_slot: slots,
        });
        slots += batches;
    }
    (buckets, slots)
}
