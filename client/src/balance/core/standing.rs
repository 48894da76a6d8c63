//! Whether a replica gets work.

use std::{sync::Arc, time::Duration};

use super::{Core, Timer};
use crate::balance::{
    group::Group,
    index::Index,
    rate::Rate,
    replica::{Lane, Replica},
    types::{Action, ReplicaId, Report, Served, Time},
    view::Standing,
};

/// Of the replicas that are there, at most this part may be ejected, however bad they seem: where
/// all look broken it is rather something else.
const MOST_EJECTED: f64 = 0.5;
/// A replica with this part of the speed that is usual is of no use: its calls hold others up.
const TOO_SLOW: f64 = 1.0 / 64.0;
/// Answers before that is said of it.
const ANSWERS_TO_JUDGE: u32 = 8;
/// How long it is then left alone.
const SLOW_PAUSE: Duration = Duration::from_secs(30);
/// What a replica may say of other work: more is not believed, or waited for.
const MOST_OTHER_WORK: f64 = 2.0;
/// The most that a balancer may want to have waiting.
const MOST_WANTED: f64 = 60.0;

impl Standing {
    /// Whether it may answer sooner or later, and so is worth waiting for.
    const fn is_hopeful(self) -> bool {
        matches!(self, Self::Up | Self::Stalled | Self::Ejected)
    }

    const fn is_undecided(self) -> bool {
        matches!(self, Self::Unknown | Self::Away)
    }
}

impl Core {
    pub(super) fn rises(&mut self, now: Time, id: ReplicaId, served: Arc<Served>) {
        let Some(replica) = self.replica_mut(id) else {
            return;
        };
        if replica.standing == Standing::Leaving {
            return;
        }
        let same = replica
            .served
            .as_ref()
            .is_some_and(|known| **known == *served);
        let judged = matches!(replica.standing, Standing::Stalled | Standing::Ejected);
        let begins = !judged || replica.probed;
        if same && replica.standing == Standing::Up {
            return;
        }
        replica.probed = false;
        replica.served = Some(served);
        if begins && replica.standing != Standing::Up {
            let replica = self.replicas[id.slot()].as_mut();
            let was = replica.map(|replica| {
                let was = replica.standing;
                replica.begins(now);
                was
            });
            self.recount(id, was.unwrap_or(Standing::Up), Standing::Up);
        }
        if !same {
            self.assign(id);
        }
        self.relist(id);
    }

    /// It serves something else than before: its lanes are those of the groups that it answers.
    fn assign(&mut self, id: ReplicaId) {
        self.unlist(id);
        let Some(replica) = self.replicas[id.slot()].as_mut() else {
            return;
        };
        let Some(served) = replica.served.clone() else {
            return;
        };
        let hopeful = u32::from(replica.standing.is_hopeful());
        let old = std::mem::take(&mut replica.lanes);
        for lane in &old {
            let group = &mut self.groups[usize::from(lane.group)];
            group.hopeful -= hopeful;
            group.measure(lane.rate.measured(), 0.0);
        }
        for (number, group) in self.groups.iter_mut().enumerate() {
            if served.answers(&group.model, &group.fingerprint) {
                let number = number as u16;
                let known = old.iter().find(|lane| lane.group == number);
                // What was learned of its speed is still the best guess.
                let rate = known.map(|lane| lane.rate).unwrap_or_default();
                group.hopeful += hopeful;
                group.measure(0.0, rate.measured());
                replica.lanes.push(Lane::new(number, rate));
            }
        }
    }

    /// A new group: the replicas that answer it.
    pub(super) fn open_group(&mut self, number: u16) {
        let group = &mut self.groups[usize::from(number)];
        let mut listed = Vec::new();
        for replica in self.replicas.iter_mut().flatten() {
            let served = replica.served.as_ref();
            if served.is_some_and(|known| known.answers(&group.model, &group.fingerprint)) {
                group.hopeful += u32::from(replica.standing.is_hopeful());
                replica.lanes.push(Lane::new(number, replica.said()));
                listed.push(replica.id);
            }
        }
        for id in listed {
            self.relist(id);
        }
    }

    /// A group that is forgotten.
    pub(super) fn close_group(&mut self, number: u16) {
        for replica in self.replicas.iter_mut().flatten() {
            replica.lanes.retain(|lane| lane.group != number);
        }
        self.timers
            .retain(|&(_, timer)| timer != Timer::Hopeless(number));
    }

    pub(super) fn falls(&mut self, now: Time, id: ReplicaId, reason: &str) {
        let Some(replica) = self.replica_mut(id) else {
            return;
        };
        // What is silent, not gone, would keep its calls for ever.
        let silent = replica.standing == Standing::Stalled;
        replica.probed = false;
        if replica.standing != Standing::Leaving {
            if &*replica.reason != reason {
                replica.reason = reason.into();
            }
            replica.ends();
            self.set_standing(id, Standing::Away);
        }
        if silent {
            self.recall(now, id, reason);
        }
        self.release(now);
    }

    /// Takes back all that a replica has, for others.
    fn recall(&mut self, now: Time, id: ReplicaId, reason: &str) {
        let aboard = self.replica(id).map(|replica| replica.aboard.clone());
        for request in aboard.unwrap_or_default() {
            let lost = self.flight(request, id).is_some_and(|one| one.lost);
            self.call_back(now, request, id);
            // Silence by itself is nobody's fault.
            let blamed = if lost {
                self.blamed(request, reason)
            } else {
                None
            };
            match blamed {
                Some(error) => self.fail(now, request, error),
                None => self.again(request),
            }
        }
        self.forget_if_left(id);
    }

    pub(super) fn leaves(&mut self, now: Time, id: ReplicaId) {
        if self.replica(id).is_some() {
            self.set_standing(id, Standing::Leaving);
            self.forget_if_left(id);
            self.release(now);
        }
    }

    pub(super) fn forget_if_left(&mut self, id: ReplicaId) {
        let gone =
            |replica: &Replica| replica.standing == Standing::Leaving && replica.aboard.is_empty();
        if self.replica(id).is_some_and(gone) {
            self.unlist(id);
            if let Some(replica) = self.replicas[id.slot()].take() {
                for lane in &replica.lanes {
                    self.groups[usize::from(lane.group)].measure(lane.rate.measured(), 0.0);
                }
            }
            self.vacant.push(id.slot() as u32);
        }
    }

    pub(super) fn hears(&mut self, now: Time, id: ReplicaId, report: &Report) {
        let Some(replica) = self.replica_mut(id) else {
            return;
        };
        replica.doubt(report.pixels_per_second);
        let ours = replica.pixels as f64;
        let mut rate = 0.0f64;
        for lane in &mut replica.lanes {
            lane.rate.says(report.pixels_per_second);
            rate = rate.max(lane.rate.guess(0.0));
        }
        if rate > 0.0 {
            // It cannot have less than we gave it; what it says came before our latest calls.
            let others = (report.queued_pixels - ours).max(0.0) / rate;
            if others > 0.0 {
                replica.has_other_work(now, others.min(MOST_OTHER_WORK));
            }
            if report.window_pixels > 0.0 {
                replica.wants((report.window_pixels / rate).min(MOST_WANTED));
            }
        }
        self.relist(id);
    }

    /// A replica did something wrong: it is left alone for a while, and longer each time.
    pub(super) fn strike(&mut self, now: Time, id: ReplicaId, reason: &str) {
        let Some(replica) = self.replica_mut(id) else {
            return;
        };
        let (pause, broken) = replica.strike();
        let up = replica.standing == Standing::Up;
        if broken && up && self.may_eject() {
            self.eject(id, Standing::Ejected, reason);
        }
        self.shut(now, id, pause);
    }

    /// A replica has answered nothing for too long.
    pub(super) fn stall(&mut self, now: Time, id: ReplicaId, reason: &str) -> bool {
        let up = self
            .replica(id)
            .is_some_and(|one| one.standing == Standing::Up);
        if !up || !self.may_eject() {
            return false;
        }
        self.eject(id, Standing::Stalled, reason);
        let pause = self.replica_mut(id).map(|replica| replica.strike().0);
        self.shut(now, id, pause.unwrap_or_default());
        true
    }

    /// A replica that is far slower than all others is of no use.
    pub(super) fn judge_speed(&mut self, now: Time, id: ReplicaId, group: u16) {
        let typical = self.groups[usize::from(group)].typical();
        let Some(lane) = self.replica_mut(id).and_then(|replica| replica.lane(group)) else {
            return;
        };
        let rate = lane.rate.measured();
        let slow = lane.rate.answers() >= ANSWERS_TO_JUDGE && rate < typical * TOO_SLOW;
        if slow && self.may_eject() {
            // What is wrong with it may pass: it is then measured afresh.
            if let Some(lane) = self.replica_mut(id).and_then(|replica| replica.lane(group)) {
                lane.rate = Rate::default();
                self.groups[usize::from(group)].measure(rate, 0.0);
            }
            let times = typical / rate.max(1.0);
            self.eject(
                id,
                Standing::Ejected,
                &format!("{times:.0} times slower than usual"),
            );
            self.shut(now, id, SLOW_PAUSE);
        }
    }

    fn eject(&mut self, id: ReplicaId, standing: Standing, reason: &str) {
        if let Some(replica) = self.replica_mut(id) {
            replica.reason = reason.into();
            replica.ejections += 1;
            tracing::warn!(replica = %replica.name, standing = standing.word(), reason, "out");
        }
        self.set_standing(id, standing);
    }

    fn may_eject(&self) -> bool {
        let there = self.there as f64;
        (self.ejected + 1) as f64 <= there * MOST_EJECTED
    }

    /// Where too many are ejected, because others have gone, one comes back before its time.
    fn release(&mut self, now: Time) {
        while self.ejected as f64 > self.there as f64 * MOST_EJECTED {
            let ejected = |one: &&mut Replica| one.standing == Standing::Ejected;
            let first = self.replicas.iter_mut().flatten().filter(ejected);
            let Some(replica) = first.min_by_key(|one| one.opens_at) else {
                return;
            };
            let id = replica.id;
            replica.begins(now);
            self.recount(id, Standing::Ejected, Standing::Up);
            self.relist(id);
        }
    }

    /// Gives a replica nothing for so long.
    pub(super) fn shut(&mut self, now: Time, id: ReplicaId, pause: Duration) {
        if let Some(replica) = self.replica_mut(id) {
            replica.shut = true;
            replica.opens_at = replica.opens_at.max(now + pause);
            let at = replica.opens_at;
            self.timers.insert((at, Timer::Open(id)));
            self.relist(id);
        }
    }

    /// A pause is over, if it was not prolonged.
    pub(super) fn opens(&mut self, now: Time, id: ReplicaId) {
        let Some(replica) = self.replica_mut(id) else {
            return;
        };
        if now < replica.opens_at {
            return;
        }
        replica.shut = false;
        if matches!(replica.standing, Standing::Stalled | Standing::Ejected) {
            replica.probed = true;
            self.pending.push(Action::Probe { replica: id });
        }
        self.relist(id);
    }

    fn set_standing(&mut self, id: ReplicaId, standing: Standing) {
        let Some(replica) = self.replica_mut(id) else {
            return;
        };
        let was = std::mem::replace(&mut replica.standing, standing);
        self.recount(id, was, standing);
        self.relist(id);
    }

    fn recount(&mut self, id: ReplicaId, was: Standing, is: Standing) {
        let ejected = |one| matches!(one, Standing::Stalled | Standing::Ejected);
        let change = |count: &mut usize, before: bool, after: bool| {
            *count = *count + usize::from(after) - usize::from(before);
        };
        change(&mut self.undecided, was.is_undecided(), is.is_undecided());
        change(&mut self.there, was.is_hopeful(), is.is_hopeful());
        change(&mut self.ejected, ejected(was), ejected(is));
        let Some(replica) = self.replicas[id.slot()].as_ref() else {
            return;
        };
        for lane in &replica.lanes {
            let group = &mut self.groups[usize::from(lane.group)];
            group.hopeful =
                group.hopeful + u32::from(is.is_hopeful()) - u32::from(was.is_hopeful());
        }
    }

    /// Puts a replica where it belongs in every index, after anything about it has changed.
    pub(super) fn relist(&mut self, id: ReplicaId) {
        let Some(replica) = self.replicas.get_mut(id.slot()).and_then(Option::as_mut) else {
            return;
        };
        let (takes, up) = (replica.takes_work(), replica.standing == Standing::Up);
        let key = replica.key(super::WINDOW);
        for lane in &mut replica.lanes {
            let group = &mut self.groups[usize::from(lane.group)];
            let rate = lane.rate.guess(group.typical());
            count(group, lane, if up { rate } else { 0.0 });
            let place = takes.then(|| Index::place(rate, key));
            if place == lane.place {
                continue;
            }
            if let Some(place) = lane.place {
                group.index.remove(id, place);
            }
            if let Some(place) = place {
                group.index.insert(id, place);
            }
            lane.place = place;
        }
    }

    /// Takes it out of every index.
    fn unlist(&mut self, id: ReplicaId) {
        let Some(replica) = self.replicas.get_mut(id.slot()).and_then(Option::as_mut) else {
            return;
        };
        for lane in &mut replica.lanes {
            let group = &mut self.groups[usize::from(lane.group)];
            count(group, lane, 0.0);
            if let Some(place) = lane.place.take() {
                group.index.remove(id, place);
            }
        }
    }
}

fn count(group: &mut Group, lane: &mut Lane, rate: f64) {
    group.count(lane.counted, rate);
    lane.counted = rate;
}
