//! Requests that any of the same replicas can answer, and those replicas.

use std::collections::VecDeque;

use super::{
    index::Index,
    queue::Queue,
    types::{RequestId, Time},
};

/// One model with one fingerprint, or with any.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) model: String,
    pub(super) fingerprint: String,
    pub(super) index: Index,
    pub(super) queue: Queue,
    /// Second attempts, and requests that may have ended a replica: before everything else. Entries
    /// whose request is over are passed over.
    pub(super) first: VecDeque<RequestId>,
    /// Pixels a second of all replicas that serve it and are up.
    rate: f64,
    /// Those whose rate was measured: how many, and how fast all together.
    measured: (u32, f64),
    /// Replicas that serve it and may be up again soon.
    pub(super) hopeful: u32,
    /// Since when there is none.
    pub(super) hopeless_since: Option<Time>,
    pub(super) seen: Time,
    /// When its replicas were last offered what waits.
    pub(super) offered: Time,
}

impl Group {
    pub(super) fn new(model: &str, fingerprint: &str, now: Time) -> Self {
        Self {
            model: model.to_owned(),
            fingerprint: fingerprint.to_owned(),
            index: Index::new(),
            queue: Queue::new(),
            first: VecDeque::new(),
            rate: 0.0,
            measured: (0, 0.0),
            hopeful: 0,
            hopeless_since: None,
            seen: now,
            offered: now,
        }
    }

    /// Whether anything waits.
    pub(super) fn waits(&self) -> bool {
        self.queue.len() > 0 || !self.first.is_empty()
    }

    /// Pixels a second of all that are up.
    pub(super) const fn rate(&self) -> f64 {
        self.rate
    }

    /// Pixels a second of one, on average; 0 before anything was measured.
    pub(super) fn typical(&self) -> f64 {
        let (count, rate) = self.measured;
        if count == 0 {
            0.0
        } else {
            rate / f64::from(count)
        }
    }

    /// A replica's part of the total changes.
    pub(super) fn count(&mut self, before: f64, now: f64) {
        self.rate = (self.rate - before + now).max(0.0);
    }

    /// What was measured of a replica changes; 0 for nothing.
    pub(super) fn measure(&mut self, before: f64, now: f64) {
        let (count, rate) = &mut self.measured;
        *count = *count + u32::from(now > 0.0) - u32::from(before > 0.0);
        *rate = (*rate - before + now).max(0.0);
    }

    /// Seconds until all that waits has been taken up, by all that are up.
    pub(super) fn backlog(&self) -> f64 {
        if self.rate > 0.0 {
            self.queue.pixels() as f64 / self.rate
        } else {
            0.0
        }
    }

    /// Replica-seconds of one replica that so many pixels cost.
    pub(super) fn cost(&self, pixels: u64) -> f64 {
        let typical = self.typical();
        pixels as f64
            / if typical > 0.0 {
                typical
            } else {
                super::rate::UNKNOWN
            }
    }
}
