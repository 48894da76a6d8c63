//! One run: a policy, replicas, trainers, and the clock that drives them.

use std::time::{Duration, Instant};

use preheat_client::balance::{Report, Time};
use slab::Slab;

use super::{
    clock::{Clock, Event},
    machine::Machine,
    policy::{Ended, Kind, Move, Policy},
    scene::{Chance, Scene},
    tally::Tally,
    trainer::Trainer,
};

mod asking;
mod book;
mod result;
mod serving;

use book::Book;
pub(super) use result::{CATCH_UP, Outcome};

/// How long all that was asked may take to be answered after the last was asked. Past it, what is
/// missing counts as never answered: an hour is longer than any policy takes that answers at all.
const LONGEST_DRAIN: Duration = Duration::from_secs(3600);
/// The policy is not asked again sooner than this after it was.
const SHORTEST_NAP: Duration = Duration::from_micros(1);

/// A call: one attempt at a request, on one replica.
#[derive(Clone, Copy, Debug)]
struct Call {
    request: u64,
    replica: u32,
    pixels: u64,
    /// Pixels as they feel: with the noise of the request, which is the same on every replica.
    work: f64,
    place: Place,
    /// When the replica learns that nobody waits for it any more.
    gone: Option<Time>,
    ended: Ended,
    report: Option<Report>,
}

/// Where a call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    OnItsWay,
    Inside,
    OnItsWayBack,
}

/// Everything in one run.
pub(super) struct World<'a> {
    scene: &'a Scene,
    /// Of all replicas, in pixels a second: asked for at every arrival.
    capacity: f64,
    clock: Clock,
    policy: Box<dyn Policy>,
    machines: Vec<Machine>,
    calls: Slab<Call>,
    book: Book,
    trainers: Vec<Trainer>,
    tally: Tally,
    waves: fastrand::Rng,
    moves: Vec<Move>,
    /// When the policy will be asked next without another reason.
    wake: Option<Time>,
    /// What the policy has taken of the time of this machine.
    thought: Duration,
}

impl<'a> World<'a> {
    pub(super) fn new(scene: &'a Scene, kind: Kind) -> Self {
        let seed = scene.rng(Chance::Policy, 0).u64(..);
        let mut world = Self {
            scene,
            capacity: scene.capacity(),
            clock: Clock::default(),
            policy: kind.policy(scene.replicas, scene.trainers, seed),
            machines: Vec::with_capacity(scene.replicas),
            calls: Slab::new(),
            book: Book::default(),
            trainers: Trainer::all(scene),
            tally: Tally::new([scene.warm_up, scene.end()]),
            waves: scene.rng(Chance::Waves, 0),
            moves: Vec::new(),
            wake: None,
            thought: Duration::ZERO,
        };
        world.build();
        world.open();
        world
    }

    /// Runs to the end. `tick` hears how far the run is, each simulated second.
    pub(super) fn run(mut self, mut tick: impl FnMut(Duration)) -> Outcome {
        let (stop, mut told) = (self.scene.last_call(), 0);
        while let Some(event) = self.clock.next() {
            let now = self.clock.now();
            if now > stop && (self.book.live() == 0 || now > stop + LONGEST_DRAIN) {
                break;
            }
            if now.as_secs() > told {
                told = now.as_secs();
                tick(now);
            }
            self.happens(event);
        }
        result::outcome(self)
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::Arrive(trainer) => self.arrives(trainer),
            Event::Step(trainer) => self.steps(trainer),
            Event::Again(request) => self.submit(request),
            Event::Reach(call) => self.reaches(call),
            Event::Done { replica, turn } => self.done(replica, turn),
            Event::Answer(call) => self.answers(call),
            Event::Probe(replica) => self.probed(replica),
            Event::Up { replica, life } => {
                if self.machines[replica as usize].life == life {
                    self.think(|policy, now| policy.up(now, replica));
                    self.act();
                }
            }
            Event::Away(replica) => {
                self.think(|policy, now| policy.away(now, replica));
                self.act();
            }
            Event::Freeze(replica) => self.freezes(replica),
            Event::Thaw(replica) => self.thaws(replica),
            Event::Crash { replica, life } => {
                if self.machines[replica as usize].life == life {
                    self.ends(replica);
                }
            }
            Event::Back(replica) => self.returns(replica),
            Event::Wave(number) => self.sweeps(number),
            Event::Wake => {
                if self.wake == Some(self.clock.now()) {
                    self.wake = None;
                    self.act();
                }
            }
        }
    }

    /// Lets the policy do something, and measures what that takes.
    fn think<T>(&mut self, does: impl FnOnce(&mut dyn Policy, Time) -> T) -> T {
        let began = Instant::now();
        let result = does(&mut *self.policy, self.clock.now());
        self.thought += began.elapsed();
        result
    }

    /// Asks the policy what is to be done, and does it.
    fn act(&mut self) {
        let mut moves = std::mem::take(&mut self.moves);
        let wake = self.think(|policy, now| {
            policy.advance(now, &mut moves);
            policy.next_wake()
        });
        for one in moves.drain(..) {
            match one {
                Move::Send { request, replica } => self.send(request, replica),
                Move::Cancel { request, replica } => self.cancel(request, replica),
                Move::Probe { replica } => {
                    self.clock.after(self.scene.travel, Event::Probe(replica));
                }
                Move::Fail { request } => self.over(request, false),
            }
        }
        self.moves = moves;
        if let Some(wake) = wake
            && self.wake.is_none_or(|planned| wake < planned)
        {
            let wake = wake.max(self.clock.now() + SHORTEST_NAP);
            self.wake = Some(wake);
            self.clock.at(wake, Event::Wake);
        }
    }

    fn send(&mut self, request: u64, replica: u32) {
        let Some(asked) = self.book.live_one(request) else {
            self.tally.all.wrong += 1;
            return;
        };
        let (first, alone) = (asked.sends == 0, asked.calls.is_empty());
        let measured = self.tally.measures(asked.arrived);
        asked.sends += 1;
        let call = self.calls.insert(Call {
            request,
            replica,
            pixels: asked.pixels,
            work: asked.pixels as f64 * asked.noise,
            place: Place::OnItsWay,
            gone: None,
            ended: Ended::Answered,
            report: None,
        });
        asked.calls.push(call as u32);
        if measured {
            self.tally.sends += 1;
            self.tally.hedges += u64::from(!alone);
            self.tally.retries += u64::from(alone && !first);
        }
        let travel = self.scene.travel;
        self.clock.after(travel, Event::Reach(call as u32));
    }

    fn cancel(&mut self, request: u64, replica: u32) {
        let on = |call: &u32| self.calls[*call as usize].replica == replica;
        let calls = self.book.calls_of(request);
        let Some(place) = calls.iter().position(on) else {
            self.tally.all.wrong += 1;
            return;
        };
        let number = calls.swap_remove(place);
        let call = &mut self.calls[number as usize];
        call.gone = Some(self.clock.now() + self.scene.travel);
        if call.place == Place::Inside {
            let machine = &mut self.machines[replica as usize];
            machine.pixels = machine.pixels.saturating_sub(call.pixels);
        }
    }

    /// What came of a call is known.
    fn answers(&mut self, number: u32) {
        let call = self.calls.remove(number as usize);
        if call.gone.is_some() {
            return;
        }
        let Call {
            request, replica, ..
        } = call;
        self.book.calls_of(request).retain(|other| *other != number);
        if let Some(report) = call.report {
            self.think(|policy, now| policy.report(now, replica, &report));
        }
        let verdict = self.think(|policy, now| policy.finished(now, request, replica, call.ended));
        match verdict {
            super::policy::Verdict::Deliver => self.over(request, true),
            super::policy::Verdict::Fail => self.over(request, false),
            super::policy::Verdict::GoOn => {}
        }
        self.act();
    }
}
