//! Which items go to which device together, and when. Pure: time is an argument, and nothing here
//! waits, locks or sends.
//!
//! The rules, in order:
//! 1. Items of one key only (model and shape), the earliest-needed first, up to a budget.
//! 2. Models share the devices by pixels: the one that had least goes first. Within a model the
//!    group that is needed first does.
//! 3. A busy device gets only full batches; a partial one waits, because every moment may bring it
//!    a mate for nothing. It goes when the device is about to fall idle, and when so many batches
//!    that come after it have overtaken it: otherwise the rest of a group would starve for as long
//!    as the devices are busy.
//! 4. An idle device gets a partial batch at once, unless mates of its key are still being
//!    decoded: for those it lingers a little.
//! 5. Of several devices that may have it, the one that will have finished it first.
//! 6. Items that nobody waits for any more are dropped, not encoded.

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

use super::item::Key;

mod devices;
mod shares;

pub(crate) use devices::AHEAD;
use devices::{Device, takes};
use shares::Shares;

/// An arriving mate restarts the linger; in all it lasts at most this many times as long.
const LINGER_STRETCH: u32 = 4;

/// Batches that come after a partial one and may still go before it.
const MAX_OVERTAKEN: u32 = 1;

/// What can be batched.
pub(crate) trait Entry {
    fn key(&self) -> Key;
    fn needed(&self) -> Instant;
    fn is_wanted(&self, now: Instant) -> bool;
    fn mates_coming(&self) -> bool;
    /// What holds for its model on a device; `None` where that cannot encode it.
    fn terms(&self, device: usize) -> Option<Terms>;
}

/// The most that one batch of a model may hold. One item always fits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    pub(crate) pixels: u64,
    pub(crate) items: usize,
}

/// What holds for a model on a device.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    pub(crate) budget: Budget,
    /// Pixels per second, once measured.
    pub(crate) rate: Option<f64>,
}

/// What to do next.
#[derive(Debug, PartialEq)]
pub(crate) enum Next<T> {
    /// Encode these, all of one key and at least one, on this device.
    Batch(usize, Vec<T>),
    /// No device can encode these any more.
    Orphans(Vec<T>),
    /// Ask again then, or when something happens.
    At(Instant),
    /// Ask again when something arrives or a device is done.
    Nothing,
}

/// Items waiting for a batch.
#[derive(Debug)]
pub(crate) struct Batcher<T> {
    groups: HashMap<Key, Group<T>>,
    devices: Vec<Device>,
    shares: Shares,
    linger: Duration,
    arrivals: u64,
}

#[derive(Debug)]
struct Group<T> {
    /// By time needed, then by arrival.
    items: BTreeMap<(Instant, u64), T>,
    first: Instant,
    last: Instant,
    /// Batches that went first although they come after it.
    overtaken: u32,
}

/// Which group goes first, the least: the clock of its model, then its first item.
type Rank = (u64, (Instant, u64));

/// Where a group may go now.
enum Place {
    /// There.
    On(usize),
    /// Nowhere yet; perhaps there is a time at which to ask again.
    Later(Option<Instant>),
    /// Nowhere, ever.
    Nowhere,
}

impl<T: Entry> Batcher<T> {
    pub(crate) fn new(devices: usize, linger: Duration, now: Instant) -> Self {
        Self {
            groups: HashMap::new(),
            devices: (0..devices).map(|_| Device::new(now)).collect(),
            shares: Shares::default(),
            linger,
            arrivals: 0,
        }
    }

    /// Takes an item in.
    pub(crate) fn push(&mut self, item: T, now: Instant) {
        let key = item.key();
        if !self.groups.keys().any(|other| other.model == key.model) {
            self.shares.join(key.model);
        }
        let group = self.groups.entry(key).or_insert_with(|| Group {
            items: BTreeMap::new(),
            first: now,
            last: now,
            overtaken: 0,
        });
        group.last = now;
        group.items.insert((item.needed(), self.arrivals), item);
        self.arrivals += 1;
    }

    /// A device has finished the batch it had first.
    pub(crate) fn done(&mut self, device: usize, now: Instant) {
        self.devices[device].done(now);
    }

    /// Decides.
    pub(crate) fn next(&mut self, now: Instant) -> Next<T> {
        self.sweep(now);
        let mut wake: Option<Instant> = None;
        let mut best: Option<(Rank, Key, usize)> = None;
        for (key, group) in &self.groups {
            match self.place(*key, group, now) {
                Place::On(device) => {
                    let rank = self.rank(*key, group);
                    if best.is_none_or(|(first, ..)| rank < first) {
                        best = Some((rank, *key, device));
                    }
                }
                Place::Later(at) => wake = wake.into_iter().chain(at).min(),
                Place::Nowhere => return Next::Orphans(self.remove(*key)),
            }
        }
        match (best, wake) {
            (Some((_, key, device)), _) => Next::Batch(device, self.take(key, device, now)),
            (None, Some(at)) => Next::At(at),
            (None, None) => Next::Nothing,
        }
    }

    /// Drops what nobody waits for, and with it the place that it held.
    fn sweep(&mut self, now: Instant) {
        self.groups.retain(|_, group| {
            group.items.retain(|_, item| item.is_wanted(now));
            !group.items.is_empty()
        });
    }

    fn rank(&self, key: Key, group: &Group<T>) -> Rank {
        (self.shares.clock(key.model), group.first_item())
    }

    fn place(&self, key: Key, group: &Group<T>, now: Instant) -> Place {
        let terms = |device| group.items.values().next()?.terms(device);
        let known = (0..self.devices.len()).filter_map(|device| terms(device)?.rate);
        // A device that was not measured yet is taken for as good as the best.
        let guess = known.reduce(f64::max);
        let pixels = key.shape.pixels() * group.items.len() as u64;
        let lingers = group.lingers_until(self.linger);
        let mut best: Option<(Duration, usize)> = None;
        let (mut wake, mut place) = (None, Place::Nowhere);
        for (index, device) in self.devices.iter().enumerate() {
            let Some(terms) = terms(index) else { continue };
            place = Place::Later(wake);
            if !device.has_room() {
                continue;
            }
            if group.items.len() < capacity(key, terms) && group.overtaken < MAX_OVERTAKEN {
                let Some(at) = device.wants_more_at(now) else {
                    continue;
                };
                let go = at.max(lingers);
                if now < go {
                    wake = Some(wake.map_or(go, |at: Instant| at.min(go)));
                    place = Place::Later(wake);
                    continue;
                }
            }
            let finishes = device.left(now) + takes(pixels, terms.rate, guess);
            if best.is_none_or(|(first, _)| finishes < first) {
                best = Some((finishes, index));
            }
        }
        best.map_or(place, |(_, device)| Place::On(device))
    }

    fn take(&mut self, key: Key, device: usize, now: Instant) -> Vec<T> {
        let Some(mut group) = self.groups.remove(&key) else {
            return Vec::new();
        };
        let rank = self.rank(key, &group);
        for (other, waiting) in &mut self.groups {
            let other: Rank = (self.shares.clock(other.model), waiting.first_item());
            waiting.overtaken += u32::from(other < rank);
        }
        let terms = group.items.values().next().and_then(|i| i.terms(device));
        let capacity = terms.map_or(1, |terms| capacity(key, terms));
        let mut batch = Vec::with_capacity(capacity.min(group.items.len()));
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
        let pixels = key.shape.pixels() * batch.len() as u64;
        let groups = &self.groups;
        self.shares.charge(key.model, pixels, |model| {
            groups.keys().any(|key| key.model == model)
        });
        self.devices[device].launch(pixels, terms.and_then(|terms| terms.rate), now);
        batch
    }

    fn remove(&mut self, key: Key) -> Vec<T> {
        let group = self.groups.remove(&key);
        group.map_or_else(Vec::new, |group| group.items.into_values().collect())
    }
}

fn capacity(key: Key, terms: Terms) -> usize {
    let by_pixels = terms.budget.pixels / key.shape.pixels().max(1);
    (by_pixels.min(terms.budget.items as u64) as usize).max(1)
}

impl<T: Entry> Group<T> {
    /// When its first item is needed, and when that arrived.
    fn first_item(&self) -> (Instant, u64) {
        let first = self.items.first_key_value();
        first.map_or((self.first, 0), |(at, _)| *at)
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
