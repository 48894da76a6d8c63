//! The passes over all samples, on all cores.

use std::{ops::Range, thread};

use super::Watch;
use crate::plan::{
    PlanSpec, Samples, Shuffle, Size, Subset, choose::Chooser, seeds, transform::cover,
    weights::Zeros,
};

/// Ids that a thread looks at before it hands over what it found: a megabyte of members. Tests have
/// few samples and want many chunks.
const CHUNK: u64 = if cfg!(test) { 37 } else { 1 << 18 };
/// Threads of a pass; more would wait for memory.
const MAX_THREADS: usize = 32;

/// What a pass found in one chunk of ids.
#[derive(Default)]
pub(crate) struct Tally {
    /// Usable samples of every bucket, by the index of the rule.
    counts: Vec<u64>,
    pub(super) unusable: Vec<u32>,
    pub(super) outside: u64,
    pub(super) weightless: u64,
}

/// Usable samples of every bucket.
pub(super) fn total(tallies: &[Tally], kinds: usize) -> Vec<u64> {
    let mut counts = vec![0; kinds];
    for tally in tallies {
        for (sum, count) in counts.iter_mut().zip(&tally.counts) {
            *sum += count;
        }
    }
    counts
}

/// What [`Pass::gather`] notes beside the members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Notes {
    Nothing,
    /// For every shard that begins in the chunk, how many members of each bucket are before it.
    Shards,
    /// The bucket of every member.
    Buckets,
}

/// How [`Pass::gather`] sorts.
pub(super) struct Sort<'a> {
    pub(super) index: &'a [Option<usize>],
    /// Where unusable samples go, by the index of the rule.
    pub(super) fullest: usize,
    pub(super) buckets: usize,
    pub(super) notes: Notes,
}

/// One chunk of ids, sorted into buckets.
pub(super) struct Sorted {
    pub(super) members: Vec<Vec<u32>>,
    /// See [`Notes`].
    pub(super) notes: Vec<u32>,
}

enum Place {
    Bucket(usize),
    LeftOut(usize),
    Unusable,
}

/// A way to look at all samples, or at the entries of a given list.
pub(crate) struct Pass<'a, S> {
    samples: &'a S,
    chooser: Chooser,
    /// Frames of a clip, shortest first.
    lengths: Vec<u32>,
    /// All sizes with all lengths, ascending.
    sizes: Vec<Size>,
    subset: &'a Subset,
    given: Option<&'a [u64]>,
    zeros: Option<Zeros>,
    /// See [`super::small::Settled`].
    pub(super) moved: Vec<Option<usize>>,
}

impl<'a, S: Samples> Pass<'a, S> {
    pub(super) fn new(samples: &'a S, spec: &'a PlanSpec) -> Self {
        let chooser = Chooser::new(&spec.buckets);
        let lengths = spec.lengths();
        let long = |size: &Size| {
            lengths
                .iter()
                .map(|&frames| size.with_frames(frames))
                .collect()
        };
        let sizes: Vec<Size> = chooser.sizes().iter().flat_map::<Vec<_>, _>(long).collect();
        Self {
            moved: (0..sizes.len()).map(Some).collect(),
            samples,
            chooser,
            lengths,
            sizes,
            subset: &spec.subset,
            zeros: Zeros::new(spec, samples),
            given: match &spec.shuffle {
                Shuffle::Given(ids) => Some(ids),
                _ => None,
            },
        }
    }

    /// Samples, or entries of the list.
    pub(super) fn len(&self) -> u64 {
        let listed = self.given.map(|ids| ids.len() as u64);
        listed.unwrap_or_else(|| self.samples.count())
    }

    pub(super) fn sizes(&self) -> &[Size] {
        &self.sizes
    }

    /// Samples up to the end of a chunk.
    pub(super) fn seen(&self, chunk: usize) -> u64 {
        ((chunk as u64 + 1) * CHUNK).min(self.len())
    }

    pub(super) fn count(&self, watch: Watch<'_>) -> Vec<Tally> {
        let mut tallies = Vec::new();
        let chunks = self.len().div_ceil(CHUNK) as usize;
        let done = in_order(
            chunks,
            |chunk| self.tally(chunk),
            |chunk, tally| {
                tallies.push(tally);
                watch(self.seen(chunk), self.len());
                Ok::<_, std::convert::Infallible>(())
            },
        );
        match done {
            Ok(()) => tallies,
        }
    }

    fn tally(&self, chunk: usize) -> Tally {
        let mut tally = Tally {
            counts: vec![0; self.sizes().len()],
            ..Tally::default()
        };
        let range = self.range(chunk);
        let mut inside = 0;
        self.each(range.clone(), |id| {
            inside += 1;
            if self.never(id) {
                tally.weightless += 1;
                return;
            }
            match self.place(id) {
                // Counted even so: the report names them.
                Place::Bucket(at) | Place::LeftOut(at) => tally.counts[at] += 1,
                Place::Unusable => tally.unusable.push(id as u32),
            }
        });
        tally.outside = range.end - range.start - inside;
        tally
    }

    pub(super) fn gather(&self, chunk: usize, sort: &Sort<'_>) -> Sorted {
        let range = self.range(chunk);
        let mut members = vec![Vec::new(); sort.buckets];
        let mut notes = Vec::new();
        let shards: &[u64] = if sort.notes == Notes::Shards {
            let starts = self.samples.shard_starts();
            let at = |id| starts.partition_point(|&start| start < id);
            &starts[at(range.start)..at(range.end)]
        } else {
            &[]
        };
        let mut shards = shards.iter().peekable();
        let row = |notes: &mut Vec<u32>, members: &[Vec<u32>]| {
            notes.extend(members.iter().map(|list| list.len() as u32));
        };
        self.each(range, |id| {
            while shards.next_if(|&&start| start <= id).is_some() {
                row(&mut notes, &members);
            }
            if self.never(id) {
                return;
            }
            let at = match self.place(id) {
                Place::Bucket(at) => at,
                Place::LeftOut(_) => return,
                Place::Unusable => sort.fullest,
            };
            if let Some(at) = sort.index[at] {
                members[at].push(id as u32);
                if sort.notes == Notes::Buckets {
                    notes.push(at as u32);
                }
            }
        });
        // Shards whose samples are all outside the subset.
        shards.for_each(|_| row(&mut notes, &members));
        Sorted { members, notes }
    }

    fn range(&self, chunk: usize) -> Range<u64> {
        chunk as u64 * CHUNK..self.seen(chunk)
    }

    /// Calls `take` for every id of the range that takes part, in order.
    fn each(&self, range: Range<u64>, take: impl FnMut(u64)) {
        if let Some(ids) = self.given {
            let ids = &ids[range.start as usize..range.end as usize];
            return ids.iter().copied().for_each(take);
        }
        match self.subset {
            Subset::All => range.for_each(take),
            &Subset::Range { start, end } => {
                (range.start.max(start)..range.end.min(end)).for_each(take);
            }
            &Subset::Fraction { from, to, seed } => {
                range
                    .filter(|&id| seeds::inside(seed, id, from, to))
                    .for_each(take);
            }
            Subset::Ids(ids) => {
                let at = |id| ids.partition_point(|&one| one < id);
                ids[at(range.start)..at(range.end)]
                    .iter()
                    .copied()
                    .for_each(take);
            }
        }
    }

    /// Whether a sample has the weight 0.
    fn never(&self, id: u64) -> bool {
        self.zeros.as_ref().is_some_and(|zeros| zeros.contains(id))
    }

    fn place(&self, id: u64) -> Place {
        let Some(source) = self.samples.size(id) else {
            return Place::Unusable;
        };
        // The longest that it can give.
        let frames = self.samples.frames(id);
        let fitting = self.lengths.partition_point(|&length| length <= frames);
        let Some(length) = fitting.checked_sub(1) else {
            return Place::Unusable;
        };
        let at = self.chooser.choose(source) * self.lengths.len() + length;
        let (to, place) = match self.moved[at] {
            Some(to) => (to, Place::Bucket(to)),
            None => (at, Place::LeftOut(at)),
        };
        // A needle of an image may need more pixels to cover its bucket than the wire allows.
        match cover(source, self.sizes()[to]) {
            Some(_) => place,
            None => Place::Unusable,
        }
    }
}

/// Does all chunks, on all cores, and hands the results over in order, in this thread.
pub(crate) fn in_order<T: Send, E>(
    chunks: usize,
    work: impl Fn(usize) -> T + Sync,
    mut take: impl FnMut(usize, T) -> Result<(), E>,
) -> Result<(), E> {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let wave = cores.min(MAX_THREADS);
    for start in (0..chunks).step_by(wave) {
        let range = start..(start + wave).min(chunks);
        if range.len() == 1 {
            take(start, work(start))?;
            continue;
        }
        let done = thread::scope(|scope| {
            let work = &work;
            let threads: Vec<_> = range
                .clone()
                .map(|chunk| scope.spawn(move || work(chunk)))
                .collect();
            let joined = threads.into_iter().map(|thread| thread.join());
            // A panic of a thread goes on in this one.
            joined
                .map(|one| one.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
                .collect::<Vec<_>>()
        });
        for (chunk, one) in range.zip(done) {
            take(chunk, one)?;
        }
    }
    Ok(())
}
