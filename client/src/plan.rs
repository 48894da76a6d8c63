//! The order of a run, computed and never stored.
//!
//! Pure: no I/O, no clock. What is delivered at (epoch, step) is a function of the samples' sizes
//! and of [`PlanSpec`], with random access, and does not know how many ranks there are.
//!
//! One pass over the samples lays them out: which are in which bucket. Each epoch then has an order
//! of every bucket's samples and an order of all batches of all buckets, both drawn, neither stored.
//! A global batch is one run of its bucket's order; ranks take contiguous slices of it, so the
//! slices laid end to end are the same list for every world size.

mod blocked;
mod bucket;
mod check;
mod choose;
mod clip;
mod given;
pub(crate) mod layout;
mod permute;
mod report;
mod seeds;
mod slots;
mod spec;
mod transform;
mod weights;

pub use bucket::{Size, buckets, nearest};
pub use check::{MAX_IDS, MAX_REPEATS, MAX_SIZES};
pub use clip::{ClipSpec, Extent, MAX_LENGTHS, MAX_PACE, Pace, Pick, Rate, Seconds, Start};
pub use layout::MAX_BLOCK_TABLE;
pub use permute::Permutation;
pub use report::{BucketReport, Report, SmallBucket};
pub use seeds::{Purpose, below, draw};
pub use spec::{Block, Buckets, PlanSpec, Samples, Shuffle, SmallBuckets, Subset, Tail};
pub use transform::{Crop, MicroConditioning, Transform, TransformSpec, cover, transform};
pub use weights::{MAX_EPOCH_SAMPLES, MAX_WEIGHT, Share, Shares, Weights};

use std::sync::Arc;

use crate::error::Error;
use layout::Layout;
use slots::Bucket;
use weights::Weighted;
pub(crate) use weights::Zeros;

#[cfg(test)]
mod tests;

/// Version of everything in this module that a delivered sequence depends on.
pub const ORDER_VERSION: u32 = 1;

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

/// What else the order of batches is made from.
#[derive(Clone, Debug)]
enum Order {
    Full,
    None,
    Blocked(blocked::Blocks),
    /// The batch of each step, counting through all buckets.
    Given(Vec<u32>),
}

/// The order of one bucket's samples in one epoch.
enum Walk<'a> {
    /// That of the layout, over and over.
    Plain,
    Permuted(Permutation),
    Blocked(blocked::Walk<'a>),
    Weighted(weights::Walk<'a>),
}

/// The order of a dataset.
#[derive(Clone, Debug)]
pub struct Plan {
    spec: PlanSpec,
    layout: Layout,
    buckets: Vec<Bucket>,
    steps: u64,
    unusable: Vec<u64>,
    order: Order,
    /// Where weights differ.
    weighted: Option<Arc<Weighted>>,
}

impl Plan {
    /// Lays out a dataset. A sample that cannot be read keeps its place, in the fullest bucket, so
    /// that nothing else moves.
    ///
    /// # Errors
    /// [`Error::Config`] if the spec makes no sense for this dataset or no batch can be formed.
    pub fn new(spec: PlanSpec, samples: &impl Samples) -> Result<Self, Error> {
        spec.check()?;
        let layout = Layout::new(&spec, samples, &|_, _| {})?;
        Self::from_layout(spec, layout)
    }

    /// The order over a layout of the same spec and samples.
    pub(crate) fn from_layout(spec: PlanSpec, layout: Layout) -> Result<Self, Error> {
        let weighted = Weighted::new(&spec, &layout)?;
        let (buckets, steps) = slots::lay_out(&spec, &layout.outline.buckets, weighted.as_ref());
        if steps == 0 {
            let reason = format!(
                "is {}, more than any bucket holds, and incomplete batches are dropped: lower it, \
                 use fewer buckets, or set `tail` to Pad",
                spec.global_batch
            );
            return Err(Error::config("global_batch", reason));
        }
        let order = match &spec.shuffle {
            Shuffle::Full => Order::Full,
            Shuffle::None => Order::None,
            Shuffle::Blocked(block) => Order::Blocked(blocked::Blocks::new(*block)),
            Shuffle::Given(_) => Order::Given(given::schedule(&spec, &buckets, &layout.table)),
        };
        Ok(Self {
            unusable: layout.unusable.iter().map(u64::from).collect(),
            spec,
            layout,
            buckets,
            steps,
            order,
            weighted: weighted.map(Arc::new),
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
        let (index, number) = self.batch(epoch, step);
        let bucket = &self.buckets[index];
        let places = bucket.report.places;
        let batch = u64::from(self.spec.global_batch);
        let first = number * batch;
        let len = match self.spec.tail {
            Tail::Short => batch.min(places - first),
            Tail::Pad | Tail::Drop => batch,
        };
        let cut = |rank: u32| first + u64::from(rank) * len / u64::from(world_size);
        let mut walk = self.walk(epoch, index);
        let place = |at: u64| if at >= places { at % places } else { at };
        let range = cut(rank)..cut(rank + 1);
        let members = range.clone();
        let members: Vec<_> = members
            .map(|at| self.member(index, &mut walk, place(at)))
            .collect();
        let samples = self.layout.members(&members);
        let positions = range
            .zip(samples)
            .map(|(at, sample)| Position {
                sample: sample.into(),
                place: place(at),
                padding: at >= places,
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
        let places = self.buckets[bucket].report.places;
        let mut walk = self.walk(epoch, bucket);
        (1..places).map(move |ahead| {
            let member = self.member(bucket, &mut walk, (place + ahead) % places);
            u64::from(self.layout.members.get(member))
        })
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

    /// The frames of a sample in an epoch, out of a video with these timestamps: of a clip of `length`,
    /// or of a window. Where the plan is one of images, the first frame.
    pub fn pick(
        &self,
        (epoch, sample): (u64, u64),
        video: (&Extent, &[i64]),
        clip: (u32, Option<u32>),
    ) -> Pick {
        let key = (self.spec.seed, epoch, sample);
        let still = ClipSpec {
            frames: vec![1],
            pace: Pace::Stride(1),
            start: Start::First,
        };
        let spec = self.spec.clips.as_ref().unwrap_or(&still);
        spec.pick(key, video, clip)
    }

    /// The key of a sample's posterior draw in an epoch.
    pub fn posterior_seed(&self, epoch: u64, sample: u64) -> u64 {
        draw(self.spec.seed, epoch, sample, Purpose::Posterior)
    }

    /// Whether a sample goes without its caption in an epoch, with this probability.
    pub fn caption_dropped(&self, (epoch, sample): (u64, u64), probability: f32) -> bool {
        let bits = draw(self.spec.seed, epoch, sample, Purpose::Caption);
        seeds::between(bits, 0.0, f64::from(probability))
    }

    /// What becomes of the samples.
    pub fn report(&self) -> Report {
        let buckets: Vec<_> = self.buckets.iter().map(|bucket| bucket.report).collect();
        let outline = &self.layout.outline;
        let left_out = outline.small.iter().filter(|small| small.into.is_none());
        Report {
            samples: outline.samples,
            outside: outline.outside,
            weightless: outline.weightless,
            left_out: left_out.map(|small| small.samples).sum(),
            small: outline.small.clone(),
            unusable: outline.unusable,
            steps: self.steps,
            padded: buckets.iter().map(|bucket| bucket.padded).sum(),
            dropped: buckets.iter().map(|bucket| bucket.dropped).sum(),
            buckets,
        }
    }

    /// Which bucket's batch a step delivers, and its number.
    fn batch(&self, epoch: u64, step: u64) -> (usize, u64) {
        let slot = match &self.order {
            Order::Blocked(blocks) => {
                let at = (&self.spec, epoch);
                let table = blocks.table(at, &self.buckets, self.ground());
                return table.batch(at, &self.buckets, step);
            }
            Order::Full => {
                let key = draw(self.spec.seed, epoch, 0, Purpose::Schedule);
                Permutation::new(self.steps, key).get(step)
            }
            Order::None => step,
            Order::Given(slots) => u64::from(slots[step as usize]),
        };
        let first = |bucket: &Bucket| bucket.first_slot <= slot;
        let index = self.buckets.partition_point(first) - 1;
        (index, slot - self.buckets[index].first_slot)
    }

    /// The order of a bucket's samples in an epoch.
    fn walk(&self, epoch: u64, bucket: usize) -> Walk<'_> {
        let at = (&self.spec, epoch);
        let key = self.buckets[bucket].key(at, Purpose::Order);
        let drawn = || self.buckets[bucket].key(at, Purpose::Drawn);
        let places = self.buckets[bucket].report.places;
        match (&self.order, &self.weighted) {
            (Order::Blocked(blocks), _) => {
                let ground = self.ground();
                Walk::Blocked(blocked::Walk {
                    table: blocks.table(at, &self.buckets, ground),
                    ground,
                    bucket,
                    repeats: u64::from(self.spec.repeats),
                    key,
                    drawn: drawn(),
                    last: None,
                })
            }
            (order, Some(weighted)) => {
                let full = matches!(order, Order::Full);
                Walk::Weighted(weights::Walk {
                    weighted,
                    bucket,
                    comb: weighted.courses[bucket].comb(drawn()),
                    key: drawn(),
                    order: full.then(|| Permutation::new(places, key)),
                })
            }
            (Order::Full, None) => Walk::Permuted(Permutation::new(places, key)),
            (Order::None | Order::Given(_), None) => Walk::Plain,
        }
    }

    /// What blocks are made of.
    fn ground(&self) -> blocked::Ground<'_> {
        blocked::Ground {
            rows: &self.layout.table,
            weighted: self.weighted.as_deref(),
        }
    }

    /// Where in the layout's list of members the sample at a place of the bucket's order is.
    fn member(&self, bucket: usize, walk: &mut Walk<'_>, place: u64) -> usize {
        let Bucket { report, start, .. } = &self.buckets[bucket];
        let member = match walk {
            Walk::Plain => place % report.samples,
            Walk::Permuted(order) => order.get(place) / u64::from(self.spec.repeats),
            Walk::Blocked(walk) => walk.member(place),
            Walk::Weighted(walk) => walk.member(place),
        };
        start + member as usize
    }
}
