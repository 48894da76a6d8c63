//! Which items go to the device together, and when. Pure: time is an argument, and nothing here
//! waits, locks or sends.
//!
//! The rules, in order:
//! 1. Items of one key only (model and shape), the earliest-needed first, up to a budget.
//! 2. While the device is busy only a full batch goes ahead; a partial one waits, because every
//!    moment may bring it a mate for nothing. But only so many batches that are needed later may
//!    overtake it: otherwise the rest of a group would starve for as long as the device is busy.
//! 3. When the device is idle a partial batch goes at once, unless mates of its key are still
//!    being decoded: for those it lingers a little.
//! 4. Items that nobody waits for any more are dropped, not encoded.

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

use super::item::Key;

/// An arriving mate restarts the linger; in all it lasts at most this many times as long.
const LINGER_STRETCH: u32 = 4;

/// Batches needed later that may go before a partial one.
const MAX_OVERTAKEN: u32 = 1;

/// What can be batched.
pub(crate) trait Entry {
    fn key(&self) -> Key;
    fn needed(&self) -> Instant;
    fn is_wanted(&self, now: Instant) -> bool;
    fn mates_coming(&self) -> bool;
}

/// The most that one batch of a model may hold. One item always fits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    pub(crate) pixels: u64,
    pub(crate) items: usize,
}

/// Whether the device has work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Device {
    Idle,
    Busy,
}

/// What to do next.
#[derive(Debug, PartialEq)]
pub(crate) enum Next<T> {
    /// Encode these, all of one key; at least one.
    Batch(Vec<T>),
    /// Ask again then, or when something arrives.
    At(Instant),
    /// Ask again when something arrives or the device falls idle.
    Nothing,
}

/// Items waiting for a batch.
#[derive(Debug)]
pub(crate) struct Batcher<T> {
    groups: HashMap<Key, Group<T>>,
    budgets: Vec<Budget>,
    linger: Duration,
    arrivals: u64,
}

#[derive(Debug)]
struct Group<T> {
    /// By time needed, then by arrival.
    items: BTreeMap<(Instant, u64), T>,
    first: Instant,
    last: Instant,
    /// Batches needed later that went first.
    overtaken: u32,
}

impl<T: Entry> Batcher<T> {
    /// `budgets` has one entry a model.
    pub(crate) fn new(budgets: Vec<Budget>, linger: Duration) -> Self {
        Self {
            groups: HashMap::new(),
            budgets,
            linger,
            arrivals: 0,
        }
    }

    /// Takes an item in.
    pub(crate) fn push(&mut self, item: T, now: Instant) {
        let group = self.groups.entry(item.key()).or_insert_with(|| Group {
            items: BTreeMap::new(),
            first: now,
            last: now,
            overtaken: 0,
        });
        group.last = now;
        group.items.insert((item.needed(), self.arrivals), item);
        self.arrivals += 1;
    }

    /// Decides.
    pub(crate) fn next(&mut self, now: Instant, device: Device) -> Next<T> {
        self.sweep(now);
        let mut wake = None;
        let mut best: Option<(Instant, Key)> = None;
        for (key, group) in &self.groups {
            if group.items.len() < self.capacity(*key) && group.overtaken < MAX_OVERTAKEN {
                if device == Device::Busy {
                    continue;
                }
                let go = group.lingers_until(self.linger);
                if now < go {
                    wake = Some(wake.map_or(go, |at: Instant| at.min(go)));
                    continue;
                }
            }
            let needed = group.needed();
            if best.is_none_or(|(earliest, _)| needed < earliest) {
                best = Some((needed, *key));
            }
        }
        match (best, wake) {
            (Some((_, key)), _) => Next::Batch(self.take(key, now)),
            (None, Some(at)) => Next::At(at),
            (None, None) => Next::Nothing,
        }
    }

    /// Drops what nobody waits for, and with it the place that it held.
    pub(crate) fn sweep(&mut self, now: Instant) {
        self.groups.retain(|_, group| {
            group.items.retain(|_, item| item.is_wanted(now));
            !group.items.is_empty()
        });
    }

    fn take(&mut self, key: Key, now: Instant) -> Vec<T> {
        let capacity = self.capacity(key);
        let Some(mut group) = self.groups.remove(&key) else {
            return Vec::new();
        };
        let mut batch = Vec::with_capacity(capacity.min(group.items.len()));
        let needed = group.needed();
        for other in self.groups.values_mut() {
            other.overtaken += u32::from(other.needed() < needed);
        }
        while batch.len() < capacity
            && let Some((_, item)) = group.items.pop_first()
        {
            batch.push(item);
        }
        if !group.items.is_empty() {
            group.first = now;
            group.overtaken = 0;
            self.groups.insert(key, group);
        }
        batch
    }

    fn capacity(&self, key: Key) -> usize {
        let budget = self.budgets[key.model];
        let by_pixels = budget.pixels / key.shape.pixels().max(1);
        (by_pixels.min(budget.items as u64) as usize).max(1)
    }
}

impl<T: Entry> Group<T> {
    fn needed(&self) -> Instant {
        let first = self.items.first_key_value();
        first.map_or(self.first, |((needed, _), _)| *needed)
    }

    /// When a partial batch of this group goes to an idle device.
    fn lingers_until(&self, linger: Duration) -> Instant {
        let mates = self.items.values().next().is_some_and(T::mates_coming);
        if mates {
            (self.last + linger).min(self.first + linger * LINGER_STRETCH)
        } else {
            self.first
        }
    }
}

#[cfg(test)]
mod tests;
