//! Weighted round robin: replicas in turn, as often as their load reports say that they are fast.

use std::{cmp::Reverse, collections::BinaryHeap, time::Duration};

use fastrand::Rng;
use preheat_client::balance::{Report, Time};

use super::bound::{Pick, Roster};

/// Turns are dealt anew so often, by the reports that have come: gRPC's default.
const UPDATE: Duration = Duration::from_secs(1);
/// Replicas that must have reported before weights count, also gRPC's.
const ENOUGH: u32 = 2;
/// Virtual time between two turns of a replica of mean speed.
const ROUND: f64 = 1e9;
/// The most that a replica is slower than the mean, as far as turns go.
const SLOWEST: f64 = 1e-6;

/// Replicas by their next turn: earliest deadline first.
#[derive(Debug)]
pub(super) struct Weighted {
    roster: Roster,
    up: Vec<bool>,
    /// Pixels a second as reported; 0 is unknown.
    rates: Vec<f64>,
    /// Sum of those that are known, and how many.
    known: (f64, u32),
    turns: BinaryHeap<Reverse<(u64, u32)>>,
    dealt_at: Option<Time>,
    rng: Rng,
}

impl Weighted {
    pub(super) fn new(replicas: usize, rng: Rng) -> Self {
        Self {
            roster: Roster::new(replicas),
            up: vec![false; replicas],
            rates: vec![0.0; replicas],
            known: (0.0, 0),
            turns: BinaryHeap::new(),
            dealt_at: None,
            rng,
        }
    }

    /// Virtual time between its turns. Who has reported nothing counts like the mean.
    fn round(&self, replica: u32) -> u64 {
        let mean = self.known.0 / f64::from(self.known.1.max(1));
        let rate = self.rates[replica as usize];
        let weight = if rate > 0.0 && self.known.1 >= ENOUGH {
            rate / mean
        } else {
            1.0
        };
        (ROUND / weight.max(SLOWEST)) as u64
    }

    /// Everybody has his first turn somewhere in his round: at the same time would be a stampede.
    fn deal(&mut self, now: Time) {
        self.dealt_at = Some(now);
        let mut turns = std::mem::take(&mut self.turns).into_vec();
        turns.clear();
        for place in 0..self.roster.len() {
            if let Some(replica) = self.roster.get(place) {
                let first = self.rng.u64(..=self.round(replica));
                turns.push(Reverse((first, replica)));
            }
        }
        self.turns = turns.into();
    }
}

impl Pick for Weighted {
    fn up(&mut self, replica: u32) {
        self.up[replica as usize] = true;
        self.roster.insert(replica);
        // Its first turn comes when turns are dealt again.
    }

    fn away(&mut self, replica: u32) {
        self.up[replica as usize] = false;
        self.roster.remove(replica);
    }

    fn pick(&mut self, now: Time) -> Option<u32> {
        if self.roster.len() == 0 {
            return None;
        }
        if self.dealt_at.is_none_or(|dealt| now >= dealt + UPDATE) {
            self.deal(now);
        }
        loop {
            match self.turns.pop() {
                Some(Reverse((turn, replica))) if self.up[replica as usize] => {
                    let next = turn + self.round(replica);
                    self.turns.push(Reverse((next, replica)));
                    return Some(replica);
                }
                Some(_) => {}
                None => self.deal(now),
            }
        }
    }

    fn report(&mut self, replica: u32, report: &Report) {
        let rate = &mut self.rates[replica as usize];
        if report.pixels_per_second > 0.0 {
            self.known.0 += report.pixels_per_second - *rate;
            self.known.1 += u32::from(*rate == 0.0);
            *rate = report.pixels_per_second;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_follow_the_reports() {
        let mut weighted = Weighted::new(3, Rng::with_seed(1));
        let mut picked = [0u32; 3];
        for replica in 0..3 {
            weighted.up(replica);
        }
        for second in 0..100 {
            for _ in 0..160 {
                let replica = weighted.pick(Duration::from_secs(second)).unwrap();
                picked[replica as usize] += 1;
                let pixels_per_second = [1e6, 5e6, 10e6][replica as usize];
                weighted.report(
                    replica,
                    &Report {
                        pixels_per_second,
                        ..Report::default()
                    },
                );
            }
        }
        // 1 : 5 : 10 of 16,000, but for the first second, within 5 %.
        for (picked, expected) in picked.into_iter().zip([1000.0, 5000.0, 10_000.0]) {
            assert!(
                (f64::from(picked) / expected - 1.0).abs() < 0.05,
                "{picked}"
            );
        }
        weighted.away(2);
        for _ in 0..100 {
            assert_ne!(weighted.pick(Duration::from_secs(101)), Some(2));
        }
        weighted.away(0);
        weighted.away(1);
        assert_eq!(weighted.pick(Duration::from_secs(102)), None);
    }
}
