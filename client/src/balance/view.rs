//! What there is to see of a balancer at one moment: for the status page, for metrics, for errors.

use std::{sync::Arc, time::Duration};

use super::types::ReplicaId;

/// Everything there is to see.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// In the order in which they were listed.
    pub replicas: Vec<ReplicaView>,
    /// Those that have asked for something lately, by name.
    pub trainers: Vec<TrainerView>,
    /// What waits for a replica.
    pub queue: QueueView,
    /// How many replicas there should be.
    pub desired: Desired,
    /// Output pixels a second that the replicas can do which are up.
    pub pixels_per_second: f64,
    /// What has been counted since the start.
    pub totals: Totals,
}

/// Whether a replica gets work, and why not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Listed, and not asked yet what it serves.
    Unknown,
    /// It gets work.
    Up,
    /// It has had calls for longer than any should take, and gets no more until it answers one.
    Stalled,
    /// It failed too often; tried again after a while, a little at first.
    Ejected,
    /// It drains, cannot be reached, or is no replica.
    Away,
    /// No longer listed; calls under way are ended.
    Leaving,
}

impl Standing {
    /// All of them, for tables and metrics.
    pub const ALL: [Self; 6] = [
        Self::Unknown,
        Self::Up,
        Self::Stalled,
        Self::Ejected,
        Self::Away,
        Self::Leaving,
    ];

    /// One word, lower case.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Up => "up",
            Self::Stalled => "stalled",
            Self::Ejected => "ejected",
            Self::Away => "away",
            Self::Leaving => "leaving",
        }
    }
}

/// One replica.
#[derive(Clone, Debug)]
pub struct ReplicaView {
    /// Its handle.
    pub id: ReplicaId,
    /// Its name as listed: a URI.
    pub name: Arc<str>,
    /// Whether it gets work.
    pub standing: Standing,
    /// Why not, in words; while it does, what is odd about it, mostly nothing.
    pub reason: Arc<str>,
    /// Output pixels a second, as learned; 0 before anything was.
    pub pixels_per_second: f64,
    /// Output pixels that it has and has not answered.
    pub outstanding_pixels: u64,
    /// Calls that it has and has not answered.
    pub outstanding_calls: u32,
    /// Calls that it answered.
    pub answered_calls: u64,
    /// Output pixels that it answered.
    pub answered_pixels: u64,
    /// Faults and lost connections.
    pub faults: u64,
    /// Times that it was ejected.
    pub ejections: u64,
}

/// One trainer.
#[derive(Clone, Debug)]
pub struct TrainerView {
    /// As it calls itself.
    pub name: Arc<str>,
    /// Its part of the fleet, in proportion to those of the others.
    pub weight: f64,
    /// Output pixels of it that wait for a replica.
    pub queued_pixels: u64,
    /// Output pixels of it that replicas have.
    pub outstanding_pixels: u64,
    /// Output pixels a second that it was answered lately.
    pub pixels_per_second: f64,
    /// How far ahead it has asked, as of its last request: the time until that is needed.
    pub ahead: Duration,
    /// Complete batches that it held then, if it said so.
    pub ready_batches: Option<u64>,
    /// Answers that came after they were needed.
    pub late: u64,
    /// Answers.
    pub answered: u64,
}

/// What waits for a replica.
#[derive(Clone, Debug, Default)]
pub struct QueueView {
    /// Requests.
    pub requests: u64,
    /// Output pixels.
    pub pixels: u64,
    /// Those of them that are needed within a second.
    pub urgent_pixels: u64,
    /// Requests by the time until they are needed: below each of [`QueueView::SLACK`], and beyond.
    pub by_slack: [u64; 5],
}

impl QueueView {
    /// Upper bounds of the classes of `by_slack`: late, then nearly, then at leisure.
    pub const SLACK: [Duration; 4] = [
        Duration::ZERO,
        Duration::from_secs(1),
        Duration::from_secs(5),
        Duration::from_secs(30),
    ];
}

/// The size that the fleet should have: for an autoscaler to read.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Desired {
    /// Replicas like those that are up.
    pub replicas: u32,
    /// Those that are up.
    pub up: u32,
    /// Share of its capacity that the fleet does now.
    pub utilization: f64,
    /// Whether a trainer waits, or soon will.
    pub starving: bool,
}

/// Counted since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Requests taken in.
    pub submitted: u64,
    /// Requests answered.
    pub answered: u64,
    /// Requests that ended in an error.
    pub failed: u64,
    /// Requests turned away because the queue was full.
    pub full: u64,
    /// Attempts after the first, hedges aside.
    pub retries: u64,
    /// Second attempts while the first was under way.
    pub hedges: u64,
    /// Hedges that answered first.
    pub hedges_won: u64,
    /// Hedges and retries that the budget did not allow.
    pub out_of_budget: u64,
}
