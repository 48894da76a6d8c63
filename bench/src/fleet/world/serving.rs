//! What replicas do, and what befalls them.

use std::time::Duration;

use preheat_client::balance::Time;

use super::{Event, Place, World};
use crate::fleet::{
    machine::{Machine, Serving, Spells},
    policy::Ended,
    scene::{Chance, exponential},
};

impl World<'_> {
    /// All replicas start, and with them what will befall them.
    pub(super) fn build(&mut self) {
        let scene = self.scene;
        let window = self.tally.window;
        let share = scene.trouble.stall_share;
        for number in 0..scene.replicas {
            let mut stalls = scene.rng(Chance::Stalls, number);
            let frozen = stalls.f64() < share;
            let lies = scene.rng(Chance::Lies, number).f64() < scene.trouble.lying;
            let mut machine = Machine {
                rate: scene.rate(number),
                up: true,
                frozen,
                lies,
                life: 0,
                turn: 0,
                waiting: Default::default(),
                serving: None,
                pixels: 0,
                probed: false,
                stalls,
                crashes: scene.rng(Chance::Crashes, number),
                busy: Spells::new(window),
                able: Spells::new(window),
            };
            machine.settle(Time::ZERO);
            self.machines.push(machine);
            let replica = number as u32;
            self.plan_change(replica);
            self.plan_crash(replica);
            self.think(|policy, now| policy.up(now, replica));
        }
        for (number, wave) in scene.trouble.waves.iter().enumerate() {
            self.clock.at(wave.at, Event::Wave(number as u32));
        }
        self.act();
    }

    /// When a replica will next stand still, or go on.
    fn plan_change(&mut self, replica: u32) {
        let trouble = &self.scene.trouble;
        if trouble.stall_share <= 0.0 {
            return;
        }
        let machine = &mut self.machines[replica as usize];
        let still = trouble.stall_seconds;
        let between = still * (1.0 - trouble.stall_share) / trouble.stall_share;
        let (mean, event) = if machine.frozen {
            (still, Event::Thaw(replica))
        } else {
            (between, Event::Freeze(replica))
        };
        let pause = exponential(&mut machine.stalls, mean);
        self.clock.after(pause, event);
    }

    fn plan_crash(&mut self, replica: u32) {
        let machine = &mut self.machines[replica as usize];
        let life = machine.life;
        if let Some(mean) = self.scene.trouble.crash_every {
            let pause = exponential(&mut machine.crashes, mean);
            self.clock.after(pause, Event::Crash { replica, life });
        }
    }

    /// A call is there.
    pub(super) fn reaches(&mut self, number: u32) {
        let call = &mut self.calls[number as usize];
        let replica = call.replica;
        let machine = &mut self.machines[replica as usize];
        if machine.up {
            call.place = Place::Inside;
            if call.gone.is_none() {
                machine.pixels += call.pixels;
            }
            machine.waiting.push_back(number);
            self.begins(replica);
        } else {
            call.place = Place::OnItsWayBack;
            call.ended = Ended::Away { underway: false };
            let travel = self.scene.travel;
            self.clock.after(travel, Event::Answer(number));
        }
    }

    /// A replica begins with its next call, if it is free. Calls whose callers have gone are left out.
    fn begins(&mut self, replica: u32) {
        let now = self.clock.now();
        let machine = &mut self.machines[replica as usize];
        if machine.frozen || machine.serving.is_some() {
            return;
        }
        while let Some(number) = machine.waiting.pop_front() {
            let call = &self.calls[number as usize];
            if call.gone.is_some_and(|gone| gone <= now) {
                self.calls.remove(number as usize);
                continue;
            }
            let left = Duration::from_secs_f64(call.work / machine.rate);
            machine.serving = Some(Serving::new(number, left));
            return self.goes_on(replica);
        }
    }

    fn goes_on(&mut self, replica: u32) {
        let now = self.clock.now();
        if let Some((at, turn)) = self.machines[replica as usize].go_on(now) {
            self.clock.at(at, Event::Done { replica, turn });
        }
    }

    /// A replica is through with a call.
    pub(super) fn done(&mut self, replica: u32, turn: u32) {
        let now = self.clock.now();
        let machine = &mut self.machines[replica as usize];
        if machine.turn != turn {
            return;
        }
        machine.pause(now);
        if let Some(Serving { call: number, .. }) = machine.serving.take() {
            let call = &mut self.calls[number as usize];
            if call.gone.is_some() {
                self.calls.remove(number as usize);
            } else {
                machine.pixels = machine.pixels.saturating_sub(call.pixels);
                call.place = Place::OnItsWayBack;
                call.report = Some(machine.report());
                let travel = self.scene.travel;
                self.clock.after(travel, Event::Answer(number));
            }
        }
        self.begins(replica);
    }

    pub(super) fn freezes(&mut self, replica: u32) {
        let now = self.clock.now();
        let machine = &mut self.machines[replica as usize];
        machine.pause(now);
        machine.frozen = true;
        machine.settle(now);
        self.plan_change(replica);
    }

    pub(super) fn thaws(&mut self, replica: u32) {
        let now = self.clock.now();
        let machine = &mut self.machines[replica as usize];
        machine.frozen = false;
        machine.settle(now);
        if machine.serving.is_some() {
            self.goes_on(replica);
        } else {
            self.begins(replica);
        }
        if std::mem::take(&mut self.machines[replica as usize].probed) {
            self.greets(replica);
        }
        self.plan_change(replica);
    }

    /// A replica ends; what it had comes back.
    pub(super) fn ends(&mut self, replica: u32) {
        let (now, travel) = (self.clock.now(), self.scene.travel);
        let machine = &mut self.machines[replica as usize];
        if !machine.up {
            return;
        }
        machine.pause(now);
        machine.up = false;
        machine.settle(now);
        machine.life += 1;
        machine.pixels = 0;
        machine.probed = false;
        let serving = machine.serving.take().map(|serving| serving.call);
        let had: Vec<u32> = serving
            .into_iter()
            .chain(machine.waiting.drain(..))
            .collect();
        self.clock.after(2 * travel, Event::Away(replica));
        for number in had {
            let call = &mut self.calls[number as usize];
            if call.gone.is_some() {
                self.calls.remove(number as usize);
                continue;
            }
            call.place = Place::OnItsWayBack;
            call.ended = Ended::Away { underway: true };
            self.clock.after(2 * travel, Event::Answer(number));
        }
        let restart = self.scene.trouble.restart;
        self.clock.after(restart, Event::Back(replica));
    }

    pub(super) fn returns(&mut self, replica: u32) {
        let now = self.clock.now();
        let machine = &mut self.machines[replica as usize];
        machine.up = true;
        machine.settle(now);
        self.greets(replica);
        self.plan_crash(replica);
    }

    /// Many replicas end at once.
    pub(super) fn sweeps(&mut self, number: u32) {
        let share = self.scene.trouble.waves[number as usize].share;
        for replica in 0..self.machines.len() as u32 {
            if self.waves.f64() < share {
                self.ends(replica);
            }
        }
    }

    /// A probe is there. One that stands still answers when it goes on.
    pub(super) fn probed(&mut self, replica: u32) {
        let machine = &mut self.machines[replica as usize];
        match (machine.up, machine.frozen) {
            (true, true) => machine.probed = true,
            (true, false) => self.greets(replica),
            (false, _) => {
                let travel = self.scene.travel;
                self.clock.after(travel, Event::Away(replica));
            }
        }
    }

    fn greets(&mut self, replica: u32) {
        let life = self.machines[replica as usize].life;
        let travel = self.scene.travel;
        self.clock.after(travel, Event::Up { replica, life });
    }
}
