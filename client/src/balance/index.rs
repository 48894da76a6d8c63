//! Replicas by speed and by when they will be free: which would finish a request first, found without
//! looking at each.
//!
//! Replicas of nearly the same rate form a class. Within a class the one that is free first finishes
//! any request first, so one comparison a class is enough, however many replicas there are.

use std::{collections::BTreeSet, time::Duration};

use super::{
    rate,
    types::{ReplicaId, Time},
};

/// Classes an octave: rates within 9 % count as equal.
const PER_OCTAVE: f64 = 8.0;
/// Enough for the span from [`rate::MIN`] to [`rate::MAX`].
const CLASSES: usize = 256;
const WORDS: usize = CLASSES / 64;
/// Replicas of a class that are looked at when the first is not wanted.
const LOOKED_AT: usize = 4;

/// Where a replica stands in an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    class: u8,
    free_at: Time,
}

/// A choice.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    pub(super) replica: ReplicaId,
    /// When it would be through with the request.
    pub(super) finish: Time,
}

/// The replicas of one group that may get work, now or soon.
#[derive(Debug)]
pub(super) struct Index {
    classes: Vec<BTreeSet<(Time, ReplicaId)>>,
    /// The first of each class, where there is one: looked at for every request, so kept together.
    first: Vec<Time>,
    /// Seconds that a pixel takes in each class.
    pace: Vec<f64>,
    /// A bit for each class that is not empty.
    some: [u64; WORDS],
    len: usize,
}

impl Index {
    pub(super) fn new() -> Self {
        let middle = |class| rate::MIN * f64::exp2((class as f64 + 0.5) / PER_OCTAVE);
        Self {
            classes: (0..CLASSES).map(|_| BTreeSet::new()).collect(),
            first: vec![Time::MAX; CLASSES],
            pace: (0..CLASSES).map(|class| 1.0 / middle(class)).collect(),
            some: [0; WORDS],
            len: 0,
        }
    }

    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// Where a replica of this rate belongs that will be free at this time.
    pub(super) fn place(rate: f64, free_at: Time) -> Place {
        let class = ((rate / rate::MIN).log2() * PER_OCTAVE) as usize;
        Place {
            class: class.min(CLASSES - 1) as u8,
            free_at,
        }
    }

    /// Puts a replica into its place.
    pub(super) fn insert(&mut self, id: ReplicaId, place: Place) {
        let (class, free_at) = (usize::from(place.class), place.free_at);
        self.classes[class].insert((free_at, id));
        self.first[class] = self.first[class].min(free_at);
        self.some[class / 64] |= 1 << (class % 64);
        self.len += 1;
    }

    /// Takes a replica out.
    pub(super) fn remove(&mut self, id: ReplicaId, place: Place) {
        let class = usize::from(place.class);
        let was = self.classes[class].remove(&(place.free_at, id));
        debug_assert!(was, "a replica must be where it says");
        self.len -= usize::from(was);
        match self.classes[class].first() {
            Some(&(free_at, _)) => self.first[class] = free_at,
            None => {
                self.first[class] = Time::MAX;
                self.some[class / 64] &= !(1 << (class % 64));
            }
        }
    }

    /// When the first of all is free.
    pub(super) fn soonest(&self) -> Option<Time> {
        self.occupied().map(|class: usize| self.first[class]).min()
    }

    /// When the first is free that is not free by then.
    pub(super) fn soonest_after(&self, then: Time) -> Option<Time> {
        let first = self.occupied().map(|class: usize| self.first[class]);
        first.filter(|&first| first > then).min()
    }

    /// When a request could be finished at the earliest, by any replica, wherever there is room.
    pub(super) fn finish(&self, now: Time, pixels: u64) -> Option<Time> {
        let finish = |class: usize| self.first[class].max(now) + self.service(class, pixels);
        self.occupied().map(finish).min()
    }

    /// Who would finish it first among those that are free by `room` and wanted.
    pub(super) fn best(
        &self,
        now: Time,
        room: Time,
        pixels: u64,
        wanted: impl Fn(ReplicaId) -> bool,
    ) -> Option<Found> {
        let mut best: Option<Found> = None;
        for class in self.occupied() {
            if self.first[class] > room {
                continue;
            }
            let service = self.service(class, pixels);
            if best.is_some_and(|best| self.first[class].max(now) + service >= best.finish) {
                continue;
            }
            let free = self.classes[class].iter().take(LOOKED_AT);
            let mut free = free.take_while(|&&(free_at, _)| free_at <= room);
            let Some(&(free_at, replica)) = free.find(|&&(_, id)| wanted(id)) else {
                continue;
            };
            let finish = free_at.max(now) + service;
            if best.is_none_or(|best| finish < best.finish) {
                best = Some(Found { replica, finish });
            }
        }
        best
    }

    fn service(&self, class: usize, pixels: u64) -> Duration {
        Duration::from_secs_f64(pixels as f64 * self.pace[class])
    }

    /// The classes that are not empty, the fastest first.
    fn occupied(&self) -> impl Iterator<Item = usize> {
        let some = self.some;
        (0..WORDS).rev().flat_map(move |word| {
            let mut bits = some[word];
            std::iter::from_fn(move || {
                let top = bits.checked_ilog2()?;
                bits &= !(1 << top);
                Some(word * 64 + top as usize)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    proptest! {
        /// As looking at each would have chosen, but for the width of a class.
        #[test]
        fn the_best_is_found(
            replicas in prop::collection::vec((1e4..1e9f64, 0..2000u32), 1..60),
            gone in prop::collection::vec(any::<bool>(), 60),
            pixels in 1u64..10_000_000,
            room in 0..3000u32,
        ) {
            let mut index = Index::new();
            let now = 500 * MS;
            let mut left = Vec::new();
            for (slot, &(rate, free)) in replicas.iter().enumerate() {
                let id = ReplicaId::test(slot as u32);
                let place = Index::place(rate, free * MS);
                index.insert(id, place);
                if gone[slot] {
                    index.remove(id, place);
                } else {
                    left.push((rate, free * MS));
                }
            }
            let room = room * MS;
            let open = left.iter().filter(|(_, free)| *free <= room);
            let finish = |&(rate, free): &(f64, Time)| {
                (free.max(now) - now).as_secs_f64() + pixels as f64 / rate
            };
            let best = open.map(finish).min_by(f64::total_cmp);
            let found = index.best(now, room, pixels, |_| true);
            prop_assert_eq!(best.is_some(), found.is_some());
            if let (Some(best), Some(found)) = (best, found) {
                let (rate, free) = replicas[found.replica.slot()];
                let really = finish(&(rate, free * MS));
                prop_assert!(really <= best * 1.1 + 1e-6, "{really} where {best} was possible");
            }
            prop_assert_eq!(index.len(), left.len());
            prop_assert_eq!(index.soonest(), left.iter().map(|&(_, free)| free).min());
        }
    }

    #[test]
    fn the_unwanted_are_passed_over() {
        let mut index = Index::new();
        let id = ReplicaId::test;
        index.insert(id(0), Index::place(1e7, Time::ZERO));
        index.insert(id(1), Index::place(1e6, Time::ZERO));
        let pick = |unwanted: Option<u32>| {
            let wanted = |one| unwanted.map(id) != Some(one);
            index
                .best(MS, MS, 1 << 20, wanted)
                .map(|found| found.replica)
        };
        assert_eq!(pick(None), Some(id(0)));
        assert_eq!(pick(Some(0)), Some(id(1)));
    }
}
