//! One request, from its submission to its end.

use std::time::Duration;

use preheat_proto::Error as CallError;

use super::{
    fair::TrainerId,
    queue::{Turn, Waiting},
    types::{ReplicaId, RequestId, Time},
};

/// Attempts under way at once: one, and its hedge.
pub(super) const MAX_FLIGHTS: usize = 2;
/// A call is late, not just unlucky, when it takes so many times longer than expected, ...
const LATE_FACTOR: u32 = 2;
/// ... and at least so much longer: the bound on how long a stopped replica can hold an answer up
/// before it is asked of another one.
pub(super) const HEDGE_AFTER: Duration = Duration::from_millis(500);
/// Before its answer is needed, a call may be hedged as soon as it is this much late.
const GRACE: Duration = Duration::from_millis(50);
/// A replica that has answered nothing is stopped when a call takes so many times longer than
/// expected, and at least so much longer.
const STALL_FACTOR: u32 = 4;
const STALL_AFTER: Duration = Duration::from_secs(1);

/// One attempt.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flight {
    pub(super) replica: ReplicaId,
    /// What it should take, by itself.
    pub(super) seconds: f64,
    pub(super) sent: Time,
    /// When the answer should come.
    pub(super) due: Time,
    pub(super) hedge: bool,
    /// Whether its replica counts it among those that may have ended another.
    pub(super) suspect: bool,
    /// Whether its replica is known to have ended, though nobody has said so of this attempt.
    pub(super) lost: bool,
    /// When it will be looked at next.
    pub(super) alarm: Time,
}

impl Flight {
    /// When a second attempt may be made, for an answer that is needed then and takes so long.
    pub(super) fn hedge_at(&self, needed_at: Time, service: Duration) -> Time {
        let expected = self.due.saturating_sub(self.sent);
        let soonest = self.due + GRACE.max(expected / 2);
        let latest = self.due + HEDGE_AFTER.max(LATE_FACTOR * expected);
        let in_time = needed_at.saturating_sub(service + GRACE);
        in_time.clamp(soonest, latest)
    }

    /// When the replica counts as stopped, if it has answered nothing else either.
    pub(super) fn stall_at(&self) -> Time {
        let expected = self.due.saturating_sub(self.sent);
        self.due + STALL_AFTER.max(STALL_FACTOR * expected)
    }
}

#[derive(Debug)]
pub(super) struct Request {
    pub(super) id: RequestId,
    pub(super) group: u16,
    pub(super) trainer: TrainerId,
    pub(super) pixels: u64,
    pub(super) needed_at: Time,
    /// Its turn, while it is in the queue.
    pub(super) turn: Option<Turn>,
    /// Whether it is among the first of its group, for another attempt.
    pub(super) pressing: bool,
    pub(super) flights: [Option<Flight>; MAX_FLIGHTS],
    pub(super) hedged: bool,
    pub(super) faults: u32,
    /// Replicas that ended while they had it.
    pub(super) deaths: Vec<ReplicaId>,
    /// Since when it has met only replicas that are away.
    pub(super) away_since: Option<Time>,
    /// Where it failed last: better not there again.
    pub(super) avoid: Option<ReplicaId>,
    /// Why it is not answered yet, if somebody said so.
    pub(super) trouble: Option<Box<CallError>>,
}

impl Request {
    pub(super) fn waiting(&self) -> Option<Waiting> {
        let waiting = |turn| Waiting {
            request: self.id,
            turn,
            pixels: self.pixels,
        };
        self.turn.map(waiting)
    }

    pub(super) fn is_suspect(&self) -> bool {
        !self.deaths.is_empty()
    }

    pub(super) fn flights(&self) -> impl Iterator<Item = &Flight> {
        self.flights.iter().flatten()
    }

    /// A free place for an attempt.
    pub(super) fn free(&mut self) -> Option<&mut Option<Flight>> {
        self.flights.iter_mut().find(|flight| flight.is_none())
    }

    pub(super) fn land(&mut self, replica: ReplicaId) -> Option<Flight> {
        let mut flights = self.flights.iter_mut();
        flights
            .find(|flight| flight.is_some_and(|flight| flight.replica == replica))
            .and_then(Option::take)
    }

    pub(super) fn flight(&mut self, replica: ReplicaId) -> Option<&mut Flight> {
        let mut flights = self.flights.iter_mut().flatten();
        flights.find(|flight| flight.replica == replica)
    }
}
