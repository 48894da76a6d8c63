//! Which requests may be what ends replicas.
//!
//! Whatever a replica had when it ended is suspect. One that had to do with two ends is failed, by
//! name: a third replica is not risked. But where replicas end anyway, because machines are taken
//! away, that proves nothing; and an end was such a one if all that the replica had was answered since.

use std::{collections::VecDeque, time::Duration};

use super::types::{ReplicaId, RequestId, Time};

/// Ends that are remembered.
const MAX_ENDS: usize = 64;
/// How long.
const MEMORY: Duration = Duration::from_secs(60);
/// Ends that no request had to do with, from which on ends prove nothing.
const ORDINARY: usize = 1;
/// Different replicas that a request may have ended.
const MAX_REPLICAS: usize = 2;
/// Ends that it may have had to do with, whatever else is going on.
const MAX_ALL: usize = 5;

#[derive(Debug)]
struct End {
    at: Time,
    aboard: Vec<RequestId>,
}

/// The latest ends of replicas.
#[derive(Debug, Default)]
pub(super) struct Deaths(VecDeque<End>);

impl Deaths {
    /// A replica ended while it had these.
    pub(super) fn record(&mut self, now: Time, aboard: &[RequestId]) {
        while self.0.len() >= MAX_ENDS || self.0.front().is_some_and(|end| end.at + MEMORY < now) {
            self.0.pop_front();
        }
        self.0.push_back(End {
            at: now,
            aboard: aboard.to_vec(),
        });
    }

    /// Whether a request is to blame that was aboard when these replicas ended, the same one perhaps
    /// more than once.
    pub(super) fn blames(&self, ended: &[ReplicaId]) -> bool {
        if ended.len() >= MAX_ALL {
            return true;
        }
        let mut different = ended.to_vec();
        different.sort_unstable();
        different.dedup();
        let ordinary = self.0.iter().filter(|end| end.aboard.is_empty());
        different.len() >= MAX_REPLICAS && ordinary.count() < ORDINARY
    }

    /// A request that was aboard has been answered: it was not to blame.
    pub(super) fn acquits(&mut self, request: RequestId) {
        for end in &mut self.0 {
            end.aboard.retain(|&one| one != request);
        }
    }

    /// These ends are explained.
    pub(super) fn explained(&mut self, by: RequestId) {
        self.0.retain(|end| !end.aboard.contains(&by));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: fn(u32) -> ReplicaId = ReplicaId::test;

    #[test]
    fn two_replicas_are_enough() {
        let mut deaths = Deaths::default();
        let (poison, other) = (RequestId(1), RequestId(2));
        deaths.record(Time::ZERO, &[poison, other]);
        assert!(!deaths.blames(&[ID(0)]));
        deaths.record(Time::ZERO, &[poison]);
        assert!(deaths.blames(&[ID(0), ID(1)]));
        assert!(!deaths.blames(&[ID(0)]));
        // The same replica, started again: it may be somebody else who ends it.
        assert!(!deaths.blames(&[ID(0); 4]));
        assert!(deaths.blames(&[ID(0); 5]));
    }

    #[test]
    fn where_replicas_end_anyway_nobody_is_blamed() {
        let mut deaths = Deaths::default();
        let (unlucky, answered) = (RequestId(1), RequestId(2));
        deaths.record(Time::ZERO, &[answered]);
        deaths.record(Time::ZERO, &[unlucky, answered]);
        deaths.record(Time::ZERO, &[unlucky]);
        assert!(
            deaths.blames(&[ID(1), ID(2)]),
            "the first may have had another cause"
        );
        deaths.acquits(answered);
        assert!(!deaths.blames(&[ID(1), ID(2)]));
        deaths.record(MEMORY * 2, &[unlucky]);
        assert!(deaths.blames(&[ID(2), ID(9)]), "that is long past");
    }

    #[test]
    fn what_is_explained_excuses_nobody() {
        let mut deaths = Deaths::default();
        let (one, two) = (RequestId(1), RequestId(2));
        for _ in 0..2 {
            deaths.record(Time::ZERO, &[one]);
            deaths.record(Time::ZERO, &[two]);
        }
        assert!(deaths.blames(&[ID(0), ID(1)]));
        deaths.explained(one);
        assert!(deaths.blames(&[ID(10), ID(11)]));
    }
}
