//! What trainers do.

use std::time::Duration;

use preheat_client::balance::Time;

use super::{Event, World, book::Asked};
use crate::fleet::{
    policy::Job,
    scene::{Demand, exponential},
};

impl World<'_> {
    /// Trainers begin.
    pub(super) fn open(&mut self) {
        let trainers = self.trainers.len();
        for number in 0..trainers {
            match self.scene.demand {
                Demand::Open { .. } => self.plan_arrival(number as u32),
                Demand::Closed { waiting, slack } => {
                    let part = waiting / trainers + usize::from(number < waiting % trainers);
                    for _ in 0..part {
                        self.ask(number as u32, slack, 0);
                    }
                }
                Demand::Loaders { .. } => {
                    let loader = self.trainers[number].loader.as_ref();
                    let start = loader.map_or(Time::ZERO, |loader| loader.start);
                    self.clock.at(start, Event::Step(number as u32));
                }
            }
        }
    }

    fn plan_arrival(&mut self, trainer: u32) {
        let Demand::Open { load, regular, .. } = self.scene.demand else {
            return;
        };
        let rate = load * self.capacity / self.scene.mean_pixels();
        let mean = self.trainers.len() as f64 / rate;
        let pause = if regular {
            Duration::from_secs_f64(mean)
        } else {
            exponential(&mut self.trainers[trainer as usize].arrivals, mean)
        };
        let at = self.clock.now() + pause;
        if at < self.scene.last_call() {
            self.clock.at(at, Event::Arrive(trainer));
        }
    }

    /// The next request of an open loop.
    pub(super) fn arrives(&mut self, trainer: u32) {
        if let Demand::Open { slack, .. } = self.scene.demand {
            self.ask(trainer, slack, 0);
            self.plan_arrival(trainer);
        }
    }

    fn ask(&mut self, trainer: u32, slack: Duration, batch: u64) {
        let (pixels, noise) = self.trainers[trainer as usize].draw(self.scene);
        let now = self.clock.now();
        let request = self.book.add(Asked {
            trainer,
            pixels,
            noise,
            arrived: now,
            needed_at: now + slack,
            batch,
            calls: Vec::new(),
            sends: 0,
            over: false,
        });
        self.tally.all.submitted += 1;
        self.tally.submitted += u64::from(self.tally.measures(now));
        self.submit(request);
    }

    /// Tells the policy of a request.
    pub(super) fn submit(&mut self, request: u64) {
        let Some(asked) = self.book.live_one(request) else {
            return;
        };
        let loader = self.trainers[asked.trainer as usize].loader.as_ref();
        let job = Job {
            request,
            trainer: asked.trainer,
            pixels: asked.pixels,
            needed_at: asked.needed_at,
            ready: loader.map(|loader| loader.ready()),
        };
        match self.think(|policy, now| policy.submit(now, &job)) {
            Ok(()) => self.act(),
            Err(pause) => {
                self.tally.full += 1;
                self.clock.after(pause, Event::Again(request));
            }
        }
    }

    /// A request has ended, well or not.
    pub(super) fn over(&mut self, request: u64, answered: bool) {
        let now = self.clock.now();
        let Some(asked) = self.book.live_one(request) else {
            self.tally.all.wrong += 1;
            return;
        };
        let (trainer, batch, pixels) = (asked.trainer, asked.batch, asked.pixels);
        let (after, late) = (now.saturating_sub(asked.arrived), now > asked.needed_at);
        let measured = self.tally.measures(asked.arrived);
        self.book.close(request);
        self.book.tidy();
        if answered {
            self.tally.all.answered += 1;
            if self.tally.measures(now) {
                self.tally.pixels += pixels as f64;
            }
        } else {
            self.tally.all.failed += 1;
        }
        if measured {
            self.tally.late += u64::from(late || !answered);
            self.tally.failed += u64::from(!answered);
            if answered {
                self.tally.completed(after);
            }
        }
        match self.scene.demand {
            Demand::Closed { slack, .. } if now < self.scene.last_call() => {
                self.ask(trainer, slack, 0);
            }
            Demand::Loaders { .. } => self.fills(trainer, batch),
            _ => {}
        }
    }

    /// A loader has an answer more. One that failed counts too: a trainer that has lost a batch has
    /// other worries than waiting.
    fn fills(&mut self, trainer: u32, batch: u64) {
        let loader = self.trainers[trainer as usize].loader.as_mut();
        if loader.is_some_and(|loader| loader.answered(batch)) {
            self.takes(trainer);
        }
    }

    /// A loader's step is over.
    pub(super) fn steps(&mut self, trainer: u32) {
        let now = self.clock.now();
        if let Some(loader) = self.trainers[trainer as usize].loader.as_mut() {
            loader.asks(now);
        }
        self.takes(trainer);
    }

    /// Takes a batch if it is there, and asks for as many as there is room for.
    fn takes(&mut self, trainer: u32) {
        let (now, slot) = (self.clock.now(), trainer as usize);
        let Some(loader) = self.trainers[slot].loader.as_mut() else {
            return;
        };
        if let Some(over) = loader.take(now) {
            self.clock.at(over, Event::Step(trainer));
        }
        while now < self.scene.last_call()
            && let Some(loader) = self.trainers[slot].loader.as_mut()
            && let Some((batch, needed)) = loader.admit(now)
        {
            for _ in 0..loader.batch {
                self.ask(trainer, needed.saturating_sub(now), batch);
            }
        }
    }
}
