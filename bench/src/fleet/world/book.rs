//! Requests, by number. Their numbers rise, and what is over at the front is forgotten.

use std::collections::VecDeque;

use preheat_client::balance::Time;

/// A request.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) trainer: u32,
    pub(super) pixels: u64,
    /// What it takes beyond its pixels: the same wherever it is served.
    pub(super) noise: f64,
    pub(super) arrived: Time,
    pub(super) needed_at: Time,
    /// Which batch of a loader it belongs to.
    pub(super) batch: u64,
    /// Calls under way.
    pub(super) calls: Vec<u32>,
    pub(super) sends: u32,
    pub(super) over: bool,
}

/// All requests that are not over, and some that are.
#[derive(Debug, Default)]
pub(super) struct Book {
    first: u64,
    asked: VecDeque<Asked>,
    live: u64,
    /// For requests that are not known any more.
    none: Vec<u32>,
}

impl Book {
    pub(super) fn add(&mut self, asked: Asked) -> u64 {
        self.live += 1;
        self.asked.push_back(asked);
        self.first + self.asked.len() as u64 - 1
    }

    /// Requests that are not over.
    pub(super) const fn live(&self) -> u64 {
        self.live
    }

    pub(super) fn get(&mut self, request: u64) -> Option<&mut Asked> {
        let place = usize::try_from(request.checked_sub(self.first)?).ok()?;
        self.asked.get_mut(place)
    }

    /// If it is not over.
    pub(super) fn live_one(&mut self, request: u64) -> Option<&mut Asked> {
        self.get(request).filter(|asked| !asked.over)
    }

    pub(super) fn calls_of(&mut self, request: u64) -> &mut Vec<u32> {
        let place = request.checked_sub(self.first);
        match place.and_then(|place| self.asked.get_mut(place as usize)) {
            Some(asked) => &mut asked.calls,
            None => &mut self.none,
        }
    }

    /// It is over.
    pub(super) fn close(&mut self, request: u64) {
        if let Some(asked) = self.live_one(request) {
            asked.over = true;
            self.live -= 1;
        }
    }

    /// Forgets those at the front that are over and have no calls left.
    pub(super) fn tidy(&mut self) {
        while let Some(asked) = self.asked.front()
            && asked.over
            && asked.calls.is_empty()
        {
            self.asked.pop_front();
            self.first += 1;
        }
    }

    /// Those that are not over.
    pub(super) fn left(&self) -> impl Iterator<Item = &Asked> {
        self.asked.iter().filter(|asked| !asked.over)
    }
}
