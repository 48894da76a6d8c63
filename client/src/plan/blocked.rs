//! The order of [`Shuffle::Blocked`](super::Shuffle::Blocked): a table for each epoch, of shards in
//! their order and of how much of every bucket is before each of their groups. Making it takes one pass
//! over the shards; after that every step is a few searches away.

use std::{
    collections::VecDeque,
    ops::Range,
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

/// Sums that are added to at once.
const LANES: usize = 4;

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

/// For each group, and the end, what of each bucket is before it. What is before a shard is added up
/// where a group is walked: an epoch begins with as little as can be.
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
        let order = Permutation::new(shards, key).all();
        let shards: Vec<u32> = order.into_iter().map(|shard| shard as u32).collect();
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
            if let Block::Samples(_) = block {
                let row = shard as usize * count;
                let members = |at: usize| table.get(row + count + at) - table.get(row + at);
                samples += (0..count).map(|at| u64::from(members(at))).sum::<u64>();
            }
            of_group += 1;
        }
        groups.push(shards.len() as u32);
        let before = match ground.weighted {
            None => {
                let word = u32::from_le_bytes;
                let add = |sum, start, end| sum + (word(end) - word(start));
                Before::Members(sums((&shards, &groups, count), table.words(), add))
            }
            Some(weighted) => {
                let add = |sum: [u64; 2], start: [u64; 2], end: [u64; 2]| {
                    [0, 1].map(|part| sum[part] + (end[part] - start[part]))
                };
                let combs = weighted.courses.iter().zip(buckets);
                let combs =
                    combs.map(|(course, bucket)| course.comb(bucket.key(at, Purpose::Drawn)));
                let sums = sums((&shards, &groups, count), &weighted.rows, add);
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
        let at = group * self.buckets + bucket;
        match &self.before {
            Before::Members(members) => u64::from(members[at]) * repeats,
            Before::Weights(weights, combs) => {
                let [certain, fractions] = weights[at];
                certain + combs[bucket].before(fractions)
            }
        }
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
    /// The group of the last place.
    pub(super) last: Option<Group>,
}

/// A bucket's part of a group.
pub(super) struct Group {
    /// Its first place, and the one after its last.
    places: Range<u64>,
    order: Permutation,
    /// Where its shards begin in the epoch's order.
    first: usize,
    /// What is before each of them, and in the end: members, or the two parts of their weights.
    before: Vec<[u64; 2]>,
}

impl Walk<'_> {
    /// Which member of the bucket stands at a place of its order.
    pub(super) fn member(&mut self, place: u64) -> u64 {
        let group = match self.last.take() {
            Some(last) if last.places.contains(&place) => last,
            _ => self.enter(place),
        };
        let drawn = group.order.get(place - group.places.start);
        let member = match (&self.table.before, self.ground.weighted) {
            (Before::Weights(_, combs), Some(weighted)) => {
                self.weighted(&group, drawn, (&combs[self.bucket], weighted))
            }
            (Before::Members(_), _) => self.plain(&group, drawn / self.repeats),
            (Before::Weights(..), None) => unreachable!("the table is made from the same ground"),
        };
        self.last = Some(group);
        member
    }

    /// The group that a place is in.
    fn enter(&self, place: u64) -> Group {
        let (table, bucket) = (&*self.table, self.bucket);
        let group = table.group(bucket, self.repeats, place);
        let bound = |group| table.places(group, bucket, self.repeats);
        let places = bound(group)..bound(group + 1);
        let key = draw(self.key, 0, group as u64, Purpose::Block);
        let [first, end] = [group, group + 1].map(|group| table.groups[group] as usize);
        let at = group * table.buckets + bucket;
        let row = |row: usize| match self.ground.weighted {
            Some(weighted) => weighted.rows[row],
            None => [self.ground.rows.get(row).into(), 0],
        };
        let mut now = match &table.before {
            Before::Members(members) => [members[at].into(), 0],
            Before::Weights(weights, _) => weights[at],
        };
        let mut before = vec![now];
        before.extend((first..end).map(|place| {
            let here = self.row(place);
            let (start, end) = (row(here), row(here + table.buckets));
            now = [0, 1].map(|part| now[part] + (end[part] - start[part]));
            now
        }));
        Group {
            order: Permutation::new(places.end - places.start, key),
            places,
            first,
            before,
        }
    }

    fn plain(&self, group: &Group, drawn: u64) -> u64 {
        let member = group.before[0][0] + drawn;
        let at = group.shard(|before| before[0] <= member);
        self.first(group.first + at) + member - group.before[at][0]
    }

    /// The certain deliveries of a group come first, then those that are drawn.
    fn weighted(&self, group: &Group, place: u64, (comb, weighted): (&Comb, &Weighted)) -> u64 {
        let table = &*self.table;
        let (start, end) = (group.before[0], group.before[group.before.len() - 1]);
        let (course, gauge) = (&weighted.courses[self.bucket], &weighted.gauge);
        // What is before the shard in the order of the dataset instead of the epoch's.
        let row = |at: usize| weighted.rows[self.row(group.first + at)];
        let certain = end[0] - start[0];
        if place < certain {
            let wanted = start[0] + place;
            let at = group.shard(|before| before[0] <= wanted);
            return course.certain_at(gauge, row(at)[0] + wanted - group.before[at][0]);
        }
        let point = comb.point(comb.before(start[1]) + place - certain);
        let at = group.shard(|before| before[1] <= point);
        let point = row(at)[1] + point - group.before[at][1];
        let shard = group.first + at;
        let next = self.ground.rows.get(self.row(shard) + table.buckets);
        let members = self.first(shard)..u64::from(next);
        course.drawn_at(gauge, point, (members, row(at)[1]), self.drawn)
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

impl Group {
    /// The last of its shards that `holds` is true of, of what is before it: it is up to some shard.
    fn shard(&self, holds: impl Fn([u64; 2]) -> bool) -> usize {
        let shards = &self.before[..self.before.len() - 1];
        shards.partition_point(|&before| holds(before)) - 1
    }
}

/// Running sums over the shards in their order, for each of so many buckets, as they are at the beginning
/// of each group and in the end; `rows` say what is before a shard in the dataset, and `add` adds what is
/// between two of them to a sum.
fn sums<R: Copy, T: Copy + Default>(
    (shards, groups, buckets): (&[u32], &[u32], usize),
    rows: &[R],
    add: impl Fn(T, R, R) -> T,
) -> Vec<T> {
    let mut now = vec![T::default(); buckets];
    let mut sums = Vec::with_capacity(groups.len() * buckets);
    for group in groups.windows(2) {
        sums.extend_from_slice(&now);
        for &shard in &shards[group[0] as usize..group[1] as usize] {
            // The rows of this shard and of the next.
            let (start, end) = rows[shard as usize * buckets..][..2 * buckets].split_at(buckets);
            let (fours, rest) = now.as_chunks_mut::<LANES>();
            let [(starts, start), (ends, end)] = [start, end].map(<[R]>::as_chunks::<LANES>);
            for ((sums, starts), ends) in fours.iter_mut().zip(starts).zip(ends) {
                for lane in 0..LANES {
                    sums[lane] = add(sums[lane], starts[lane], ends[lane]);
                }
            }
            for ((sum, &start), &end) in rest.iter_mut().zip(start).zip(end) {
                *sum = add(*sum, start, end);
            }
        }
    }
    sums.extend(now);
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
