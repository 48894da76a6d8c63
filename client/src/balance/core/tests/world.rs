//! Replicas that take as long as their speed says, and misbehave as they are told.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use preheat_proto::{Code, Error as CallError};

use crate::balance::{
    core::{Core, Settings},
    types::{Action, Ask, Outcome, ReplicaId, RequestId, Served, Time, Verdict},
    view::{Standing, View},
};

pub(super) const MS: Duration = Duration::from_millis(1);
pub(super) const SECOND: Duration = Duration::from_secs(1);

/// What a replica of this world does with its calls.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Manner {
    Well,
    /// Answers nothing more.
    Silent,
    /// Fails every call at once.
    Faulty,
    /// Ends when it gets a request of this many pixels.
    EndsBy(u64),
    Full,
    /// Never answers requests of this many pixels.
    Forgets(u64),
}

pub(super) struct Machine {
    pub(super) id: ReplicaId,
    pub(super) speed: f64,
    pub(super) manner: Manner,
    /// Calls in order, and when the first of them ends.
    pub(super) calls: Vec<RequestId>,
    pub(super) ends: Time,
    pub(super) done: u64,
    pub(super) got: Vec<RequestId>,
}

pub(super) struct World {
    pub(super) core: Core,
    pub(super) now: Time,
    pub(super) machines: Vec<Machine>,
    pub(super) pixels: BTreeMap<RequestId, u64>,
    pub(super) answers: Vec<(RequestId, Time)>,
    pub(super) failures: Vec<(RequestId, CallError)>,
    pub(super) probes: Vec<ReplicaId>,
}

pub(super) fn served() -> Arc<Served> {
    Arc::new(Served {
        models: vec![("vae".to_owned(), vec!["new".to_owned(), "old".to_owned()])],
    })
}

impl World {
    pub(super) fn new(speeds: &[f64]) -> Self {
        let mut world = Self {
            core: Core::new(Settings::default()),
            now: SECOND,
            machines: Vec::new(),
            pixels: BTreeMap::new(),
            answers: Vec::new(),
            failures: Vec::new(),
            probes: Vec::new(),
        };
        for (number, &speed) in speeds.iter().enumerate() {
            let id = world
                .core
                .join(world.now, &format!("http://replica-{number}"));
            world.core.up(world.now, id, served());
            world.machines.push(Machine {
                id,
                speed,
                manner: Manner::Well,
                calls: Vec::new(),
                ends: Time::MAX,
                done: 0,
                got: Vec::new(),
            });
        }
        world
    }

    pub(super) fn ask(&mut self, trainer: &str, pixels: u64, needed_in: Duration) -> RequestId {
        let ask = Ask {
            model: "vae",
            fingerprint: "new",
            trainer,
            weight: 1.0,
            pixels,
            needed_at: self.now + needed_in,
            ready: None,
        };
        let id = self.core.submit(self.now, &ask).unwrap();
        self.pixels.insert(id, pixels);
        self.settle();
        id
    }

    pub(super) fn settle(&mut self) {
        let mut actions = Vec::new();
        self.core.advance(self.now, &mut actions);
        for action in actions {
            match action {
                Action::Send { request, replica } => self.arrives(request, replica),
                Action::Cancel { request, replica } => {
                    let now = self.now;
                    let machine = self.machine(replica);
                    let first = machine.calls.first() == Some(&request);
                    machine.calls.retain(|&one| one != request);
                    if first {
                        machine.ends = Time::MAX;
                        self.begin(replica, now);
                    }
                }
                Action::Probe { replica } => self.probes.push(replica),
                Action::Fail { request, error } => self.failures.push((request, error)),
            }
        }
    }

    pub(super) fn machine(&mut self, id: ReplicaId) -> &mut Machine {
        self.machines.iter_mut().find(|one| one.id == id).unwrap()
    }

    pub(super) fn arrives(&mut self, request: RequestId, replica: ReplicaId) {
        let (now, pixels) = (self.now, self.pixels[&request]);
        let machine = self.machine(replica);
        machine.got.push(request);
        match machine.manner {
            Manner::Faulty => {
                let error = CallError::new(Code::Internal, "broken");
                self.reports(request, replica, Outcome::Fault(error));
            }
            Manner::Full => self.reports(request, replica, Outcome::Busy(300 * MS)),
            Manner::EndsBy(poison) if poison == pixels => {
                machine.calls.push(request);
                let lost = std::mem::take(&mut machine.calls);
                machine.ends = Time::MAX;
                for one in lost {
                    let reason = "reset".into();
                    self.reports(
                        one,
                        replica,
                        Outcome::Away {
                            underway: true,
                            reason,
                        },
                    );
                }
            }
            Manner::Forgets(forgotten) if forgotten == pixels => {}
            _ => {
                machine.calls.push(request);
                self.begin(replica, now);
            }
        }
    }

    pub(super) fn begin(&mut self, replica: ReplicaId, now: Time) {
        let pixels = self.pixels.clone();
        let machine = self.machine(replica);
        if let (Some(first), Time::MAX) = (machine.calls.first(), machine.ends) {
            let takes = Duration::from_secs_f64(pixels[first] as f64 / machine.speed);
            machine.ends = now + takes;
        }
    }

    pub(super) fn reports(&mut self, request: RequestId, replica: ReplicaId, outcome: Outcome) {
        match self.core.finished(self.now, request, replica, outcome) {
            Verdict::Deliver => self.answers.push((request, self.now)),
            Verdict::GoOn => {}
            Verdict::Fail(error) => self.failures.push((request, error)),
        }
        self.settle();
    }

    pub(super) fn run(&mut self, until: Time) {
        loop {
            let working = self
                .machines
                .iter()
                .filter(|one| one.manner != Manner::Silent);
            let next = working
                .min_by_key(|one| one.ends)
                .map(|one| (one.ends, one.id));
            let wake = self.core.next_wake().unwrap_or(Time::MAX);
            let (ends, id) = next.unwrap_or((Time::MAX, self.machines[0].id));
            if ends.min(wake) > until {
                break;
            }
            if wake < ends {
                self.now = self.now.max(wake);
                self.settle();
            } else {
                self.now = ends;
                let machine = self.machine(id);
                let request = machine.calls.remove(0);
                machine.ends = Time::MAX;
                let pixels = self.pixels[&request];
                self.machine(id).done += pixels;
                self.begin(id, ends);
                self.reports(request, id, Outcome::Answered);
            }
        }
        self.now = until;
        self.settle();
    }

    pub(super) fn view(&mut self) -> View {
        self.core.view(self.now)
    }

    pub(super) fn standing(&mut self, machine: usize) -> Standing {
        let id = self.machines[machine].id;
        let view = self.view();
        view.replicas
            .iter()
            .find(|one| one.id == id)
            .unwrap()
            .standing
    }

    /// Keeps so many requests waiting until then.
    pub(super) fn saturate(&mut self, requests: usize, pixels: &[u64], until: Time) {
        let mut sent = 0;
        while self.now < until {
            while (self.view().queue.requests as usize) < requests {
                self.ask("trainer", pixels[sent % pixels.len()], 2 * SECOND);
                sent += 1;
            }
            self.run(self.now + 20 * MS);
        }
    }
}
