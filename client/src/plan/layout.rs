//! Which samples are in which bucket: what an order is drawn over, and the only part of a plan that
//! takes a pass over the dataset. It depends on the samples, on the rule of the buckets and on the
//! subset, not on seed, batch or epoch, so it can be kept in a file; see [`crate::layouts`].

mod gather;
mod reads;
mod refuse;
mod small;

use std::{ops::Range, sync::Arc};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{PlanSpec, Samples, Shuffle, Size, SmallBucket};
use crate::error::Error;

pub(super) use gather::in_order;
use gather::{Notes, Pass};
pub(crate) use reads::Reads;

/// Changes whenever the same samples and rules could be laid out otherwise.
pub(crate) const LAYOUT_VERSION: u32 = 1;
/// Bytes of the table that [`Shuffle::Blocked`] needs: shards times buckets times four.
pub const MAX_BLOCK_TABLE: u64 = 1 << 30;

/// A list of numbers, little-endian, in memory or mapped from a file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Words(pub(crate) Bytes);

impl Words {
    pub(crate) const BYTES: usize = 4;

    pub(crate) fn len(&self) -> usize {
        self.0.len() / Self::BYTES
    }

    pub(crate) fn get(&self, at: usize) -> u32 {
        let at = at * Self::BYTES;
        let word = self.0[at..at + Self::BYTES].try_into();
        u32::from_le_bytes(word.expect("four bytes"))
    }

    /// As they are stored.
    pub(crate) fn words(&self) -> &[[u8; Self::BYTES]] {
        self.0.as_chunks().0
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        (0..self.len()).map(|at| self.get(at))
    }

    /// How many words `holds` is true of, where those are the first ones.
    pub(crate) fn partition_point(&self, holds: impl Fn(u32) -> bool) -> usize {
        let (mut start, mut end) = (0, self.len());
        while start < end {
            let middle = start.midpoint(end);
            if holds(self.get(middle)) {
                start = middle + 1;
            } else {
                end = middle;
            }
        }
        start
    }

    pub(crate) fn slice(&self, words: Range<usize>) -> Self {
        Self(
            self.0
                .slice(words.start * Self::BYTES..words.end * Self::BYTES),
        )
    }
}

impl FromIterator<u32> for Words {
    fn from_iter<T: IntoIterator<Item = u32>>(words: T) -> Self {
        let bytes: Vec<u8> = words.into_iter().flat_map(u32::to_le_bytes).collect();
        Self(bytes.into())
    }
}

/// Where the members of the buckets go as they are found, four bytes each.
pub(crate) trait Sink {
    /// Puts `words` at place `at` of the list; in words the reason why that failed.
    fn put(&mut self, at: u64, words: &[u32]) -> Result<(), String>;
}

impl Sink for Vec<u8> {
    fn put(&mut self, at: u64, words: &[u32]) -> Result<(), String> {
        let start = at as usize * Words::BYTES;
        let room = &mut self[start..start + words.len() * Words::BYTES];
        for (four, word) in room.chunks_exact_mut(Words::BYTES).zip(words) {
            four.copy_from_slice(&word.to_le_bytes());
        }
        Ok(())
    }
}

/// A bucket with samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Filled {
    pub(crate) width: u32,
    pub(crate) height: u32,
    #[serde(default = "still", skip_serializing_if = "is_still")]
    pub(crate) frames: u32,
    pub(crate) members: u64,
}

fn still() -> u32 {
    1
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_still(frames: &u32) -> bool {
    *frames == 1
}

impl Filled {
    pub(crate) fn size(&self) -> Size {
        Size::clip(self.width, self.height, self.frames)
    }
}

/// A layout without its long lists.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Outline {
    /// Samples of the dataset.
    pub(crate) samples: u64,
    /// Those that take no part.
    pub(crate) outside: u64,
    /// Those whose weight is 0.
    #[serde(default)]
    pub(crate) weightless: u64,
    /// See [`Samples::source_ends`].
    #[serde(default)]
    pub(crate) sources: Vec<u64>,
    /// The buckets that have samples, ascending.
    pub(crate) buckets: Vec<Filled>,
    pub(crate) small: Vec<SmallBucket>,
    pub(crate) unusable: u64,
    /// Words of [`Layout::table`].
    pub(crate) table: u64,
}

impl Outline {
    /// Members of all buckets.
    pub(crate) fn members(&self) -> u64 {
        self.buckets.iter().map(|bucket| bucket.members).sum()
    }
}

/// Which samples are in which bucket.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub(crate) outline: Outline,
    /// Sample ids, bucket after bucket, ascending within each or as given.
    pub(crate) members: Words,
    /// For [`Shuffle::Blocked`], for every shard and bucket, how many members of the bucket are in
    /// the shards before it, and a last row for the end. For [`Shuffle::Given`], for every entry of
    /// the list, which of the buckets it is in.
    pub(crate) table: Words,
    /// Ids that cannot be read or transformed, ascending.
    pub(crate) unusable: Words,
    /// The members by another way, where they are in a file.
    pub(crate) reads: Option<Arc<Reads>>,
}

impl Layout {
    /// The members at these places of the list.
    pub(super) fn members(&self, places: &[usize]) -> Vec<u32> {
        let read = self.reads.as_ref().and_then(|reads| reads.members(places));
        let mapped = || {
            places
                .iter()
                .map(|&place| self.members.get(place))
                .collect()
        };
        read.unwrap_or_else(mapped)
    }

    /// Lays out a dataset in memory.
    pub(crate) fn new(
        spec: &PlanSpec,
        samples: &impl Samples,
        watch: Watch<'_>,
    ) -> Result<Self, Error> {
        Draft::new(spec, samples, watch)?.in_memory(watch)
    }
}

/// How far a layout has come: samples looked at, and samples to look at.
pub(crate) type Watch<'a> = &'a (dyn Fn(u64, u64) + Sync);

/// A layout whose buckets are counted and not filled yet.
pub(crate) struct Draft<'a, S> {
    pass: Pass<'a, S>,
    pub(crate) outline: Outline,
    unusable: Words,
    chunks: usize,
    notes: Notes,
    /// For every bucket of the rule its index in the outline.
    index: Vec<Option<usize>>,
    fullest: usize,
}

impl<'a, S: Samples> Draft<'a, S> {
    /// The first pass: counts, and settles what becomes of small buckets.
    pub(crate) fn new(spec: &'a PlanSpec, samples: &'a S, watch: Watch<'_>) -> Result<Self, Error> {
        let mut pass = Pass::new(samples, spec);
        refuse::misfit(samples.count(), spec)?;
        let kinds = pass.sizes().len();
        let mut tallies = pass.count(watch);
        let mut counts = gather::total(&tallies, kinds);
        let settled = small::settle(pass.sizes(), &counts, spec.small_buckets);
        let small = settled.small;
        pass.moved = settled.moved;
        if small.iter().any(|small| small.into.is_some()) {
            // In another bucket a needle of an image may need more pixels than the wire allows.
            tallies = pass.count(watch);
            counts = gather::total(&tallies, kinds);
        }
        for (at, target) in pass.moved.iter().enumerate() {
            if target.is_none() {
                counts[at] = 0;
            }
        }
        let outside = match &spec.shuffle {
            Shuffle::Given(ids) => samples.count() - distinct(ids, samples.count()),
            _ => tallies.iter().map(|tally| tally.outside).sum(),
        };
        let weightless = tallies.iter().map(|tally| tally.weightless).sum();
        let mut unusable: Vec<u32> = tallies
            .iter_mut()
            .flat_map(|tally| std::mem::take(&mut tally.unusable))
            .collect();
        // The first of the fullest; `max_by_key` alone would take the last.
        let fullest = (0..kinds).rev().max_by_key(|&at| counts[at]).unwrap_or(0);
        if counts.iter().all(|&count| count == 0) {
            let without = [outside, weightless];
            return Err(refuse::nothing_left(spec, samples.count(), without, &small));
        }
        counts[fullest] += unusable.len() as u64;
        unusable.sort_unstable();
        unusable.dedup();
        let mut buckets = Vec::new();
        let index = (0..kinds)
            .map(|at| {
                let size = pass.sizes()[at];
                (counts[at] > 0).then(|| {
                    buckets.push(Filled {
                        width: size.width,
                        height: size.height,
                        frames: size.frames,
                        members: counts[at],
                    });
                    buckets.len() - 1
                })
            })
            .collect();
        let (notes, table) = table(spec, samples, &buckets)?;
        let outline = Outline {
            samples: samples.count(),
            outside,
            weightless,
            sources: samples.source_ends().to_vec(),
            table,
            buckets,
            small,
            unusable: unusable.len() as u64,
        };
        Ok(Self {
            pass,
            outline,
            unusable: unusable.into_iter().collect(),
            chunks: tallies.len(),
            notes,
            index,
            fullest,
        })
    }

    /// The second pass: puts the members where they belong, and returns the table of shards.
    pub(crate) fn fill(&self, sink: &mut dyn Sink, watch: Watch<'_>) -> Result<Words, String> {
        let mut next = Vec::with_capacity(self.outline.buckets.len());
        let mut total = 0;
        for bucket in &self.outline.buckets {
            next.push(total);
            total += bucket.members;
        }
        let firsts = next.clone();
        let sort = gather::Sort {
            index: &self.index,
            fullest: self.fullest,
            buckets: self.outline.buckets.len(),
            notes: self.notes,
        };
        let mut table = Vec::with_capacity(self.outline.table as usize);
        let work = |range| self.pass.gather(range, &sort);
        in_order(self.chunks, work, |chunk, sorted| {
            match self.notes {
                Notes::Nothing => {}
                Notes::Buckets => table.extend(&sorted.notes),
                Notes::Shards => {
                    for row in sorted.notes.chunks_exact(sort.buckets) {
                        let before = next.iter().zip(&firsts).map(|(next, first)| next - first);
                        table.extend(
                            row.iter()
                                .zip(before)
                                .map(|(at, before)| at + before as u32),
                        );
                    }
                }
            }
            for (next, members) in next.iter_mut().zip(&sorted.members) {
                sink.put(*next, members)?;
                *next += members.len() as u64;
            }
            watch(self.pass.seen(chunk), self.pass.len());
            Ok::<_, String>(())
        })?;
        if self.notes == Notes::Shards {
            let ends = self.outline.buckets.iter();
            table.extend(ends.map(|bucket| bucket.members as u32));
        }
        Ok(table.into_iter().collect())
    }

    /// The layout, in memory.
    pub(crate) fn in_memory(&self, watch: Watch<'_>) -> Result<Layout, Error> {
        let mut members = vec![0_u8; self.outline.members() as usize * Words::BYTES];
        let table = self.fill(&mut members, watch).map_err(Error::Internal)?;
        Ok(Layout {
            outline: self.outline.clone(),
            members: Words(members.into()),
            table,
            unusable: self.unusable.clone(),
            reads: None,
        })
    }

    pub(crate) fn unusable(&self) -> &Words {
        &self.unusable
    }
}

/// What the order needs beside the members, and how many words that takes.
fn table(
    spec: &PlanSpec,
    samples: &impl Samples,
    buckets: &[Filled],
) -> Result<(Notes, u64), Error> {
    let block = match &spec.shuffle {
        Shuffle::Full | Shuffle::None => return Ok((Notes::Nothing, 0)),
        Shuffle::Given(_) => {
            let entries = buckets.iter().map(|bucket| bucket.members).sum();
            return Ok((Notes::Buckets, entries));
        }
        Shuffle::Blocked(block) => block,
    };
    let shards = samples.shard_starts().len() as u64;
    let words = (shards + 1) * buckets.len() as u64;
    let bytes = words * Words::BYTES as u64;
    if bytes > MAX_BLOCK_TABLE {
        let reason = format!(
            "is {block:?}, which for {shards} shards and {} buckets takes a table of {bytes} \
             bytes, over {MAX_BLOCK_TABLE}: use larger shards, fewer buckets, or Full",
            buckets.len()
        );
        return Err(Error::config("shuffle", reason));
    }
    Ok((Notes::Shards, words))
}

/// How many different ids a list has.
fn distinct(ids: &[u64], samples: u64) -> u64 {
    let mut seen = vec![false; samples as usize];
    ids.iter()
        .filter(|&&id| !std::mem::replace(&mut seen[id as usize], true))
        .count() as u64
}
