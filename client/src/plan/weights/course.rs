//! The weights of one bucket's members, added up: where along them each member is.
//!
//! Where the weights of a source are all the same, a few runs say it all. A list of weights is added
//! up in blocks, and what is within one is added up when it is asked for: a quarter of a byte for
//! each sample.

use std::ops::Range;

use super::{Comb, gauge::Gauge};
use crate::plan::{
    Permutation, Purpose, draw,
    layout::{Words, in_order},
    seeds::mix,
};

/// Members of a block: few enough to look through, enough to be mixed with each other.
const BLOCK: u64 = 64;
/// Blocks that a thread adds up at once.
const CHUNK: u64 = 1 << 12;

/// The weights of a bucket's members.
#[derive(Clone, Debug)]
pub(crate) struct Course {
    /// Ids, ascending.
    members: Words,
    form: Form,
    /// The whole parts, added up, and the fractions in units of 2^-32.
    totals: [u64; 2],
    /// Places that are drawn for the fractions.
    drawn: u64,
}

#[derive(Clone, Debug)]
enum Form {
    Runs(Vec<Run>),
    /// What is before each block.
    Blocks(Vec<[u64; 2]>),
}

/// Members of one weight.
#[derive(Clone, Copy, Debug)]
struct Run {
    first: u64,
    end: u64,
    /// Whole part and fraction.
    weight: [u64; 2],
    /// What is before it.
    before: [u64; 2],
}

/// Whole part and fraction of a weight.
fn parts(weight: u64) -> [u64; 2] {
    [weight >> 32, weight & u64::from(u32::MAX)]
}

fn add([a, b]: [u64; 2], [c, d]: [u64; 2]) -> [u64; 2] {
    // Whole parts may be too many, which is an error later: members are at most 2^32, so fractions
    // are not.
    [a.saturating_add(c), b + d]
}

impl Course {
    pub(crate) fn new(gauge: &Gauge, members: Words) -> Self {
        let mut course = Self {
            form: Form::Runs(Vec::new()),
            totals: [0; 2],
            drawn: 0,
            members,
        };
        if gauge.is_flat() {
            course.run_through(gauge);
        } else {
            course.add_up(gauge);
        }
        let fractions = course.totals[1];
        // To the nearest; but what is there at all is not left out for ever.
        let rounded = (u128::from(fractions) + (1 << 31)) >> 32;
        course.drawn = (rounded as u64).max(u64::from(fractions > 0));
        course
    }

    fn run_through(&mut self, gauge: &Gauge) {
        let mut runs = Vec::new();
        let (mut first, mut before) = (0, [0; 2]);
        for end in gauge.ends() {
            let end = self.members.partition_point(|id| u64::from(id) < end) as u64;
            if end == first {
                continue;
            }
            let weight = parts(gauge.weight(self.id(first)));
            runs.push(Run {
                first,
                end,
                weight,
                before,
            });
            let sums = weight.map(|part| part.saturating_mul(end - first));
            before = add(before, sums);
            first = end;
        }
        self.form = Form::Runs(runs);
        self.totals = before;
    }

    fn add_up(&mut self, gauge: &Gauge) {
        let blocks = self.members().div_ceil(BLOCK);
        let mut sums = Vec::with_capacity(blocks as usize);
        let mut before = [0; 2];
        let work = |chunk: usize| -> Vec<[u64; 2]> {
            let chunk = chunk as u64 * CHUNK..((chunk as u64 + 1) * CHUNK).min(blocks);
            let sum = |block: u64| {
                let weights = self.block(block).map(|at| self.weight(gauge, at));
                weights.fold([0; 2], add)
            };
            chunk.map(sum).collect()
        };
        let take = |_, more: Vec<[u64; 2]>| {
            for sum in more {
                sums.push(before);
                before = add(before, sum);
            }
            Ok::<_, std::convert::Infallible>(())
        };
        let Ok(()) = in_order(blocks.div_ceil(CHUNK) as usize, work, take);
        self.form = Form::Blocks(sums);
        self.totals = before;
    }

    pub(crate) fn members(&self) -> u64 {
        self.members.len() as u64
    }

    /// Deliveries that no draw decides about.
    pub(crate) fn certain(&self) -> u64 {
        self.totals[0]
    }

    /// All deliveries.
    pub(crate) fn places(&self) -> u64 {
        self.totals[0].saturating_add(self.drawn)
    }

    /// Where the drawn places point to, by the key of the bucket and epoch.
    pub(crate) fn comb(&self, key: u64) -> Comb {
        let bits = draw(key, 0, 0, Purpose::Comb);
        Comb::new(self.totals[1], self.drawn, bits)
    }

    /// The whole parts and the fractions of all members before one.
    pub(crate) fn before(&self, gauge: &Gauge, member: u64) -> [u64; 2] {
        if member == self.members() {
            return self.totals;
        }
        match &self.form {
            Form::Runs(runs) => {
                let run = runs[runs.partition_point(|run| run.end <= member)];
                let within = run.weight.map(|part| part * (member - run.first));
                add(run.before, within)
            }
            Form::Blocks(blocks) => {
                let block = member / BLOCK;
                let within = (block * BLOCK..member).map(|at| self.weight(gauge, at));
                within.fold(blocks[block as usize], add)
            }
        }
    }

    /// The member that a certain delivery is of.
    pub(crate) fn certain_at(&self, gauge: &Gauge, at: u64) -> u64 {
        match &self.form {
            Form::Runs(runs) => {
                let run = runs[runs.partition_point(|run| run.before[0] <= at) - 1];
                run.first + (at - run.before[0]) / run.weight[0]
            }
            Form::Blocks(blocks) => {
                let block = blocks.partition_point(|before| before[0] <= at) - 1;
                let mut rest = at - blocks[block][0];
                let mut members = self.block(block as u64);
                let last = members.end - 1;
                let found = members.find(|&at| {
                    let whole = self.weight(gauge, at)[0];
                    let here = rest < whole;
                    rest = rest.saturating_sub(whole);
                    here
                });
                found.unwrap_or(last)
            }
        }
    }

    /// The member whose fraction holds a point of the comb. The fractions within `range`, which the
    /// point is in and before which there are `start`, lie in an order of their own for each key:
    /// else neighbours would take each other's places in every epoch. Members of one weight are
    /// mixed with all others of it, those of a list with the others of their block.
    pub(crate) fn drawn_at(
        &self,
        gauge: &Gauge,
        point: u64,
        (range, start): (Range<u64>, u64),
        key: u64,
    ) -> u64 {
        let runs = match &self.form {
            Form::Runs(runs) => runs,
            Form::Blocks(blocks) => {
                let block = blocks.partition_point(|before| before[1] <= point) - 1;
                let within = self.block(block as u64);
                let before = blocks[block][1].max(start);
                let cut = within.start.max(range.start)..within.end.min(range.end);
                return self.drawn_in_block(gauge, point - before, cut, key);
            }
        };
        let run = runs[runs.partition_point(|run| run.before[1] <= point) - 1];
        let (first, end) = (run.first.max(range.start), run.end.min(range.end));
        let slot = (point - run.before[1].max(start)) / run.weight[1];
        let key = draw(key, 0, first, Purpose::Slots);
        first + Permutation::new(end - first, key).get(slot)
    }

    fn drawn_in_block(&self, gauge: &Gauge, mut rest: u64, range: Range<u64>, key: u64) -> u64 {
        let order = Mixed::new(draw(key, 0, range.start, Purpose::Slots));
        let order = (0..BLOCK).map(|at| range.start + order.get(at));
        let mut order = order.filter(|at| range.contains(at));
        let found = order.find(|&at| {
            let fraction = self.weight(gauge, at)[1];
            let here = rest < fraction;
            rest = rest.saturating_sub(fraction);
            here
        });
        found.unwrap_or(range.start)
    }

    fn block(&self, block: u64) -> Range<u64> {
        block * BLOCK..((block + 1) * BLOCK).min(self.members())
    }

    fn id(&self, member: u64) -> u64 {
        self.members.get(member as usize).into()
    }

    fn weight(&self, gauge: &Gauge, member: u64) -> [u64; 2] {
        parts(gauge.weight(self.id(member)))
    }
}

/// A permutation of a block that costs next to nothing: odd multiples and sums modulo its length, with
/// the upper bits folded into the lower in between.
struct Mixed([u64; 4]);

impl Mixed {
    fn new(key: u64) -> Self {
        let bits = mix(key);
        Self([bits, bits >> 16, bits >> 32, bits >> 48])
    }

    fn get(&self, at: u64) -> u64 {
        let [a, b, c, d] = self.0;
        let mut value = (at.wrapping_mul(a | 1).wrapping_add(b)) % BLOCK;
        value ^= value >> 3;
        (value.wrapping_mul(c | 1).wrapping_add(d)) % BLOCK
    }
}
