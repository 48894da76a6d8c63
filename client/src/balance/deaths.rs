//! Which requests may be what ends replicas.
//!
//! Whatever a replica had when it ended is suspect. One that had to do with two ends is failed, by
//! name: a third replica is not risked. But where replicas end anyway, because machines are taken
//! away, that proves nothing, and ends that others had no part in say so.

use std::{collections::VecDeque, time::Duration};

use super::types::{ReplicaId, RequestId, Time};

/// Ends that are remembered.
const MAX_ENDS: usize = 64;
/// How long.
const MEMORY: Duration = Duration::from_secs(60);
/// Ends of replicas that did not have the request, from which on ends prove nothing.
const ORDINARY: usize = 2;
/// Different replicas that a request may have ended.
const MAX_REPLICAS: usize = 2;
/// Ends that it may have had to do with, whatever else is going on.
const MAX_ALL: usize = 5;

#[derive(Debug)]
struct End {
    at: Time,
    replica: ReplicaId,
    aboard: Vec<RequestId>,
}

/// The latest ends of replicas.
#[derive(Debug, Default)]
pub(super) struct Deaths(VecDeque<End>);

impl Deaths {
    /// A replica ended while it had these.
    pub(super) fn record(&mut self, now: Time, replica: ReplicaId, aboard: &[RequestId]) {
        while self.0.len() >= MAX_ENDS || self.0.front().is_some_and(|end| end.at + MEMORY < now) {
            self.0.pop_front();
        }
        self.0.push_back(End {
            at: now,
            replica,
            aboard: aboard.to_vec(),
        });
    }

    /// Whether a request is to blame that was aboard when these replicas ended, the same one perhaps
    /// more than once.
    pub(super) fn blames(&self, request: RequestId, ended: &[ReplicaId]) -> bool {
        if ended.len() >= MAX_ALL {
            return true;
        }
        let mut different = ended.to_vec();
        different.sort_unstable();
        different.dedup();
        let others = self.0.iter().filter(|end| !end.aboard.contains(&request));
        let others = others.filter(|end| !different.contains(&end.replica));
        different.len() >= MAX_REPLICAS && others.count() < ORDINARY
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
        deaths.record(Time::ZERO, ID(0), &[poison, other]);
        assert!(!deaths.blames(poison, &[ID(0)]));
        deaths.record(Time::ZERO, ID(1), &[poison]);
        assert!(deaths.blames(poison, &[ID(0), ID(1)]));
        assert!(!deaths.blames(other, &[ID(0)]));
        // The same replica, started again: it may be somebody else who ends it.
        assert!(!deaths.blames(other, &[ID(0); 4]));
        assert!(deaths.blames(other, &[ID(0); 5]));
    }

    #[test]
    fn where_replicas_end_anyway_nobody_is_blamed() {
        let mut deaths = Deaths::default();
        let unlucky = RequestId(1);
        for replica in 0..4 {
            let aboard = if replica < 2 { vec![unlucky] } else { vec![] };
            deaths.record(Time::ZERO, ID(replica), &aboard);
        }
        assert!(!deaths.blames(unlucky, &[ID(0), ID(1)]));
        deaths.record(MEMORY * 2, ID(9), &[unlucky]);
        assert!(
            deaths.blames(unlucky, &[ID(0), ID(9)]),
            "those are long past"
        );
    }

    #[test]
    fn what_is_explained_excuses_nobody() {
        let mut deaths = Deaths::default();
        let (one, two) = (RequestId(1), RequestId(2));
        for replica in 0..2 {
            deaths.record(Time::ZERO, ID(replica), &[one]);
            deaths.record(Time::ZERO, ID(10 + replica), &[two]);
        }
        assert!(!deaths.blames(two, &[ID(10), ID(11)]));
        deaths.explained(one);
        assert!(deaths.blames(two, &[ID(10), ID(11)]));
    }
}
