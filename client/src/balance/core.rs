//! The balancer as a state machine: told what happens and what time it is, it says what to do.

mod finish;
mod look;
mod place;
mod standing;
mod suspects;
mod watch;

use std::{collections::BTreeSet, time::Duration};

use preheat_proto::{Code, Error as CallError};
use rustc_hash::FxHashMap;

use super::{
    budget::Budget,
    deaths::Deaths,
    desire::Desire,
    fair::Trainers,
    group::Group,
    queue::{Turn, Waiting},
    rate::Lately,
    replica::Replica,
    request::{MAX_FLIGHTS, Request},
    types::{Action, Ask, Full, ReplicaId, Report, RequestId, Served, Time},
    view::Totals,
};

/// Work that a replica has beyond what it is about to finish: enough that it is never idle while a
/// request travels, and little enough that what is bound to it can still be bound elsewhere.
pub(super) const WINDOW: Duration = Duration::from_millis(250);
/// What is needed so soon is urgent: trainers then share what there is.
const URGENT: Duration = Duration::from_secs(1);
/// The longest that anything waits behind what is needed earlier but came later.
const LONGEST_LEISURE: Duration = Duration::from_secs(60);
/// Combinations of model and fingerprint that are asked for at the same time.
const MAX_GROUPS: usize = 256;
/// A combination that nobody asked for in so long is forgotten.
const FORGET_GROUP: Duration = Duration::from_secs(600);
/// Pushback for one who finds the queue full: at least, and at most.
const PUSHBACK: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// What a balancer is allowed.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Requests that may wait at once.
    pub max_queued: usize,
    /// How long requests wait for a replica while there is none that serves them.
    pub patience: Duration,
    /// How long one attempt may take.
    pub attempt_timeout: Duration,
    /// Whether no replica at all is desired after a long time without a request.
    pub scale_to_zero: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_queued: 65_536,
            patience: Duration::from_secs(120),
            attempt_timeout: Duration::from_secs(300),
            scale_to_zero: false,
        }
    }
}

/// Something that is to happen later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    /// Look after an attempt.
    Flight(RequestId, ReplicaId),
    /// A replica's pause is over.
    Open(ReplicaId),
    /// Requests of a group have waited long enough for a replica.
    Hopeless(u16),
}

/// The balancer. See [the module](super) for what it does, and each method for when to call it.
#[derive(Debug)]
pub struct Core {
    settings: Settings,
    replicas: Vec<Option<Replica>>,
    vacant: Vec<u32>,
    lives: u32,
    /// Listed, and not asked yet or away: they may serve what no other does.
    undecided: usize,
    /// Up, stalled or ejected.
    there: usize,
    /// Stalled or ejected.
    ejected: usize,
    groups: Vec<Group>,
    requests: FxHashMap<RequestId, Request>,
    next: u64,
    queued: usize,
    trainers: Trainers,
    timers: BTreeSet<(Time, Timer)>,
    budget: Budget,
    deaths: Deaths,
    /// Replica-seconds of work done.
    work: Lately,
    totals: Totals,
    desire: Desire,
    /// Requests submitted when the desire was last looked at.
    desired_at: u64,
    /// Decided between two calls of `advance`.
    pending: Vec<Action>,
}

impl Core {
    /// A balancer without replicas.
    pub fn new(settings: Settings) -> Self {
        Self {
            desire: Desire::new(settings.scale_to_zero),
            desired_at: 0,
            settings,
            replicas: Vec::new(),
            vacant: Vec::new(),
            lives: 0,
            undecided: 0,
            there: 0,
            ejected: 0,
            groups: Vec::new(),
            requests: FxHashMap::default(),
            next: 0,
            queued: 0,
            trainers: Trainers::default(),
            timers: BTreeSet::new(),
            budget: Budget::new(Time::ZERO),
            deaths: Deaths::default(),
            work: Lately::default(),
            totals: Totals::default(),
            pending: Vec::new(),
        }
    }

    /// A replica is listed. It gets no work before [`Self::up`].
    pub fn join(&mut self, now: Time, name: &str) -> ReplicaId {
        self.lives += 1;
        let slot = self.vacant.pop().unwrap_or_else(|| {
            self.replicas.push(None);
            self.replicas.len() as u32 - 1
        });
        let id = ReplicaId::new(slot, self.lives);
        self.replicas[id.slot()] = Some(Replica::new(id, name, now));
        self.undecided += 1;
        id
    }

    /// A replica answered what it serves: at first, when it is back, and to [`Action::Probe`].
    pub fn up(&mut self, now: Time, id: ReplicaId, served: std::sync::Arc<Served>) {
        self.rises(now, id, served);
    }

    /// A replica cannot be reached, drains, or is none; `reason` in words for people.
    pub fn away(&mut self, now: Time, id: ReplicaId, reason: &str) {
        self.falls(now, id, reason);
    }

    /// A replica is no longer listed. It gets nothing more, and is forgotten once it has nothing left.
    pub fn leave(&mut self, now: Time, id: ReplicaId) {
        self.leaves(now, id);
    }

    /// What a replica said of itself, with its last answer.
    pub fn report(&mut self, now: Time, id: ReplicaId, report: &Report) {
        self.hears(now, id, report);
    }

    /// A request. [`Action::Send`] says where it goes.
    ///
    /// # Errors
    /// Where too many wait already.
    pub fn submit(&mut self, now: Time, ask: &Ask<'_>) -> Result<RequestId, Full> {
        let group = self.group(now, ask.model, ask.fingerprint);
        let (Some(group), true) = (group, self.queued < self.settings.max_queued) else {
            self.totals.full += 1;
            let backlog = group.map_or(0.0, |group| self.groups[usize::from(group)].backlog());
            // Room is there when a part has been taken up, not all.
            let retry_after = Duration::try_from_secs_f64(backlog / 4.0).unwrap_or(PUSHBACK.1);
            return Err(Full {
                retry_after: retry_after.clamp(PUSHBACK.0, PUSHBACK.1),
            });
        };
        let id = RequestId(self.next);
        self.next += 1;
        let ahead = ask.needed_at.saturating_sub(now);
        let who = (ask.trainer, ask.weight);
        let trainer = self.trainers.asks(now, who, ahead, ask.ready);
        let entry = self.trainers.get(trainer);
        entry.requests += 1;
        entry.queued += ask.pixels;
        let turn = if ask.needed_at <= now + URGENT {
            let cost = self.groups[usize::from(group)].cost(ask.pixels);
            Turn::Urgent(self.trainers.tag(trainer, cost))
        } else {
            Turn::Early(ask.needed_at.min(now + LONGEST_LEISURE))
        };
        let request = Request {
            id,
            group,
            trainer,
            pixels: ask.pixels,
            needed_at: ask.needed_at,
            turn: Some(turn),
            pressing: false,
            flights: [None; MAX_FLIGHTS],
            hedged: false,
            faults: 0,
            deaths: Vec::new(),
            away_since: None,
            avoid: None,
            trouble: None,
        };
        let group = &mut self.groups[usize::from(group)];
        group.seen = now;
        group.queue.insert(Waiting {
            request: id,
            turn,
            pixels: ask.pixels,
        });
        self.requests.insert(id, request);
        self.queued += 1;
        self.budget.earn();
        self.totals.submitted += 1;
        Ok(id)
    }

    /// The caller has gone: the request is forgotten, and the owner drops its attempts.
    pub fn withdraw(&mut self, now: Time, id: RequestId) {
        self.end(now, id, false);
    }

    /// What is to be done now. To be called after every other call, and at [`Self::next_wake`].
    pub fn advance(&mut self, now: Time, actions: &mut Vec<Action>) {
        while let Some(&(at, timer)) = self.timers.first()
            && at <= now
        {
            self.timers.remove(&(at, timer));
            match timer {
                Timer::Flight(request, replica) => self.look_after(now, request, replica),
                Timer::Open(replica) => self.opens(now, replica),
                Timer::Hopeless(group) => self.lose_patience(now, group),
            }
        }
        for group in 0..self.groups.len() as u16 {
            self.check_hope(now, group);
            self.place_all(now, group);
        }
        actions.append(&mut self.pending);
    }

    /// When to call [`Self::advance`] next, if nothing happens before. At that time something may
    /// be late, ripe or open.
    pub fn next_wake(&self) -> Option<Time> {
        let timer = self.timers.first().map(|&(at, _)| at);
        let waiting = self.groups.iter().filter(|group| group.waits());
        let room = waiting.filter_map(|group| {
            // Those that are free by now were offered what waits, and did not suit: wait for others.
            group.index.soonest_after(group.offered + WINDOW)
        });
        let room = room.map(|at| at.saturating_sub(WINDOW)).min();
        [timer, room].into_iter().flatten().min()
    }

    /// The group of a model and a fingerprint; `None` where there are too many.
    fn group(&mut self, now: Time, model: &str, fingerprint: &str) -> Option<u16> {
        let same = |group: &Group| group.model == model && group.fingerprint == fingerprint;
        if let Some(known) = self.groups.iter().position(same) {
            return Some(known as u16);
        }
        // One that no replica serves is kept by nobody, or names that strangers make up would fill
        // all places.
        let old = |group: &Group| group.hopeful == 0 || now > group.seen + FORGET_GROUP;
        let idle = |group: &Group| !group.waits() && old(group);
        let slot = match self.groups.iter().position(idle) {
            Some(slot)
                if !self
                    .requests
                    .values()
                    .any(|one| usize::from(one.group) == slot) =>
            {
                self.close_group(slot as u16);
                self.groups[slot] = Group::new(model, fingerprint, now);
                slot
            }
            _ if self.groups.len() < MAX_GROUPS => {
                self.groups.push(Group::new(model, fingerprint, now));
                self.groups.len() - 1
            }
            _ => return None,
        };
        self.open_group(slot as u16);
        Some(slot as u16)
    }

    /// Whether a replica is still listed, or still has something to answer.
    pub fn knows(&self, id: ReplicaId) -> bool {
        self.replica(id).is_some()
    }

    fn replica(&self, id: ReplicaId) -> Option<&Replica> {
        let replica = self.replicas.get(id.slot())?.as_ref()?;
        (replica.id == id).then_some(replica)
    }

    fn replica_mut(&mut self, id: ReplicaId) -> Option<&mut Replica> {
        let replica = self.replicas.get_mut(id.slot())?.as_mut()?;
        (replica.id == id).then_some(replica)
    }

    fn fail(&mut self, now: Time, request: RequestId, error: CallError) {
        self.end(now, request, true);
        self.pending.push(Action::Fail { request, error });
    }
}

/// An error of the balancer itself.
pub(super) fn unavailable(message: String) -> CallError {
    CallError::new(Code::Unavailable, message)
}

#[cfg(test)]
mod tests;
