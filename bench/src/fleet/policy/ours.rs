//! Preheat's balancer, told what the simulation does.

use std::{collections::HashMap, sync::Arc, time::Duration};

use preheat_client::balance::{
    Action, Ask, Core, Outcome, ReplicaId, Report, RequestId, Served, Settings, Time,
    Verdict as Judged,
};

use super::{Ended, Job, Move, Policy, Verdict};

const MODEL: &str = "vae";
/// As many may wait as like: the other policies have no bound either.
const MAX_QUEUED: usize = usize::MAX;

/// The core, and the names of things on both sides.
#[derive(Debug)]
pub(super) struct Ours {
    core: Core,
    served: Arc<Served>,
    trainers: Vec<String>,
    replicas: Vec<ReplicaId>,
    numbers: HashMap<ReplicaId, u32>,
    ids: HashMap<u64, RequestId>,
    requests: HashMap<RequestId, u64>,
    /// Over, but its attempts elsewhere are cancelled by the next actions.
    over: Vec<RequestId>,
    actions: Vec<Action>,
}

impl Ours {
    pub(super) fn new(replicas: usize, trainers: usize) -> Self {
        let mut core = Core::new(Settings {
            max_queued: MAX_QUEUED,
            ..Settings::default()
        });
        let replicas: Vec<ReplicaId> = (0..replicas)
            .map(|number| core.join(Time::ZERO, &format!("http://replica-{number}:50051")))
            .collect();
        let numbers = replicas
            .iter()
            .zip(0..)
            .map(|(&id, number)| (id, number))
            .collect();
        Self {
            core,
            served: Arc::new(Served {
                models: vec![(MODEL.to_owned(), vec!["1".to_owned()])],
            }),
            trainers: (0..trainers)
                .map(|number| format!("trainer-{number}"))
                .collect(),
            replicas,
            numbers,
            ids: HashMap::new(),
            requests: HashMap::new(),
            over: Vec::new(),
            actions: Vec::new(),
        }
    }

    fn translate(&self, action: &Action) -> Option<Move> {
        let named = |request: &RequestId, replica: &ReplicaId| {
            Some((*self.requests.get(request)?, *self.numbers.get(replica)?))
        };
        Some(match action {
            Action::Send { request, replica } => {
                let (request, replica) = named(request, replica)?;
                Move::Send { request, replica }
            }
            Action::Cancel { request, replica } => {
                let (request, replica) = named(request, replica)?;
                Move::Cancel { request, replica }
            }
            Action::Probe { replica } => Move::Probe {
                replica: *self.numbers.get(replica)?,
            },
            Action::Fail { request, .. } => Move::Fail {
                request: *self.requests.get(request)?,
            },
        })
    }
}

impl Policy for Ours {
    fn up(&mut self, now: Time, replica: u32) {
        let id = self.replicas[replica as usize];
        self.core.up(now, id, self.served.clone());
    }

    fn away(&mut self, now: Time, replica: u32) {
        let id = self.replicas[replica as usize];
        self.core.away(now, id, "connection reset");
    }

    fn submit(&mut self, now: Time, job: &Job) -> Result<(), Duration> {
        let ask = Ask {
            model: MODEL,
            fingerprint: "",
            trainer: &self.trainers[job.trainer as usize],
            weight: 1.0,
            pixels: job.pixels,
            needed_at: job.needed_at,
            ready: job.ready,
        };
        let id = self.core.submit(now, &ask);
        let id = id.map_err(|full| full.retry_after)?;
        self.ids.insert(job.request, id);
        self.requests.insert(id, job.request);
        Ok(())
    }

    fn finished(&mut self, now: Time, request: u64, replica: u32, ended: Ended) -> Verdict {
        let Some(&id) = self.ids.get(&request) else {
            return Verdict::GoOn;
        };
        let replica = self.replicas[replica as usize];
        let outcome = match ended {
            Ended::Answered => Outcome::Answered,
            Ended::Away { underway } => Outcome::Away {
                underway,
                reason: "connection reset".into(),
            },
        };
        let verdict = match self.core.finished(now, id, replica, outcome) {
            Judged::GoOn => return Verdict::GoOn,
            Judged::Deliver => Verdict::Deliver,
            Judged::Fail(_) => Verdict::Fail,
        };
        self.over.push(id);
        verdict
    }

    fn report(&mut self, now: Time, replica: u32, report: &Report) {
        let id = self.replicas[replica as usize];
        self.core.report(now, id, report);
    }

    fn advance(&mut self, now: Time, moves: &mut Vec<Move>) {
        let mut actions = std::mem::take(&mut self.actions);
        self.core.advance(now, &mut actions);
        moves.extend(actions.iter().filter_map(|action| self.translate(action)));
        for action in actions.drain(..) {
            if let Action::Fail { request, .. } = action {
                self.over.push(request);
            }
        }
        self.actions = actions;
        for id in self.over.drain(..) {
            if let Some(request) = self.requests.remove(&id) {
                self.ids.remove(&request);
            }
        }
    }

    fn next_wake(&self) -> Option<Time> {
        self.core.next_wake()
    }
}
