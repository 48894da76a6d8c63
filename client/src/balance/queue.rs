//! What waits for a replica, and in which order.
//!
//! What is needed soon is urgent: it goes by the trainers' fair tags. The rest goes by when it is
//! needed, and becomes urgent as its time comes near, so nothing waits for ever. Within either,
//! requests of like size stand together, so that a replica for which the first is too large can be
//! given another without a search.

use std::collections::BTreeMap;

use super::types::{RequestId, Time};

/// Whether a request is urgent, and what it is ordered by: its tag, or when it is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Turn {
    /// By tag, in replica-seconds of the trainer's fair share.
    Urgent(Time),
    /// By when it is needed.
    Early(Time),
}

/// A request that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Waiting {
    pub(super) request: RequestId,
    pub(super) turn: Turn,
    pub(super) pixels: u64,
}

/// Sizes of an octave stand together: one list for each bit of a pixel count.
const SIZES: usize = 64;

/// The requests of one group.
#[derive(Debug)]
pub(super) struct Queue {
    /// By turn, then by age. The value is the exact number of pixels.
    sizes: Vec<BTreeMap<(Turn, RequestId), u64>>,
    some: u64,
    len: usize,
    pixels: u64,
    urgent_pixels: u64,
}

impl Queue {
    pub(super) fn new() -> Self {
        Self {
            sizes: (0..SIZES).map(|_| BTreeMap::new()).collect(),
            some: 0,
            len: 0,
            pixels: 0,
            urgent_pixels: 0,
        }
    }

    pub(super) const fn len(&self) -> usize {
        self.len
    }

    pub(super) const fn pixels(&self) -> u64 {
        self.pixels
    }

    pub(super) const fn urgent_pixels(&self) -> u64 {
        self.urgent_pixels
    }

    pub(super) fn insert(&mut self, waiting: Waiting) {
        let size = size(waiting.pixels);
        self.sizes[size].insert((waiting.turn, waiting.request), waiting.pixels);
        self.some |= 1 << size;
        self.len += 1;
        self.pixels += waiting.pixels;
        if matches!(waiting.turn, Turn::Urgent(_)) {
            self.urgent_pixels += waiting.pixels;
        }
    }

    /// Whether it was there.
    pub(super) fn remove(&mut self, waiting: Waiting) -> bool {
        let size = size(waiting.pixels);
        let list = &mut self.sizes[size];
        if list.remove(&(waiting.turn, waiting.request)).is_none() {
            return false;
        }
        if list.is_empty() {
            self.some &= !(1 << size);
        }
        self.len -= 1;
        self.pixels -= waiting.pixels;
        if matches!(waiting.turn, Turn::Urgent(_)) {
            self.urgent_pixels -= waiting.pixels;
        }
        true
    }

    /// The first of each size.
    pub(super) fn firsts(&self) -> impl Iterator<Item = Waiting> {
        self.occupied()
            .filter_map(|size| self.sizes[size].first_key_value().map(waiting))
    }

    /// The last of each size.
    pub(super) fn lasts(&self) -> impl Iterator<Item = Waiting> {
        self.occupied()
            .filter_map(|size| self.sizes[size].last_key_value().map(waiting))
    }

    /// One that is not urgent yet and is needed by then.
    pub(super) fn ripe(&self, by: Time) -> Option<Waiting> {
        let bounds = (Turn::Early(Time::ZERO), RequestId::FIRST);
        let early = self.occupied().filter_map(|size| {
            let list = &self.sizes[size];
            list.range(bounds..).next().map(waiting)
        });
        let first = early.min_by_key(|one| (one.turn, one.request))?;
        (first.turn <= Turn::Early(by)).then_some(first)
    }

    /// All of them, in no particular order.
    pub(super) fn all(&self) -> impl Iterator<Item = Waiting> {
        let lists = self.occupied().map(|size| &self.sizes[size]);
        lists.flat_map(|list| list.iter().map(waiting))
    }

    fn occupied(&self) -> impl Iterator<Item = usize> + use<> {
        let mut bits = self.some;
        std::iter::from_fn(move || {
            let low = bits.trailing_zeros();
            bits &= bits.checked_sub(1)?;
            Some(low as usize)
        })
    }
}

fn size(pixels: u64) -> usize {
    pixels.max(1).ilog2() as usize
}

fn waiting((&(turn, request), &pixels): (&(Turn, RequestId), &u64)) -> Waiting {
    Waiting {
        request,
        turn,
        pixels,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn waiting(number: u64, turn: Turn, pixels: u64) -> Waiting {
        Waiting {
            request: RequestId(number),
            turn,
            pixels,
        }
    }

    #[test]
    fn turns_come_in_order() {
        let second = Duration::from_secs;
        let mut queue = Queue::new();
        let early = waiting(1, Turn::Early(second(1)), 100);
        let earlier = waiting(2, Turn::Early(second(2)), 100);
        let urgent = waiting(3, Turn::Urgent(second(9)), 100);
        let small = waiting(4, Turn::Early(second(3)), 3);
        for one in [early, earlier, urgent, small] {
            queue.insert(one);
        }
        assert_eq!(queue.firsts().collect::<Vec<_>>(), [small, urgent]);
        assert_eq!(queue.lasts().collect::<Vec<_>>(), [small, earlier]);
        assert_eq!(queue.ripe(second(0)), None);
        assert_eq!(queue.ripe(second(1)), Some(early));
        assert_eq!(
            (queue.len(), queue.pixels(), queue.urgent_pixels()),
            (4, 303, 100)
        );
        assert!(queue.remove(urgent) && !queue.remove(urgent));
        assert_eq!(queue.firsts().last(), Some(early));
        assert_eq!(queue.all().count(), 3);
        for one in [early, earlier, small] {
            assert!(queue.remove(one));
        }
        assert_eq!(
            (queue.len(), queue.pixels(), queue.firsts().count()),
            (0, 0, 0)
        );
    }
}
