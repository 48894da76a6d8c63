//! What a run came to.

use std::time::Duration;

use super::World;
use crate::fleet::{
    scene::{Demand, Scene},
    tally::Tally,
};

/// Waiting for less than this part of a second is none.
const NOTICED: f64 = 0.01;
/// How long the last loader may take to catch up.
pub(in crate::fleet) const CATCH_UP: usize = 10;

/// What a run came to.
#[derive(Clone, Debug)]
pub(in crate::fleet) struct Outcome {
    pub(in crate::fleet) policy: String,
    pub(in crate::fleet) tally: Tally,
    /// Share of its time in which a replica worked, by speed.
    pub(in crate::fleet) worked: Vec<f64>,
    /// Share of all speed that was there and did not stand still.
    pub(in crate::fleet) able: f64,
    /// Answered in the measured time, of what the whole fleet could.
    pub(in crate::fleet) throughput: f64,
    pub(in crate::fleet) megapixels_per_second: f64,
    /// What the policy took of the time of this machine for one request.
    pub(in crate::fleet) micros: f64,
    pub(in crate::fleet) waits: Option<Waits>,
}

/// How long loaders waited, as shares of their time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::fleet) struct Waits {
    /// Those that were ahead when the last one began, from then on: the longest.
    pub(in crate::fleet) ahead: f64,
    /// The last, in the first seconds, and afterwards.
    pub(in crate::fleet) at_first: f64,
    pub(in crate::fleet) later: f64,
    /// Seconds after its start from which on it waited less than 1 % of every second.
    pub(in crate::fleet) caught_up: usize,
}

impl Outcome {
    /// Requests that ended neither well nor badly.
    pub(in crate::fleet) const fn lost(&self) -> u64 {
        let all = &self.tally.all;
        all.submitted - all.answered - all.failed
    }
}

pub(super) fn outcome(world: World<'_>) -> Outcome {
    let (scene, now) = (world.scene, world.clock.now());
    let mut tally = world.tally;
    for asked in world.book.left() {
        tally.late += u64::from(tally.measures(asked.arrived));
    }
    let seconds = scene.seconds.as_secs_f64();
    let mut worked = vec![0.0; scene.speeds.len()];
    let mut members = vec![0.0f64; scene.speeds.len()];
    let mut able = 0.0;
    for (number, machine) in world.machines.iter().enumerate() {
        worked[scene.class(number)] += machine.busy.seconds(now) / seconds;
        members[scene.class(number)] += 1.0;
        able += machine.able.seconds(now) * machine.rate;
    }
    for (worked, members) in worked.iter_mut().zip(members) {
        *worked /= members.max(1.0);
    }
    let capacity = scene.capacity() * seconds;
    let submitted = tally.all.submitted.max(1) as f64;
    Outcome {
        policy: String::new(),
        worked,
        able: able / capacity,
        throughput: tally.pixels / capacity,
        megapixels_per_second: tally.pixels / seconds / 1e6,
        micros: world.thought.as_secs_f64() * 1e6 / submitted,
        waits: waits(scene, &world.trainers),
        tally,
    }
}

fn waits(scene: &Scene, trainers: &[crate::fleet::trainer::Trainer]) -> Option<Waits> {
    let Demand::Loaders { .. } = scene.demand else {
        return None;
    };
    let seconds = scene.seconds.as_secs() as usize;
    let late = |from: Duration, waited: &[f64]| -> Vec<f64> {
        let skip = scene.warm_up.saturating_sub(from).as_secs() as usize;
        let mut seen: Vec<f64> = waited.iter().skip(skip).take(seconds).copied().collect();
        seen.resize(seconds.max(1), 0.0);
        seen
    };
    let mut all = trainers
        .iter()
        .filter_map(|trainer| trainer.loader.as_ref());
    let last = all.next_back()?;
    let share = |waited: &[f64]| waited.iter().sum::<f64>() / waited.len().max(1) as f64;
    let ahead = all.map(|loader| share(&late(loader.start, &loader.waited)));
    let seen = late(last.start, &last.waited);
    let (first, then) = seen.split_at(CATCH_UP.min(seen.len()));
    let noticed = seen.iter().rposition(|waited| *waited >= NOTICED);
    Some(Waits {
        ahead: ahead.fold(0.0, f64::max),
        at_first: share(first),
        later: share(then),
        caught_up: noticed.map_or(0, |second| second + 1),
    })
}
