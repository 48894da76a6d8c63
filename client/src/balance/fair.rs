//! Trainers and their shares: start-time fair queueing among requests that are urgent.
//!
//! A request's tag is where its trainer stands on a clock that runs with the work done for the
//! trainers that want some. The lowest tag goes first, so each of them gets work in proportion to its
//! weight, whatever it asks for, and one that comes late is owed nothing for the past. (Goyal, Vin
//! and Cheng, Start-time Fair Queueing, 1996.)

use std::{collections::HashMap, sync::Arc, time::Duration};

use super::{rate::Lately, types::Time, view::TrainerView};

/// Trainers that are told apart; further ones share the last place.
const MAX_TRAINERS: usize = 1024;
/// A trainer that has nothing here and was silent for so long is forgotten.
const FORGET_AFTER: Duration = Duration::from_secs(300);
/// Weights are kept within these.
const WEIGHTS: (f64, f64) = (1e-3, 1e3);

/// A trainer's place in [`Trainers`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TrainerId(u32);

#[derive(Debug)]
pub(super) struct Trainer {
    pub(super) name: Arc<str>,
    weight: f64,
    /// Where it stands.
    tag: Time,
    seen: Time,
    pub(super) queued: u64,
    pub(super) outstanding: u64,
    pub(super) requests: u64,
    ahead: Duration,
    ready: Option<u64>,
    work: Lately,
    late: u64,
    answered: u64,
}

/// All trainers that have asked for something lately.
#[derive(Debug, Default)]
pub(super) struct Trainers {
    known: Vec<Trainer>,
    names: HashMap<Arc<str>, TrainerId>,
    /// Tag of the request served last.
    clock: Time,
}

impl Trainers {
    /// A request has come that is needed in `ahead`.
    pub(super) fn asks(
        &mut self,
        now: Time,
        (name, weight): (&str, f64),
        ahead: Duration,
        ready: Option<u64>,
    ) -> TrainerId {
        let id = match self.names.get(name) {
            Some(&id) => id,
            None => self.enter(now, name),
        };
        let trainer = self.get(id);
        trainer.weight = if weight.is_finite() {
            weight.clamp(WEIGHTS.0, WEIGHTS.1)
        } else {
            1.0
        };
        trainer.seen = now;
        trainer.ahead = ahead;
        trainer.ready = ready;
        id
    }

    fn enter(&mut self, now: Time, name: &str) -> TrainerId {
        let silent = |one: &Trainer| one.requests == 0 && now > one.seen + FORGET_AFTER;
        let free = self.known.iter().position(silent);
        let slot = match free {
            Some(slot) => slot,
            None if self.known.len() < MAX_TRAINERS => self.known.len(),
            None => return TrainerId(MAX_TRAINERS as u32 - 1),
        };
        let name: Arc<str> = name.into();
        let trainer = Trainer {
            name: name.clone(),
            weight: 1.0,
            tag: self.clock,
            seen: now,
            queued: 0,
            outstanding: 0,
            requests: 0,
            ahead: Duration::ZERO,
            ready: None,
            work: Lately::default(),
            late: 0,
            answered: 0,
        };
        if slot == self.known.len() {
            self.known.push(trainer);
        } else {
            let old = std::mem::replace(&mut self.known[slot], trainer);
            self.names.remove(&old.name);
        }
        let id = TrainerId(slot as u32);
        self.names.insert(name, id);
        id
    }

    pub(super) fn get(&mut self, id: TrainerId) -> &mut Trainer {
        &mut self.known[id.0 as usize]
    }

    /// The tag of its next urgent request, which costs so many replica-seconds.
    pub(super) fn tag(&mut self, id: TrainerId, cost: f64) -> Time {
        let clock = self.clock;
        let trainer = self.get(id);
        let tag = trainer.tag.max(clock);
        trainer.tag = tag + Duration::from_secs_f64(cost / trainer.weight);
        tag
    }

    /// A request with this tag goes out.
    pub(super) fn served(&mut self, tag: Time) {
        self.clock = self.clock.max(tag);
    }

    /// A request was answered.
    pub(super) fn answered(&mut self, id: TrainerId, now: Time, pixels: u64, late: bool) {
        let trainer = self.get(id);
        trainer.work.add(now, pixels as f64);
        trainer.answered += 1;
        trainer.late += u64::from(late);
    }

    /// Whether one has asked for something that it needed within so long, and still waits.
    pub(super) fn any_starves(&self, within: Duration) -> bool {
        let starves = |one: &Trainer| one.requests > 0 && one.ahead < within;
        self.known.iter().any(starves)
    }

    /// By name.
    pub(super) fn view(&self, now: Time) -> Vec<TrainerView> {
        let lately = |one: &&Trainer| one.requests > 0 || now <= one.seen + FORGET_AFTER;
        let view = |one: &Trainer| TrainerView {
            name: one.name.clone(),
            weight: one.weight,
            queued_pixels: one.queued,
            outstanding_pixels: one.outstanding,
            pixels_per_second: one.work.rate(now),
            ahead: one.ahead,
            ready_batches: one.ready,
            late: one.late,
            answered: one.answered,
        };
        let mut trainers: Vec<_> = self.known.iter().filter(lately).map(view).collect();
        trainers.sort_by(|a, b| a.name.cmp(&b.name));
        trainers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_follow_weights() {
        let mut trainers = Trainers::default();
        let mut ask =
            |name, weight| trainers.asks(Time::ZERO, (name, weight), Duration::ZERO, None);
        let (light, heavy) = (ask("light", 1.0), ask("heavy", 3.0));
        // Each always has one request waiting; the light one's are twice as large.
        let mut waiting = [
            (trainers.tag(light, 2.0), light, 2.0),
            (trainers.tag(heavy, 1.0), heavy, 1.0),
        ];
        let mut work = [0.0; 2];
        for _ in 0..1000 {
            let next = usize::from(waiting[1].0 <= waiting[0].0);
            let (tag, id, cost) = waiting[next];
            trainers.served(tag);
            work[next] += cost;
            waiting[next].0 = trainers.tag(id, cost);
        }
        let ratio = work[1] / work[0];
        assert!((ratio - 3.0).abs() < 0.05, "{ratio}");
    }

    #[test]
    fn who_comes_late_is_owed_nothing() {
        let mut trainers = Trainers::default();
        let first = trainers.asks(Time::ZERO, ("first", 1.0), Duration::ZERO, None);
        for _ in 0..100 {
            let tag = trainers.tag(first, 1.0);
            trainers.served(tag);
        }
        let second = trainers.asks(Time::ZERO, ("second", 1.0), Duration::ZERO, None);
        assert_eq!(trainers.tag(second, 1.0), Duration::from_secs(99));
    }

    #[test]
    fn the_silent_are_forgotten() {
        let mut trainers = Trainers::default();
        for number in 0..2 * MAX_TRAINERS {
            trainers.asks(Time::ZERO, (&number.to_string(), 1.0), Duration::ZERO, None);
        }
        assert_eq!(trainers.view(Time::ZERO).len(), MAX_TRAINERS);
        let later = FORGET_AFTER * 2;
        trainers.asks(later, ("new", f64::NAN), Duration::ZERO, Some(3));
        let view = trainers.view(later);
        assert_eq!((view.len(), view[0].weight), (1, 1.0));
    }
}
