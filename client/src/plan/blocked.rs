//! The order of [`Shuffle::Blocked`](super::Shuffle::Blocked): a table for each epoch, of shards in
//! their order and of how much of every bucket is before each of them. Making it takes one pass over
//! the shards; after that every step is a few searches away.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use super::{Block, Bucket, Permutation, PlanSpec, Purpose, draw, layout::Words};

/// Epochs whose tables are kept: one under way, the next, which the window may have begun, and one
/// for whoever looks back.
const KEPT: usize = 3;

/// Makes the tables and keeps the latest.
#[derive(Clone, Debug)]
pub(super) struct Blocks {
    block: Block,
    kept: Arc<Mutex<Kept>>,
}

/// The latest tables, each with its epoch.
type Kept = VecDeque<(u64, Arc<Table>)>;

/// One epoch's order of shards and groups.
#[derive(Debug)]
pub(super) struct Table {
    /// The shard at each place of the epoch's order.
    shards: Vec<u32>,
    /// The place at which each group begins, and the end.
    groups: Vec<u32>,
    /// For each place, and the end, the members of each bucket before it.
    before: Vec<u32>,
    /// Batches complete before each group, and in the end.
    slots: Vec<u64>,
    buckets: usize,
}

impl Blocks {
    pub(super) fn new(block: Block) -> Self {
        Self {
            block,
            kept: Arc::default(),
        }
    }

    pub(super) fn table(
        &self,
        (spec, epoch): (&PlanSpec, u64),
        buckets: &[Bucket],
        table: &Words,
    ) -> Arc<Table> {
        // A panic while it was held leaves nothing half done.
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, known)) = kept.iter().find(|(of, _)| *of == epoch) {
            return known.clone();
        }
        let made = Arc::new(Table::new(self.block, (spec, epoch), buckets, table));
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back((epoch, made.clone()));
        made
    }
}

impl Table {
    fn new(block: Block, at: (&PlanSpec, u64), buckets: &[Bucket], table: &Words) -> Self {
        let (spec, epoch) = at;
        let count = buckets.len();
        let shards = (table.len() / count) as u64 - 1;
        let key = draw(spec.seed, epoch, 0, Purpose::Shards);
        let order = Permutation::new(shards, key);
        let shards: Vec<u32> = (0..shards).map(|at| order.get(at) as u32).collect();
        let mut before = Vec::with_capacity((shards.len() + 1) * count);
        before.resize(count, 0);
        let mut groups = vec![0];
        let (mut of_group, mut samples) = (0_u32, 0_u64);
        for (at, &shard) in (0_u32..).zip(&shards) {
            let full = match block {
                Block::Shards(most) => of_group >= most,
                Block::Samples(most) => samples >= most,
            };
            if full {
                groups.push(at);
                (of_group, samples) = (0, 0);
            }
            let row = shard as usize * count;
            let last = before.len() - count;
            for bucket in 0..count {
                let more = table.get(row + count + bucket) - table.get(row + bucket);
                before.push(before[last + bucket] + more);
                samples += u64::from(more);
            }
            of_group += 1;
        }
        groups.push(shards.len() as u32);
        let mut made = Self {
            shards,
            groups,
            before,
            slots: Vec::new(),
            buckets: count,
        };
        made.slots = (0..made.groups.len())
            .map(|group| made.done(spec, buckets, group).sum())
            .collect();
        made
    }

    /// Which bucket's batch a step delivers, and its number.
    pub(super) fn batch(
        &self,
        (spec, epoch): (&PlanSpec, u64),
        buckets: &[Bucket],
        step: u64,
    ) -> (usize, u64) {
        let group = self.slots.partition_point(|&before| before <= step) - 1;
        let first = self.slots[group];
        let key = draw(spec.seed, epoch, group as u64, Purpose::Group);
        let mut at = Permutation::new(self.slots[group + 1] - first, key).get(step - first);
        let done = self.done(spec, buckets, group);
        let then = self.done(spec, buckets, group + 1);
        for (bucket, (done, then)) in done.zip(then).enumerate() {
            if at < then - done {
                return (bucket, done + at);
            }
            at -= then - done;
        }
        unreachable!("the slots of a group are the sum over its buckets")
    }

    /// Batches of each bucket that are complete before a group.
    fn done(&self, spec: &PlanSpec, buckets: &[Bucket], group: usize) -> impl Iterator<Item = u64> {
        let (batch, repeats) = (u64::from(spec.global_batch), u64::from(spec.repeats));
        buckets.iter().enumerate().map(move |(at, bucket)| {
            let places = self.members(group, at) * repeats;
            // The tail's batch, if there is one, comes with the bucket's last sample.
            if places == bucket.report.places {
                bucket.report.batches
            } else {
                places / batch
            }
        })
    }

    /// Members of a bucket before a group.
    fn members(&self, group: usize, bucket: usize) -> u64 {
        u64::from(self.at(self.groups[group] as usize, bucket))
    }

    fn at(&self, place: usize, bucket: usize) -> u32 {
        self.before[place * self.buckets + bucket]
    }

    /// The group of the bucket's `place`.
    fn group(&self, bucket: usize, repeats: u64, place: u64) -> usize {
        partition(0, self.groups.len(), |group| {
            self.members(group, bucket) * repeats <= place
        }) - 1
    }
}

/// One bucket's order of one epoch.
pub(super) struct Walk<'a> {
    pub(super) table: Arc<Table>,
    /// The layout's table.
    pub(super) rows: &'a Words,
    pub(super) bucket: usize,
    pub(super) repeats: u64,
    /// Of the bucket's order in this epoch.
    pub(super) key: u64,
    /// The group of the last place, its first and last but one place, and its order.
    pub(super) last: Option<(usize, std::ops::Range<u64>, Permutation)>,
}

impl Walk<'_> {
    /// Which member of the bucket stands at a place of its order.
    pub(super) fn member(&mut self, place: u64) -> u64 {
        let (table, bucket) = (&*self.table, self.bucket);
        let (group, places, order) = match self.last.take() {
            Some(last) if last.1.contains(&place) => last,
            _ => {
                let group = table.group(bucket, self.repeats, place);
                let bound = |group| table.members(group, bucket) * self.repeats;
                let places = bound(group)..bound(group + 1);
                let key = draw(self.key, 0, group as u64, Purpose::Block);
                let order = Permutation::new(places.end - places.start, key);
                (group, places, order)
            }
        };
        let drawn = order.get(place - places.start) / self.repeats;
        let (start, end) = (
            table.groups[group] as usize,
            table.groups[group + 1] as usize,
        );
        let member = u64::from(table.at(start, bucket)) + drawn;
        let shard = partition(start, end, |at| u64::from(table.at(at, bucket)) <= member) - 1;
        self.last = Some((group, places, order));
        let row = table.shards[shard] as usize * table.buckets;
        let first = u64::from(self.rows.get(row + bucket));
        first + member - u64::from(table.at(shard, bucket))
    }
}

/// The first of `start..end` for which `holds` does not, where it holds up to some point.
fn partition(start: usize, end: usize, holds: impl Fn(usize) -> bool) -> usize {
    let (mut start, mut end) = (start, end);
    while start < end {
        let middle = start.midpoint(end);
        if holds(middle) {
            start = middle + 1;
        } else {
            end = middle;
        }
    }
    start
}
