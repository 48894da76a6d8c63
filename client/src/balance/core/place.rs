//! Which waiting request goes to which replica, now.

use std::time::Duration;

use super::{Core, Timer, URGENT, WINDOW};
use crate::balance::{
    index::Found,
    queue::{Turn, Waiting},
    replica::Replica,
    request::Flight,
    types::{Action, ReplicaId, RequestId, Time},
};

/// A request may be finished so much later than possible, for the sake of a replica that would
/// otherwise be idle, ...
const EVEN: Duration = Duration::from_millis(5);
/// ... and by this part of the time that is left until it is needed.
const LEISURE: f64 = 0.1;
/// Requests of the first that are tried to be placed in one round.
const TRIED: usize = 64;

impl Core {
    /// Sends whatever can be sent.
    pub(super) fn place_all(&mut self, now: Time, group: u16) {
        self.ripen(now, group);
        let slot = usize::from(group);
        while self.groups[slot].waits() {
            let soonest = self.groups[slot].index.soonest();
            if soonest.is_none_or(|soonest| soonest > now + WINDOW) {
                break;
            }
            if !self.place_pressing(now, group) && !self.place_queued(now, group) {
                break;
            }
        }
        self.groups[slot].offered = now;
    }

    /// What is needed soon is urgent from now on.
    fn ripen(&mut self, now: Time, group: u16) {
        let slot = usize::from(group);
        while let Some(mut waiting) = self.groups[slot].queue.ripe(now + URGENT) {
            self.groups[slot].queue.remove(waiting);
            if let Some(request) = self.requests.get_mut(&waiting.request) {
                let cost = self.groups[slot].cost(waiting.pixels);
                waiting.turn = Turn::Urgent(self.trainers.tag(request.trainer, cost));
                request.turn = Some(waiting.turn);
                self.groups[slot].queue.insert(waiting);
            }
        }
    }

    /// One of those that go before all others. Each has replicas of its own to avoid.
    fn place_pressing(&mut self, now: Time, group: u16) -> bool {
        let slot = usize::from(group);
        for _ in 0..self.groups[slot].first.len().min(TRIED) {
            let Some(id) = self.groups[slot].first.pop_front() else {
                break;
            };
            let Some(request) = self.requests.get(&id) else {
                continue;
            };
            if !request.pressing {
                continue;
            }
            let suspect = request.is_suspect();
            // Avoiding is pointless where there is no other.
            let avoid = request.avoid.filter(|_| self.groups[slot].index.len() > 1);
            let aboard = request
                .flights
                .map(|flight| flight.map(|flight| flight.replica));
            let pixels = request.pixels;
            let wanted = |replica: &Replica| {
                let id = Some(replica.id);
                id != avoid && !aboard.contains(&id) && !(suspect && replica.suspects > 0)
            };
            match self.choose(now, group, pixels, wanted) {
                Some(found) => {
                    self.send(now, id, found.replica);
                    return true;
                }
                None => self.groups[slot].first.push_back(id),
            }
        }
        false
    }

    /// The first in turn for which a replica with room is not too slow; or else, for a replica that
    /// is too slow for whatever is first, one that would have to wait for long anyway: the last.
    fn place_queued(&mut self, now: Time, group: u16) -> bool {
        let queue = &self.groups[usize::from(group)].queue;
        // There is one for each size, a few at most.
        let mut firsts: Vec<Waiting> = queue.firsts().collect();
        firsts.sort_unstable_by_key(|one| (one.turn, one.request));
        let ahead = Duration::try_from_secs_f64(self.groups[usize::from(group)].backlog());
        let ahead = ahead.unwrap_or(Duration::MAX);
        let lasts: Vec<Waiting> = if ahead > EVEN && queue.len() > firsts.len() {
            queue.lasts().collect()
        } else {
            Vec::new()
        };
        let firsts = firsts.into_iter().map(|one| (one, Duration::ZERO));
        for (one, ahead) in firsts.chain(lasts.into_iter().map(|one| (one, ahead))) {
            let Some(found) = self.choose(now, group, one.pixels, |_| true) else {
                return false;
            };
            if self.suits(now, one.request, found, ahead) {
                self.send(now, one.request, found.replica);
                return true;
            }
        }
        false
    }

    /// Whether a request should go to this replica rather than wait for a better one, behind so much
    /// of what is before it.
    fn suits(&self, now: Time, id: RequestId, found: Found, ahead: Duration) -> bool {
        let Some(request) = self.requests.get(&id) else {
            return false;
        };
        let index = &self.groups[usize::from(request.group)].index;
        let best = index.finish(now, request.pixels).unwrap_or(now);
        let patient = best.saturating_add(ahead).saturating_add(EVEN);
        let leisure = request.needed_at.saturating_sub(found.finish);
        found.finish <= patient.saturating_add(leisure.mul_f64(LEISURE))
    }

    /// The replica with room that would be through with it first.
    fn choose(
        &mut self,
        now: Time,
        group: u16,
        pixels: u64,
        wanted: impl Fn(&Replica) -> bool,
    ) -> Option<Found> {
        loop {
            let replicas = &self.replicas;
            let known = |id: ReplicaId| replicas[id.slot()].as_ref().is_some_and(&wanted);
            let index = &self.groups[usize::from(group)].index;
            let found = index.best(now, now + WINDOW, pixels, known)?;
            let replica = self.replica_mut(found.replica)?;
            if !replica.is_late(now) {
                return Some(found);
            }
            replica.expect_later(now);
            self.relist(found.replica);
        }
    }

    fn send(&mut self, now: Time, id: RequestId, to: ReplicaId) {
        let Some(request) = self.requests.get_mut(&id) else {
            return;
        };
        let group = &mut self.groups[usize::from(request.group)];
        let hedge = request.flights().next().is_some();
        if let Some(waiting) = request.waiting() {
            group.queue.remove(waiting);
            self.queued -= 1;
            if let Turn::Urgent(tag) = waiting.turn {
                self.trainers.served(tag);
            }
            let trainer = self.trainers.get(request.trainer);
            trainer.queued = trainer.queued.saturating_sub(request.pixels);
            trainer.outstanding += request.pixels;
        }
        request.turn = None;
        request.pressing = false;
        let Some(replica) = self.replicas[to.slot()].as_mut() else {
            return;
        };
        let typical = group.typical();
        let rate = replica
            .lane(request.group)
            .map_or(typical, |lane| lane.rate.guess(typical));
        let seconds = request.pixels as f64 / rate.max(1.0);
        let due = replica.takes(now, id, request.pixels, seconds);
        let suspect = request.is_suspect();
        replica.suspects += u32::from(suspect);
        let mut flight = Flight {
            replica: to,
            seconds,
            sent: now,
            due,
            hedge,
            suspect,
            lost: false,
            alarm: due,
        };
        let elsewhere = Duration::from_secs_f64(group.cost(request.pixels));
        flight.alarm = flight.hedge_at(request.needed_at, elsewhere);
        self.timers.insert((flight.alarm, Timer::Flight(id, to)));
        if let Some(place) = request.free() {
            *place = Some(flight);
        }
        self.totals.hedges += u64::from(hedge);
        self.relist(to);
        self.pending.push(Action::Send {
            request: id,
            replica: to,
        });
    }
}
