//! The core behind its lock: whoever tells it something carries out what it then says.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use preheat_proto::{Error as CallError, v1::InfoResponse};
use tokio::{
    sync::{Notify, mpsc, watch},
    time::{Instant, sleep_until},
};
use tokio_util::task::AbortOnDropHandle;

use super::Asked;
use crate::balance::{
    core::{Core, Settings},
    discover::{Target, Trouble},
    peer::{Calling, Peer},
    types::{Action, Ask, ReplicaId, RequestId, Time},
};

/// Orders to one call that it has not read: it flies twice at most, and reads before it flies again.
const MAX_ORDERS: usize = 8;

/// All that timers can tell apart: see [`Shared::run`].
const TICK: Duration = Duration::from_millis(1);
/// How often the fleet's size is thought about.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What is known of a replica besides what the core knows.
pub(super) struct Listed {
    pub(super) target: Target,
    pub(super) peer: Option<Peer>,
    pub(super) probe: Arc<Notify>,
    pub(super) info: Option<Arc<InfoResponse>>,
    /// Why it cannot be called, if it cannot.
    pub(super) trouble: Option<CallError>,
    /// Ends with the listing.
    pub(super) keeper: Option<AbortOnDropHandle<()>>,
    /// No longer listed; some calls may still be under way.
    pub(super) left: bool,
}

pub(super) struct State {
    pub(super) core: Core,
    pub(super) listed: HashMap<ReplicaId, Listed>,
    pub(super) troubles: Vec<Trouble>,
    pub(super) waiting: HashMap<RequestId, mpsc::Sender<Order>>,
    pub(super) actions: Vec<Action>,
    pub(super) wakes_at: Option<Time>,
}

pub(super) enum Order {
    Fly(ReplicaId, Peer),
    Drop(ReplicaId),
    Fail(CallError),
}

pub(super) struct Shared {
    pub(super) state: Mutex<State>,
    pub(super) zero: Instant,
    pub(super) wake: Notify,
    pub(super) calling: Calling,
    /// Changes whenever a replica comes, goes, or says something new.
    pub(super) changes: watch::Sender<u64>,
}

impl Shared {
    pub(super) fn new(settings: Settings, calling: Calling) -> Self {
        Self {
            state: Mutex::new(State {
                core: Core::new(settings),
                listed: HashMap::new(),
                troubles: Vec::new(),
                waiting: HashMap::new(),
                actions: Vec::new(),
                wakes_at: None,
            }),
            zero: Instant::now(),
            wake: Notify::new(),
            calling,
            changes: watch::channel(0).0,
        }
    }

    pub(super) fn now(&self) -> Time {
        self.zero.elapsed()
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn submit(
        &self,
        asked: &Asked,
    ) -> Result<(RequestId, mpsc::Receiver<Order>), CallError> {
        let (sender, orders) = mpsc::channel(MAX_ORDERS);
        let now = self.now();
        let mut state = self.lock();
        let submitted = state.core.submit(
            now,
            &Ask {
                model: &asked.model,
                fingerprint: &asked.fingerprint,
                trainer: &asked.trainer,
                weight: asked.weight,
                pixels: asked.pixels,
                needed_at: asked.needed_at.saturating_duration_since(self.zero),
                ready: asked.ready,
            },
        );
        let id = submitted
            .map_err(|full| CallError::busy("the balancer's queue is full", full.retry_after))?;
        state.waiting.insert(id, sender);
        self.carry_out(&mut state, now);
        Ok((id, orders))
    }

    /// Tells the core something, and carries out what it says.
    pub(super) fn tell<T>(&self, what: impl FnOnce(&mut Core, Time) -> T) -> T {
        let now = self.now();
        let mut state = self.lock();
        let answer = what(&mut state.core, now);
        self.carry_out(&mut state, now);
        answer
    }

    pub(super) fn carry_out(&self, state: &mut State, now: Time) {
        let mut actions = std::mem::take(&mut state.actions);
        state.core.advance(now, &mut actions);
        for action in actions.drain(..) {
            let (request, order) = match action {
                Action::Send { request, replica } => {
                    let peer = state.listed.get(&replica).and_then(|one| one.peer.clone());
                    let Some(peer) = peer else {
                        continue;
                    };
                    (request, Order::Fly(replica, peer))
                }
                Action::Cancel { request, replica } => (request, Order::Drop(replica)),
                Action::Fail { request, error } => (request, Order::Fail(error)),
                Action::Probe { replica } => {
                    if let Some(listed) = state.listed.get(&replica) {
                        listed.probe.notify_one();
                    }
                    continue;
                }
            };
            if let Some(call) = state.waiting.get(&request) {
                // A call that has ended reads no more; one that lives has room.
                let _ = call.try_send(order);
            }
        }
        state.actions = actions;
        let wakes_at = state.core.next_wake();
        let sooner = match (wakes_at, state.wakes_at) {
            (Some(at), Some(before)) => at < before,
            (at, None) => at.is_some(),
            (None, _) => false,
        };
        if sooner {
            state.wakes_at = wakes_at;
            self.wake.notify_one();
        }
    }

    /// What happens by time alone.
    pub(super) async fn run(self: Arc<Self>) {
        loop {
            let at = {
                let now = self.now();
                let mut state = self.lock();
                self.carry_out(&mut state, now);
                state.core.desired(now);
                state.wakes_at = state.core.next_wake();
                state.wakes_at
            };
            // A thousandth of a second is all that timers can tell apart.
            let (soonest, latest) = (self.now() + TICK, self.now() + LOOK_EVERY);
            let at = self.zero + at.unwrap_or(latest).clamp(soonest, latest);
            tokio::select! {
                () = sleep_until(at) => {}
                () = self.wake.notified() => {}
            }
        }
    }
}
