//! Peak EWMA: of two at random the one with less latency x (calls + 1), where latency is a moving
//! average that jumps to every peak and then decays, answered or not.

use std::time::Duration;

use fastrand::Rng;
use preheat_client::balance::Time;

use super::bound::{Pick, Roster};

/// What a replica is thought to take that has answered nothing yet, in seconds; and after how long a
/// measured latency counts for 1/e. Both are what service meshes use by default.
const DEFAULT_SECONDS: f64 = 0.03;
const DECAY_SECONDS: f64 = 10.0;

/// Latency and calls by replica.
#[derive(Debug)]
pub(super) struct PeakEwma {
    roster: Roster,
    rng: Rng,
    calls: Vec<u32>,
    latency: Vec<Average>,
}

#[derive(Clone, Copy, Debug)]
struct Average {
    seconds: f64,
    at: Time,
}

impl PeakEwma {
    pub(super) fn new(replicas: usize, rng: Rng) -> Self {
        let unknown = Average {
            seconds: DEFAULT_SECONDS,
            at: Time::ZERO,
        };
        Self {
            roster: Roster::new(replicas),
            rng,
            calls: vec![0; replicas],
            latency: vec![unknown; replicas],
        }
    }

    fn cost(&self, now: Time, replica: u32) -> f64 {
        let slot = replica as usize;
        self.latency[slot].with(now, 0.0).seconds * f64::from(self.calls[slot] + 1)
    }
}

impl Average {
    /// After another measurement.
    fn with(self, now: Time, seconds: f64) -> Self {
        let keep = (-now.saturating_sub(self.at).as_secs_f64() / DECAY_SECONDS).exp();
        let decayed = self.seconds * keep + seconds * (1.0 - keep);
        Self {
            seconds: decayed.max(seconds),
            at: now,
        }
    }
}

impl Pick for PeakEwma {
    fn up(&mut self, replica: u32) {
        self.roster.insert(replica);
    }

    fn away(&mut self, replica: u32) {
        self.roster.remove(replica);
    }

    fn pick(&mut self, now: Time) -> Option<u32> {
        let [one, other] = self.roster.two(&mut self.rng)?;
        let better = self.cost(now, other) < self.cost(now, one);
        Some(if better { other } else { one })
    }

    fn sent(&mut self, replica: u32) {
        self.calls[replica as usize] += 1;
    }

    fn ended(&mut self, now: Time, replica: u32, latency: Option<Duration>) {
        let slot = replica as usize;
        self.calls[slot] -= 1;
        if let Some(latency) = latency {
            self.latency[slot] = self.latency[slot].with(now, latency.as_secs_f64());
        }
    }
}
