//! What the usual policies have in common: a request is bound to a replica when it arrives, and stays
//! there until it is answered or its connection is lost; then it is bound to another. Nothing is
//! hedged. Where no replica is there, requests wait in order.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use preheat_client::balance::{Report, Time};

use super::{Ended, Job, Move, Policy, Verdict};

/// The one difference between them.
pub(super) trait Pick {
    /// A replica may be picked from now on; it is told only of replicas that could not.
    fn up(&mut self, replica: u32);
    /// Not any more.
    fn away(&mut self, replica: u32);
    /// One of those that are up.
    fn pick(&mut self, now: Time) -> Option<u32>;
    /// A call was sent.
    fn sent(&mut self, _replica: u32) {}
    /// A call has ended, after so long where it was answered.
    fn ended(&mut self, _now: Time, _replica: u32, _latency: Option<Duration>) {}
    /// A replica said something of itself.
    fn report(&mut self, _replica: u32, _report: &Report) {}
}

/// A policy that binds at arrival.
#[derive(Debug)]
pub(super) struct Bound<P> {
    pick: P,
    up: Vec<bool>,
    waiting: VecDeque<u64>,
    sent: HashMap<u64, Time>,
    probes: Vec<u32>,
}

impl<P> Bound<P> {
    pub(super) fn new(pick: P) -> Self {
        Self {
            pick,
            up: Vec::new(),
            waiting: VecDeque::new(),
            sent: HashMap::new(),
            probes: Vec::new(),
        }
    }

    fn flip(&mut self, replica: u32, up: bool) -> bool {
        let slot = replica as usize;
        if slot >= self.up.len() {
            self.up.resize(slot + 1, false);
        }
        std::mem::replace(&mut self.up[slot], up) != up
    }
}

impl<P: Pick> Policy for Bound<P> {
    fn up(&mut self, _now: Time, replica: u32) {
        if self.flip(replica, true) {
            self.pick.up(replica);
        }
    }

    fn away(&mut self, _now: Time, replica: u32) {
        if self.flip(replica, false) {
            self.pick.away(replica);
        }
    }

    fn submit(&mut self, _now: Time, job: &Job) -> Result<(), Duration> {
        self.waiting.push_back(job.request);
        Ok(())
    }

    fn finished(&mut self, now: Time, request: u64, replica: u32, ended: Ended) -> Verdict {
        let sent = self.sent.remove(&request).unwrap_or(now);
        let answered = ended == Ended::Answered;
        let latency = answered.then(|| now.saturating_sub(sent));
        self.pick.ended(now, replica, latency);
        if answered {
            return Verdict::Deliver;
        }
        if self.up.get(replica as usize).is_some_and(|up| *up) {
            self.away(now, replica);
            self.probes.push(replica);
        }
        self.waiting.push_back(request);
        Verdict::GoOn
    }

    fn report(&mut self, _now: Time, replica: u32, report: &Report) {
        self.pick.report(replica, report);
    }

    fn advance(&mut self, now: Time, moves: &mut Vec<Move>) {
        moves.extend(self.probes.drain(..).map(|replica| Move::Probe { replica }));
        while let Some(&request) = self.waiting.front()
            && let Some(replica) = self.pick.pick(now)
        {
            self.waiting.pop_front();
            self.sent.insert(request, now);
            self.pick.sent(replica);
            moves.push(Move::Send { request, replica });
        }
    }

    fn next_wake(&self) -> Option<Time> {
        None
    }
}

/// The replicas that are up, so that any of them is found at once.
#[derive(Debug)]
pub(super) struct Roster {
    listed: Vec<u32>,
    places: Vec<u32>,
}

impl Roster {
    pub(super) fn new(replicas: usize) -> Self {
        Self {
            listed: Vec::with_capacity(replicas),
            places: vec![0; replicas],
        }
    }

    pub(super) fn insert(&mut self, replica: u32) {
        self.places[replica as usize] = self.listed.len() as u32;
        self.listed.push(replica);
    }

    pub(super) fn remove(&mut self, replica: u32) {
        let place = self.places[replica as usize] as usize;
        self.listed.swap_remove(place);
        if let Some(&moved) = self.listed.get(place) {
            self.places[moved as usize] = place as u32;
        }
    }

    pub(super) const fn len(&self) -> usize {
        self.listed.len()
    }

    pub(super) fn get(&self, place: usize) -> Option<u32> {
        self.listed.get(place).copied()
    }

    /// Two different ones, or twice the only one.
    pub(super) fn two(&self, rng: &mut fastrand::Rng) -> Option<[u32; 2]> {
        let count = self.listed.len();
        if count < 2 {
            return self.get(0).map(|only| [only, only]);
        }
        let first = rng.usize(..count);
        let second = (first + rng.usize(1..count)) % count;
        Some([self.listed[first], self.listed[second]])
    }
}
