//! Round robin, random, and the power of two choices.

use std::time::Duration;

use fastrand::Rng;
use preheat_client::balance::Time;

use super::bound::{Pick, Roster};

/// One after the other.
#[derive(Debug)]
pub(super) struct RoundRobin {
    roster: Roster,
    next: usize,
}

/// Any.
#[derive(Debug)]
pub(super) struct Random {
    roster: Roster,
    rng: Rng,
}

/// Of two at random the one with fewer calls.
#[derive(Debug)]
pub(super) struct PowerOfTwo {
    roster: Roster,
    rng: Rng,
    calls: Vec<u32>,
}

impl RoundRobin {
    pub(super) fn new(replicas: usize) -> Self {
        Self {
            roster: Roster::new(replicas),
            next: 0,
        }
    }
}

impl Random {
    pub(super) fn new(replicas: usize, rng: Rng) -> Self {
        Self {
            roster: Roster::new(replicas),
            rng,
        }
    }
}

impl PowerOfTwo {
    pub(super) fn new(replicas: usize, rng: Rng) -> Self {
        Self {
            roster: Roster::new(replicas),
            rng,
            calls: vec![0; replicas],
        }
    }
}

impl Pick for RoundRobin {
    fn up(&mut self, replica: u32) {
        self.roster.insert(replica);
    }

    fn away(&mut self, replica: u32) {
        self.roster.remove(replica);
    }

    fn pick(&mut self, _now: Time) -> Option<u32> {
        self.next = (self.next + 1) % self.roster.len().max(1);
        self.roster.get(self.next)
    }
}

impl Pick for Random {
    fn up(&mut self, replica: u32) {
        self.roster.insert(replica);
    }

    fn away(&mut self, replica: u32) {
        self.roster.remove(replica);
    }

    fn pick(&mut self, _now: Time) -> Option<u32> {
        let place = self.rng.usize(..self.roster.len().max(1));
        self.roster.get(place)
    }
}

impl Pick for PowerOfTwo {
    fn up(&mut self, replica: u32) {
        self.roster.insert(replica);
    }

    fn away(&mut self, replica: u32) {
        self.roster.remove(replica);
    }

    fn pick(&mut self, _now: Time) -> Option<u32> {
        let [one, other] = self.roster.two(&mut self.rng)?;
        let fewer = self.calls[other as usize] < self.calls[one as usize];
        Some(if fewer { other } else { one })
    }

    fn sent(&mut self, replica: u32) {
        self.calls[replica as usize] += 1;
    }

    fn ended(&mut self, _now: Time, replica: u32, _latency: Option<Duration>) {
        self.calls[replica as usize] -= 1;
    }
}
