//! The clock of the simulation: what is to happen, in order of time.

use std::{cmp::Reverse, collections::BinaryHeap};

use preheat_client::balance::Time;

/// Something that happens at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// A trainer of an open loop has another request.
    Arrive(u32),
    /// A loader's step is over: it asks for its next batch.
    Step(u32),
    /// A request that found the queue full tries again.
    Again(u64),
    /// A call reaches its replica.
    Reach(u32),
    /// A replica is through with the call that it serves, if that is still its `turn`.
    Done {
        replica: u32,
        turn: u32,
    },
    /// What came of a call reaches the balancer.
    Answer(u32),
    /// A probe reaches a replica.
    Probe(u32),
    /// The balancer hears that a replica is there, or is back, unless it has gone since.
    Up {
        replica: u32,
        life: u32,
    },
    /// The balancer notices that a replica has gone.
    Away(u32),
    /// A replica stands still, or goes on.
    Freeze(u32),
    Thaw(u32),
    /// A replica ends by itself, if it is still in this life.
    Crash {
        replica: u32,
        life: u32,
    },
    /// It is started again.
    Back(u32),
    /// Many end at once.
    Wave(u32),
    /// The policy wants to be asked.
    Wake,
}

/// Events in order of time, and at the same time in the order in which they were planned.
#[derive(Debug, Default)]
pub(super) struct Clock {
    now: Time,
    planned: u64,
    ahead: BinaryHeap<Reverse<Planned>>,
}

#[derive(Debug, PartialEq, Eq)]
struct Planned {
    at: Time,
    number: u64,
    event: Event,
}

impl Clock {
    pub(super) const fn now(&self) -> Time {
        self.now
    }

    /// Plans an event; what lies in the past happens now.
    pub(super) fn at(&mut self, at: Time, event: Event) {
        self.planned += 1;
        self.ahead.push(Reverse(Planned {
            at: at.max(self.now),
            number: self.planned,
            event,
        }));
    }

    /// Plans an event for so much later.
    pub(super) fn after(&mut self, pause: Time, event: Event) {
        self.at(self.now.saturating_add(pause), event);
    }

    /// Goes to the next event.
    pub(super) fn next(&mut self) -> Option<Event> {
        let Reverse(next) = self.ahead.pop()?;
        self.now = next.at;
        Some(next.event)
    }
}

impl Ord for Planned {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

impl PartialOrd for Planned {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
