//! The order of [`Shuffle::Blocked`](super::Shuffle::Blocked): a table for each epoch, of shards in
//! their order and of how much of every bucket is before each of them. Making it takes one pass over
//! the shards; after that every step is a few searches away.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use super::{
    Block, Bucket, Permutation, PlanSpec, Purpose, draw,
    layout::Words,
    weights::{Comb, Weighted},
};

/// Epochs whose tables are kept: one under way, the next, which the window may have begun, and one
/// for whoever looks back.
const KEPT: usize = 3;

/// What the tables are made from.
#[derive(Clone, Copy)]
pub(super) struct Ground<'a> {
    /// The layout's table.
    pub(super) rows: &'a Words,
    pub(super) weighted: Option<&'a Weighted>,
}

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
    before: Before,
    /// Batches complete before each group, and in the end.
    slots: Vec<u64>,
    buckets: usize,
}

/// For each place, and the end, what of each bucket is before it.
#[derive(Debug)]
enum Before {
    /// Members.
    Members(Vec<u32>),
    /// Their weights, and of each bucket what is drawn for the fractions.
    Weights(Vec<[u64; 2]>, Vec<Comb>),
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
        ground: Ground<'_>,
    ) -> Arc<Table> {
        // A panic while it was held leaves nothing half done.
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, known)) = kept.iter().find(|(of, _)| *of == epoch) {
            return known.clone();
        }
        let made = Arc::new(Table::new(self.block, (spec, epoch), buckets, ground));
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back((epoch, made.clone()));
        made
    }
}

impl Table {
    fn new(block: Block, at: (&PlanSpec, u64), buckets: &[Bucket], ground: Ground<'_>) -> Self {
        let table = ground.rows;
        let (spec, epoch) = at;
        let count = buckets.len();
        let shards = (table.len() / count) as u64 - 1;
        let key = draw(spec.seed, epoch, 0, Purpose::Shards);
        let order = Permutation::new(shards, key);
        let shards: Vec<u32> = (0..shards).map(|at| order.get(at) as u32).collect();
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
            let members = |at: usize| table.get(row + count + at) - table.get(row + at);
            samples += (0..count).map(|at| u64::from(members(at))).sum::<u64>();
            of_group += 1;
        }
        groups.push(shards.len() as u32);
        let before = match ground.weighted {
            None => {
                let add = |sum, start, end| sum + (end - start);
                Before::Members(sums((&shards, count), |at| table.get(at), add))
            }
            Some(weighted) => {
                let add = |sum: [u64; 2], start: [u64; 2], end: [u64; 2]| {
                    [0, 1].map(|part| sum[part] + (end[part] - start[part]))
                };
                let combs = weighted.courses.iter().zip(buckets);
                let combs =
                    combs.map(|(course, bucket)| course.comb(bucket.key(at, Purpose::Drawn)));
                let sums = sums((&shards, count), |at| weighted.rows[at], add);
                Before::Weights(sums, combs.collect())
            }
        };
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
            let places = self.places(group, at, repeats);
            // The tail's batch, if there is one, comes with the bucket's last sample.
            if places == bucket.report.places {
                bucket.report.batches
            } else {
                places / batch
            }
        })
    }

    /// Places of a bucket before a group.
    fn places(&self, group: usize, bucket: usize, repeats: u64) -> u64 {
        let at = self.at(self.groups[group] as usize, bucket);
        match &self.before {
            Before::Members(members) => u64::from(members[at]) * repeats,
            Before::Weights(weights, combs) => {
                let [certain, fractions] = weights[at];
                certain + combs[bucket].before(fractions)
            }
        }
    }

    fn at(&self, place: usize, bucket: usize) -> usize {
        place * self.buckets + bucket
    }

    /// The group of the bucket's `place`.
    fn group(&self, bucket: usize, repeats: u64, place: u64) -> usize {
        partition(0, self.groups.len(), |group| {
            self.places(group, bucket, repeats) <= place
        }) - 1
    }
}

/// One bucket's order of one epoch.
pub(super) struct Walk<'a> {
    pub(super) table: Arc<Table>,
    pub(super) ground: Ground<'a>,
    pub(super) bucket: usize,
    pub(super) repeats: u64,
    /// Of the bucket's order in this epoch.
    pub(super) key: u64,
    /// Of what weights draw in it.
    pub(super) drawn: u64,
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
                let bound = |group| table.places(group, bucket, self.repeats);
                let places = bound(group)..bound(group + 1);
                let key = draw(self.key, 0, group as u64, Purpose::Block);
                let order = Permutation::new(places.end - places.start, key);
                (group, places, order)
            }
        };
        let drawn = order.get(place - places.start);
        self.last = Some((group, places, order));
        match (&table.before, self.ground.weighted) {
            (Before::Weights(weights, combs), Some(weighted)) => {
                self.weighted(group, drawn, (weights, &combs[bucket], weighted))
            }
            (Before::Members(members), _) => self.plain(group, drawn / self.repeats, members),
            (Before::Weights(..), None) => unreachable!("the table is made from the same ground"),
        }
    }

    fn plain(&self, group: usize, drawn: u64, before: &[u32]) -> u64 {
        let table = &*self.table;
        let at = |place| u64::from(before[table.at(place, self.bucket)]);
        let member = at(table.groups[group] as usize) + drawn;
        let shard = self.shard(group, |place| at(place) <= member);
        self.first(shard) + member - at(shard)
    }

    /// The certain deliveries of a group come first, then those that are drawn.
    fn weighted(
        &self,
        group: usize,
        place: u64,
        (before, comb, weighted): (&[[u64; 2]], &Comb, &Weighted),
    ) -> u64 {
        let table = &*self.table;
        let at = |place| before[table.at(place, self.bucket)];
        let [start, end] = [group, group + 1].map(|group| at(table.groups[group] as usize));
        let (course, gauge) = (&weighted.courses[self.bucket], &weighted.gauge);
        // What is before the shard in the order of the dataset instead of the epoch's.
        let row = |shard: usize| weighted.rows[self.row(shard)];
        let certain = end[0] - start[0];
        if place < certain {
            let wanted = start[0] + place;
            let shard = self.shard(group, |place| at(place)[0] <= wanted);
            return course.certain_at(gauge, row(shard)[0] + wanted - at(shard)[0]);
        }
        let point = comb.point(comb.before(start[1]) + place - certain);
        let shard = self.shard(group, |place| at(place)[1] <= point);
        let point = row(shard)[1] + point - at(shard)[1];
        let next = self.ground.rows.get(self.row(shard) + table.buckets);
        let members = self.first(shard)..u64::from(next);
        course.drawn_at(gauge, point, (members, row(shard)[1]), self.drawn)
    }

    /// The last shard of a group that `holds`, which holds up to some shard.
    fn shard(&self, group: usize, holds: impl Fn(usize) -> bool) -> usize {
        let [start, end] = [group, group + 1].map(|group| self.table.groups[group] as usize);
        partition(start, end, holds) - 1
    }

    /// Where in the layout's table the shard at a place is.
    fn row(&self, place: usize) -> usize {
        self.table.shards[place] as usize * self.table.buckets + self.bucket
    }

    /// The first member of the bucket in the shard at a place.
    fn first(&self, place: usize) -> u64 {
        self.ground.rows.get(self.row(place)).into()
    }
}

/// Running sums over the shards in their order, for each of so many buckets; `get` knows what is before
/// a shard in the dataset, and `add` adds what is between two such to a sum.
fn sums<T: Copy + Default>(
    (shards, buckets): (&[u32], usize),
    get: impl Fn(usize) -> T,
    add: impl Fn(T, T, T) -> T,
) -> Vec<T> {
    let mut sums = Vec::with_capacity((shards.len() + 1) * buckets);
    sums.resize(buckets, T::default());
    for &shard in shards {
        let (row, last) = (shard as usize * buckets, sums.len() - buckets);
        for at in 0..buckets {
            let (start, end) = (get(row + at), get(row + buckets + at));
            sums.push(add(sums[last + at], start, end));
        }
    }
    sums
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
