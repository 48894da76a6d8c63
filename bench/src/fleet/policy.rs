//! Who gets what: the policies that are compared, behind one interface, told the same events.

use std::{fmt, time::Duration};

use clap::ValueEnum;
use preheat_client::balance::{Report, Time};

mod bound;
mod ewma;
mod least;
mod ours;
mod simple;
mod weighted;

use bound::Bound;

/// A request, as it is told to a policy.
#[derive(Clone, Copy, Debug)]
pub(super) struct Job {
    pub(super) request: u64,
    pub(super) trainer: u32,
    /// Output pixels.
    pub(super) pixels: u64,
    pub(super) needed_at: Time,
    /// Complete batches that the trainer holds, if it is a loader.
    pub(super) ready: Option<u64>,
}

/// What came of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    Answered,
    /// The replica has gone. `underway`: it had the call.
    Away {
        underway: bool,
    },
}

/// What a policy makes of that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Deliver,
    GoOn,
    Fail,
}

/// What a policy does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Move {
    Send {
        request: u64,
        replica: u32,
    },
    Cancel {
        request: u64,
        replica: u32,
    },
    /// Asks a replica whether it lives; `up` or `away` is the answer.
    Probe {
        replica: u32,
    },
    Fail {
        request: u64,
    },
}

/// A policy. After every call [`Policy::advance`] is called; also at [`Policy::next_wake`].
pub(super) trait Policy {
    /// A replica is there: at first, when it is back, and as the answer to a probe.
    fn up(&mut self, now: Time, replica: u32);
    /// Its connection is closed.
    fn away(&mut self, now: Time, replica: u32);
    /// A request.
    ///
    /// # Errors
    /// Where there is no room for it: when to come back.
    fn submit(&mut self, now: Time, job: &Job) -> Result<(), Duration>;
    /// An attempt that was not cancelled has ended.
    fn finished(&mut self, now: Time, request: u64, replica: u32, ended: Ended) -> Verdict;
    /// What a replica says of itself, with every answer.
    fn report(&mut self, now: Time, replica: u32, report: &Report);
    /// What is to be done.
    fn advance(&mut self, now: Time, moves: &mut Vec<Move>);
    fn next_wake(&self) -> Option<Time>;
}

/// The policies by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Kind {
    /// Preheat's balancer: `preheat_client::balance::Core`.
    Ours,
    /// One after the other.
    RoundRobin,
    /// Any.
    Random,
    /// The one with the fewest calls of all.
    LeastRequests,
    /// Of two at random the one with fewer calls.
    PowerOfTwo,
    /// Of two at random the one with less latency (a moving average that jumps to peaks) x calls.
    PeakEwma,
    /// One after the other, as often as their reports say that they are fast.
    WeightedRoundRobin,
}

impl Kind {
    pub(super) fn name(self) -> String {
        self.to_possible_value()
            .map_or_else(String::new, |value| value.get_name().replace('-', " "))
    }

    /// A policy for so many replicas, of which none is there yet.
    pub(super) fn policy(self, replicas: usize, trainers: usize, seed: u64) -> Box<dyn Policy> {
        let rng = fastrand::Rng::with_seed(seed);
        match self {
            Self::Ours => Box::new(ours::Ours::new(replicas, trainers)),
            Self::RoundRobin => Box::new(Bound::new(simple::RoundRobin::new(replicas))),
            Self::Random => Box::new(Bound::new(simple::Random::new(replicas, rng))),
            Self::LeastRequests => Box::new(Bound::new(least::Least::new(replicas, rng))),
            Self::PowerOfTwo => Box::new(Bound::new(simple::PowerOfTwo::new(replicas, rng))),
            Self::PeakEwma => Box::new(Bound::new(ewma::PeakEwma::new(replicas, rng))),
            Self::WeightedRoundRobin => {
                Box::new(Bound::new(weighted::Weighted::new(replicas, rng)))
            }
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}
