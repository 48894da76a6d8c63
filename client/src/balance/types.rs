//! What goes into the balancer and what comes out. No I/O, no clock: every call says what time it is.

use std::{sync::Arc, time::Duration};

use preheat_proto::Error as CallError;

/// Time since some moment that the owner of the balancer chose. Never goes back.
pub type Time = Duration;

/// A replica, for as long as it is listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplicaId {
    slot: u32,
    /// Slots are used again; this tells their holders apart.
    life: u32,
}

impl ReplicaId {
    pub(super) const fn new(slot: u32, life: u32) -> Self {
        Self { slot, life }
    }

    pub(super) const fn slot(self) -> usize {
        self.slot as usize
    }

    pub(super) const fn life(self) -> u32 {
        self.life
    }

    #[cfg(test)]
    pub(super) const fn test(slot: u32) -> Self {
        Self::new(slot, 0)
    }
}

/// A request, from its submission to its end. Never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub(super) u64);

impl RequestId {
    pub(super) const FIRST: Self = Self(0);
}

/// What a replica answers to `Info`, as far as eligibility goes. Replicas that serve the same share
/// one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Served {
    /// Every model with every fingerprint for which calls are answered; the current one first.
    pub models: Vec<(String, Vec<String>)>,
}

impl Served {
    /// Whether calls of this model that pin this fingerprint, or any where it is empty, are answered.
    pub fn answers(&self, model: &str, fingerprint: &str) -> bool {
        let mut named = self.models.iter().filter(|(name, _)| name == model);
        named.any(|(_, known)| fingerprint.is_empty() || known.iter().any(|f| f == fingerprint))
    }
}

/// A request for work, before it is bound to a replica.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// Name of the model.
    pub model: &'a str,
    /// The only fingerprint that may answer; empty for any.
    pub fingerprint: &'a str,
    /// Who asks: requests of one trainer share its part of the fleet.
    pub trainer: &'a str,
    /// Its part, in proportion to those of the others; 1 is usual.
    pub weight: f64,
    /// Output pixels.
    pub pixels: u64,
    /// When the answer is needed.
    pub needed_at: Time,
    /// Complete batches that the trainer holds, if it says so.
    pub ready: Option<u64>,
}

/// Something to do, decided by the balancer.
#[derive(Clone, Debug)]
pub enum Action {
    /// Send the request to this replica. If it is under way elsewhere, this is a second try of the
    /// same: the first answer wins.
    Send {
        /// What.
        request: RequestId,
        /// Where to.
        replica: ReplicaId,
    },
    /// Ask this replica whether it lives (`Info`), and report [`Core::up`](super::Core::up) or
    /// [`Core::away`](super::Core::away).
    Probe {
        /// Which.
        replica: ReplicaId,
    },
    /// Give this attempt up; it must not be reported any more.
    Cancel {
        /// What.
        request: RequestId,
        /// Where.
        replica: ReplicaId,
    },
    /// The request is over, and this is why.
    Fail {
        /// What.
        request: RequestId,
        /// In words for the caller.
        error: CallError,
    },
}

/// What came of an attempt.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// An answer.
    Answered,
    /// The replica is full, and has room again after so long.
    Busy(Duration),
    /// The replica drains, or cannot be reached, or hung up. `underway`: it had the request, which
    /// may therefore be what ended it.
    Away {
        /// Whether the connection was lost while the replica had the request.
        underway: bool,
        /// In words.
        reason: Arc<str>,
    },
    /// It does not serve this model, or not with this fingerprint.
    NotHere(CallError),
    /// The request is wrong, and would be wrong everywhere.
    Refused(CallError),
    /// The replica is broken: a wrong answer, an internal error.
    Fault(CallError),
}

/// What to do about an attempt that ended.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// It is the answer. Attempts elsewhere are cancelled by actions that follow.
    Deliver,
    /// Nothing: the request goes on elsewhere, or waits for its next turn.
    GoOn,
    /// The request is over.
    Fail(CallError),
}

/// There is no room for the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full {
    /// When to come back.
    pub retry_after: Duration,
}

/// What a replica says about itself in the trailers of an answer (ORCA). Zero is unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Report {
    /// Output pixels inside it.
    pub queued_pixels: f64,
    /// Output pixels that it takes.
    pub queue_pixels: f64,
    /// Output pixels a second that its devices encode.
    pub pixels_per_second: f64,
    /// Output pixels that it would like to have waiting: it is a balancer itself.
    pub window_pixels: f64,
}
