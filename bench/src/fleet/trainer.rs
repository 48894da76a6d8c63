//! Who asks: open loops, closed loops, and loaders as `preheat-client` has them.

use std::{collections::VecDeque, time::Duration};

use preheat_client::balance::Time;

use super::scene::{Chance, Demand, Scene, log_normal};

/// As in the loader's window: batches are needed at least this far apart, and the newest step has
/// this weight in the estimate of the pace.
const SHORTEST_STEP: Duration = Duration::from_millis(50);
const PACE_WEIGHT: f64 = 0.2;

/// A trainer: what it asks for next, and how.
#[derive(Debug)]
pub(super) struct Trainer {
    pub(super) arrivals: fastrand::Rng,
    jobs: fastrand::Rng,
    /// Where it is a loader.
    pub(super) loader: Option<Loader>,
}

/// A loader: batches are asked for in order, as far ahead as the window reaches, and taken in order.
#[derive(Debug)]
pub(super) struct Loader {
    pub(super) start: Time,
    step: Duration,
    look_ahead: u64,
    /// Requests of a batch.
    pub(super) batch: u64,
    /// Answers that are missing of each batch, from the one that is taken next.
    missing: VecDeque<u64>,
    taken: u64,
    last_taken: Option<Time>,
    pace: Option<Duration>,
    waiting_since: Option<Time>,
    /// Seconds of waiting in each second since its start.
    pub(super) waited: Vec<f64>,
}

impl Trainer {
    pub(super) fn all(scene: &Scene) -> Vec<Self> {
        let new = |number| Self {
            arrivals: scene.rng(Chance::Arrivals, number),
            jobs: scene.rng(Chance::Jobs, number),
            loader: Loader::new(scene, number),
        };
        (0..scene.trainers).map(new).collect()
    }

    /// Output pixels of its next request, and what it takes beyond them.
    pub(super) fn draw(&mut self, scene: &Scene) -> (u64, f64) {
        let total: u32 = scene.sizes.iter().map(|&(_, weight)| weight).sum();
        let mut at = self.jobs.u32(..total.max(1));
        let size = scene.sizes.iter().find(|&&(_, weight)| {
            let here = at < weight;
            at = at.wrapping_sub(weight);
            here
        });
        let pixels = size.map_or(1, |&(pixels, _)| pixels);
        (pixels, log_normal(&mut self.jobs, scene.noise))
    }
}

impl Loader {
    fn new(scene: &Scene, number: usize) -> Option<Self> {
        let Demand::Loaders {
            load,
            step,
            look_ahead,
        } = scene.demand
        else {
            return None;
        };
        let part = load * scene.capacity() / scene.trainers as f64;
        let batch = part * step.as_secs_f64() / scene.mean_pixels();
        // Whole requests: the step is as long as they are worth.
        let whole = batch.round().max(1.0);
        Some(Self {
            start: if number + 1 == scene.trainers {
                scene.warm_up
            } else {
                Time::ZERO
            },
            step: step.mul_f64(whole / batch),
            look_ahead,
            batch: whole as u64,
            missing: VecDeque::new(),
            taken: 0,
            last_taken: None,
            pace: None,
            waiting_since: None,
            waited: Vec::new(),
        })
    }

    /// If there is room for another batch: its number, and when it will be needed.
    pub(super) fn admit(&mut self, now: Time) -> Option<(u64, Time)> {
        if self.missing.len() as u64 >= self.look_ahead {
            return None;
        }
        let number = self.taken + self.missing.len() as u64;
        self.missing.push_back(self.batch);
        let ahead = self.missing.len() as u32;
        let pace = self.pace.unwrap_or_default();
        let soonest = now + pace.max(SHORTEST_STEP) * (ahead - 1);
        let needed = match self.last_taken {
            Some(last) => soonest.max(last + pace * ahead),
            None => soonest,
        };
        Some((number, needed))
    }

    /// Complete batches that it holds.
    pub(super) fn ready(&self) -> u64 {
        let complete = self.missing.iter().take_while(|missing| **missing == 0);
        complete.count() as u64
    }

    /// A request of a batch is answered. Whether the trainer waits for just that.
    pub(super) fn answered(&mut self, batch: u64) -> bool {
        let place = batch.checked_sub(self.taken);
        if let Some(missing) = place.and_then(|place| self.missing.get_mut(place as usize)) {
            *missing = missing.saturating_sub(1);
        }
        self.waiting_since.is_some() && self.missing.front() == Some(&0)
    }

    /// The step is over.
    pub(super) fn asks(&mut self, now: Time) {
        if let Some(last) = self.last_taken {
            let step = now.saturating_sub(last);
            self.pace = Some(self.pace.map_or(step, |mean| {
                mean.mul_f64(1.0 - PACE_WEIGHT) + step.mul_f64(PACE_WEIGHT)
            }));
        }
        self.waiting_since = Some(now);
    }

    /// Takes the next batch, if it is complete: when the step with it will be over.
    pub(super) fn take(&mut self, now: Time) -> Option<Time> {
        if self.missing.front() != Some(&0) {
            return None;
        }
        self.missing.pop_front();
        self.taken += 1;
        self.last_taken = Some(now);
        self.stop_waiting(now);
        Some(now + self.step)
    }

    /// Notes how long it has waited, second by second.
    pub(super) fn stop_waiting(&mut self, now: Time) {
        let Some(mut at) = self.waiting_since.take() else {
            return;
        };
        while at < now {
            let second = at.saturating_sub(self.start).as_secs();
            let until = now.min(self.start + Duration::from_secs(second + 1));
            if self.waited.len() <= second as usize {
                self.waited.resize(second as usize + 1, 0.0);
            }
            self.waited[second as usize] += until.saturating_sub(at).as_secs_f64();
            at = until;
        }
    }
}
