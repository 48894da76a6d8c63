//! How many replicas there should be, for an autoscaler to read.
//!
//! Work is measured in *replica-seconds*: what one replica of the present average does in a second.
//!
//! ```text
//! busy     = (work + urgent / DRAIN) / MOST_BUSY     replicas that the known demand takes
//! more     = up * GROWTH                             while a trainer starves and the fleet is busy
//! desired  = max of max(busy, more, 1) over the last HOLD
//! ```
//!
//! `work` is what was done lately, a second; `urgent` is the backlog that is needed soon. Where
//! trainers wait, what they get is all that they ask for: a closed loop hides its demand. So the fleet
//! grows by a quarter, and again when those are up, until nobody waits; from then on `work` is the
//! demand. A trainer that waits beside an idle fleet (a slow disk, one call at a time) does not count:
//! replicas would not help it.

#[cfg(test)]
mod tests;

use std::{collections::VecDeque, time::Duration};

use super::{types::Time, view::Desired};

/// Share of the fleet that should be busy at most. Above, waits grow fast with every percent.
const MOST_BUSY: f64 = 0.85;
/// Time in which the urgent backlog should be gone.
const DRAIN: Duration = Duration::from_secs(10);
/// Replicas for each that is up, while a trainer starves.
const GROWTH: f64 = 1.25;
/// Share of the fleet that must be busy for starving to mean that it is too small.
const BUSY: f64 = 0.7;
/// How long fewer replicas must have been enough. Starting one takes about as long.
const HOLD: Duration = Duration::from_secs(60);
/// Time without a request after which no replica is desired, if that is allowed.
const IDLE: Duration = Duration::from_secs(600);
/// Most that are ever desired: a bound on mistakes of rates.
const MAX_DESIRED: f64 = super::discover::MAX_REPLICAS as f64;

/// What the fleet is asked for and what it can do, at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Demand {
    /// Replicas that are up.
    pub up: u32,
    /// What they can do, in replica-seconds a second: `up`, unless some are worth less at present.
    pub capacity: f64,
    /// What was done lately, in replica-seconds a second.
    pub work: f64,
    /// What waits for a replica and is needed soon, in replica-seconds.
    pub urgent: f64,
    /// Whether a trainer waits, or soon will.
    pub starving: bool,
    /// Whether anything was asked since the last time, waits, or is under way.
    pub asked: bool,
}

/// The signal over time. No clock, no I/O.
#[derive(Clone, Debug)]
pub struct Desire {
    scale_to_zero: bool,
    last_asked: Option<Time>,
    /// Maxima of the last [`HOLD`]: later ones are lower. One a second at most, so it is short.
    held: VecDeque<(Time, u32)>,
}

impl Desire {
    /// `scale_to_zero`: whether no replica is desired after ten minutes without a request; otherwise
    /// there is always one.
    pub fn new(scale_to_zero: bool) -> Self {
        Self {
            scale_to_zero,
            last_asked: None,
            held: VecDeque::new(),
        }
    }

    /// The signal now. To be called about once a second, more often where something changed.
    pub fn update(&mut self, now: Time, demand: &Demand) -> Desired {
        // The start counts as a request: nobody could ask before.
        let last_asked = self.last_asked.get_or_insert(now);
        if demand.asked {
            *last_asked = now;
        }
        let idle = now.saturating_sub(*last_asked) >= IDLE;
        let floor = u32::from(!(self.scale_to_zero && idle));
        let utilization = finite(demand.work) / demand.capacity.max(f64::MIN_POSITIVE);
        let utilization = if demand.capacity > 0.0 {
            utilization
        } else {
            0.0
        };

        let mut needed = busy(demand).max(floor);
        if demand.starving && (utilization >= BUSY || finite(demand.urgent) > 0.0) {
            needed = needed.max(round_up(f64::from(demand.up) * GROWTH));
        }
        if demand.up == 0 && demand.asked {
            // All are lost, and with them all knowledge of rates: what was right is right still.
            needed = needed.max(self.present());
        }
        self.hold(now, needed);
        Desired {
            replicas: self.present(),
            up: demand.up,
            utilization,
            starving: demand.starving,
        }
    }

    /// The greatest of those that hold.
    fn present(&self) -> u32 {
        self.held.front().map_or(0, |(_, replicas)| *replicas)
    }

    fn hold(&mut self, now: Time, replicas: u32) {
        while self
            .held
            .back()
            .is_some_and(|(_, lower)| *lower <= replicas)
        {
            self.held.pop_back();
        }
        // Within a second the greater, which is the older, stands for both.
        let second = Duration::from_secs(1);
        match self.held.back() {
            Some((last, _)) if now.saturating_sub(*last) < second => {}
            _ => self.held.push_back((now, replicas)),
        }
        while self.held.len() > 1 && now.saturating_sub(self.held[0].0) >= HOLD {
            self.held.pop_front();
        }
    }
}

/// Replicas that what is known of the demand takes.
fn busy(demand: &Demand) -> u32 {
    let one = if demand.up > 0 && demand.capacity > 0.0 {
        finite(demand.capacity) / f64::from(demand.up)
    } else {
        1.0
    };
    let rate = finite(demand.work) + finite(demand.urgent) / DRAIN.as_secs_f64();
    round_up(rate / MOST_BUSY / one.max(f64::MIN_POSITIVE))
}

fn round_up(replicas: f64) -> u32 {
    // 5 * 1.2 should be 6, not 7.
    (replicas - 1e-9).ceil().clamp(0.0, MAX_DESIRED) as u32
}

/// Rates are measured, and a wrong one must not ask for the whole world.
fn finite(value: f64) -> f64 {
    if value.is_finite() {
        value.max(0.0)
    } else {
        0.0
    }
}
