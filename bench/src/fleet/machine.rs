//! A simulated replica: one server, first come first served.

use std::{collections::VecDeque, time::Duration};

use preheat_client::balance::{Report, Time};

/// How much faster than they are liars say they are.
const LIE: f64 = 10.0;

/// One replica.
#[derive(Debug)]
pub(super) struct Machine {
    /// Output pixels a second.
    pub(super) rate: f64,
    pub(super) up: bool,
    pub(super) frozen: bool,
    pub(super) lies: bool,
    /// Which process this is; each end begins another.
    pub(super) life: u32,
    /// Which planned end of a service counts.
    pub(super) turn: u32,
    pub(super) waiting: VecDeque<u32>,
    pub(super) serving: Option<Serving>,
    /// Output pixels inside it, without those of callers that have gone.
    pub(super) pixels: u64,
    /// A probe came while it stood still.
    pub(super) probed: bool,
    pub(super) stalls: fastrand::Rng,
    pub(super) crashes: fastrand::Rng,
    /// Seconds of the measured time in which it worked, and in which it could have.
    pub(super) busy: Spells,
    pub(super) able: Spells,
}

/// What a replica is at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Serving {
    pub(super) call: u32,
    /// What was left to do when it last went on.
    left: Duration,
}

/// Seconds of a state, within the measured time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spells {
    window: [Time; 2],
    since: Option<Time>,
    total: Duration,
}

impl Serving {
    pub(super) const fn new(call: u32, left: Duration) -> Self {
        Self { call, left }
    }
}

impl Spells {
    pub(super) const fn new(window: [Time; 2]) -> Self {
        Self {
            window,
            since: None,
            total: Duration::ZERO,
        }
    }

    /// The state begins or ends. How long it lasted comes back when it ends.
    pub(super) fn set(&mut self, now: Time, on: bool) -> Duration {
        match (self.since, on) {
            (None, true) => self.since = Some(now),
            (Some(since), false) => {
                self.since = None;
                let [from, to] = self.window;
                self.total += now.min(to).saturating_sub(since.max(from));
                return now.saturating_sub(since);
            }
            _ => {}
        }
        Duration::ZERO
    }

    /// Seconds so far, the present spell included.
    pub(super) fn seconds(mut self, now: Time) -> f64 {
        self.set(now, false);
        self.total.as_secs_f64()
    }
}

impl Machine {
    /// Goes on with what it is at: when it will be through, as its `turn`.
    pub(super) fn go_on(&mut self, now: Time) -> Option<(Time, u32)> {
        let serving = self.serving.as_ref()?;
        self.busy.set(now, true);
        self.turn += 1;
        Some((now + serving.left, self.turn))
    }

    /// Stops, wherever it is.
    pub(super) fn pause(&mut self, now: Time) {
        let done = self.busy.set(now, false);
        self.turn += 1;
        if let Some(serving) = &mut self.serving {
            serving.left = serving.left.saturating_sub(done);
        }
    }

    /// Whether it could work changes.
    pub(super) fn settle(&mut self, now: Time) {
        let able = self.up && !self.frozen;
        self.able.set(now, able);
    }

    /// What it says of itself.
    pub(super) fn report(&self) -> Report {
        Report {
            queued_pixels: if self.lies { 0.0 } else { self.pixels as f64 },
            pixels_per_second: self.rate * if self.lies { LIE } else { 1.0 },
            ..Report::default()
        }
    }
}
