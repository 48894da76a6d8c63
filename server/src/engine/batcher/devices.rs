//! What the batcher believes of the devices: what they have to do, and for how long.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// Batches put together ahead of a device. One is enough to hide the copying; more would only take
/// the choice of mates too early.
pub(crate) const AHEAD: usize = 1;

/// A partial batch goes ahead when the device is expected to fall idle within so long: about what
/// it takes to copy a batch together and to wake two threads ...
const LEAD: Duration = Duration::from_millis(3);

/// ... but at most this part of the batch in work ahead, or short batches would gain no mates.
const LEAD_PART: u32 = 4;

/// Pixels per second, before a model was measured on any device. Only compared with itself.
const FIRST_GUESS: f64 = 1e6;

/// The batches that a device has and has not finished, the one in work first.
#[derive(Debug)]
pub(super) struct Device {
    running: VecDeque<Run>,
    /// When the first of them began.
    since: Instant,
}

#[derive(Clone, Copy, Debug)]
struct Run {
    takes: Duration,
    /// Whether that follows from a measurement.
    measured: bool,
}

impl Device {
    pub(super) fn new(now: Instant) -> Self {
        let running = VecDeque::with_capacity(1 + AHEAD);
        Self {
            running,
            since: now,
        }
    }

    /// Whether another batch may be sent.
    pub(super) fn has_room(&self) -> bool {
        self.running.len() <= AHEAD
    }

    /// How long its work will still take, as far as is known.
    pub(super) fn left(&self, now: Instant) -> Duration {
        let all: Duration = self.running.iter().map(|run| run.takes).sum();
        let first = self.running.front().map_or(Duration::ZERO, |run| run.takes);
        // One that takes longer than expected is expected to end now.
        all.saturating_sub(first.min(now.saturating_duration_since(self.since)))
    }

    /// From when on a partial batch is not too early, if that is known.
    pub(super) fn wants_more_at(&self, now: Instant) -> Option<Instant> {
        let known = self.running.iter().all(|run| run.measured);
        let first = self.running.front().map_or(Duration::ZERO, |run| run.takes);
        let lead = LEAD.min(first / LEAD_PART);
        known.then(|| now + self.left(now).saturating_sub(lead))
    }

    /// A batch goes there.
    pub(super) fn launch(&mut self, pixels: u64, rate: Option<f64>, now: Instant) {
        if self.running.is_empty() {
            self.since = now;
        }
        self.running.push_back(Run {
            takes: takes(pixels, rate, None),
            measured: rate.is_some(),
        });
    }

    /// The batch in work is done.
    pub(super) fn done(&mut self, now: Instant) {
        self.running.pop_front();
        self.since = now;
    }
}

/// How long so many pixels take at a rate in pixels per second, or else at another's.
pub(super) fn takes(pixels: u64, rate: Option<f64>, other: Option<f64>) -> Duration {
    let rate = rate.or(other).unwrap_or(FIRST_GUESS).max(1.0);
    Duration::from_secs_f64(pixels as f64 / rate)
}
