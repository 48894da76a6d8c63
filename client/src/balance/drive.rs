//! The balancer at work: the core, behind a lock, between calls that wait and replicas that answer.
//!
//! No task stands between a call and its replica. Whoever tells the core something also carries out
//! what it then says; only what happens by time alone has a task of its own.

use std::{
    collections::HashMap,
    future::poll_fn,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Poll,
    time::Duration,
};

use futures::future::BoxFuture;
use preheat_proto::{Error as CallError, v1::InfoResponse};
use tokio::{
    sync::{Notify, mpsc, watch},
    time::{Instant, sleep_until},
};
use tokio_util::task::AbortOnDropHandle;

use super::{
    core::{Core, Settings, unavailable},
    discover::{Discovery, Listing, Target, Trouble},
    keeper,
    peer::{Calling, Peer},
    types::{Action, Ask, Outcome, ReplicaId, Report, RequestId, Served, Time, Verdict},
    view::View,
};

/// Orders to one call that it has not read: it flies twice at most, and reads before it flies again.
const MAX_ORDERS: usize = 8;

/// How one attempt at a call is made on one replica.
pub(crate) trait Carry: Send + Sync + 'static {
    /// What is sent, again if need be.
    type Call: Clone + Send + Sync + 'static;
    /// What comes back.
    type Reply: Send + 'static;

    /// One attempt. `Err` says what the failure means for the replica.
    fn send(
        &self,
        to: Peer,
        heard: Heard,
        call: Self::Call,
    ) -> BoxFuture<'static, Result<Self::Reply, Outcome>>;

    /// There will be another attempt at a call, after one that failed, or, as a hedge, beside one
    /// that is late.
    fn repeats(&self, hedge: bool) {
        let _ = hedge;
    }
}

/// Takes what a replica says of itself in its answers.
#[derive(Clone)]
pub(crate) struct Heard(Arc<dyn Fn(&Report) + Send + Sync>);

impl Heard {
    /// Nobody listens.
    #[cfg(feature = "relay")]
    pub(crate) fn nobody() -> Self {
        Self(Arc::new(|_| {}))
    }

    pub(crate) fn report(&self, report: &Report) {
        (self.0)(report);
    }
}

/// Who asks, for what, by when.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) model: String,
    pub(crate) fingerprint: String,
    pub(crate) trainer: Arc<str>,
    pub(crate) weight: f64,
    pub(crate) pixels: u64,
    pub(crate) needed_at: Instant,
    pub(crate) ready: Option<u64>,
}

/// A replica, as far as it is known. With neither it was not reached yet.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) name: Arc<str>,
    /// What it last said of itself.
    pub(crate) info: Option<Arc<InfoResponse>>,
    /// Why it cannot be called now.
    pub(crate) trouble: Option<CallError>,
}

/// What is known of a replica besides what the core knows.
struct Listed {
    target: Target,
    peer: Option<Peer>,
    probe: Arc<Notify>,
    info: Option<Arc<InfoResponse>>,
    /// Why it cannot be called, if it cannot.
    trouble: Option<CallError>,
    /// Ends with the listing.
    keeper: Option<AbortOnDropHandle<()>>,
    /// No longer listed; some calls may still be under way.
    left: bool,
}

struct State {
    core: Core,
    listed: HashMap<ReplicaId, Listed>,
    troubles: Vec<Trouble>,
    waiting: HashMap<RequestId, mpsc::Sender<Order>>,
    actions: Vec<Action>,
    wakes_at: Option<Time>,
}

enum Order {
    Fly(ReplicaId, Peer),
    Drop(ReplicaId),
    Fail(CallError),
}

struct Shared {
    state: Mutex<State>,
    zero: Instant,
    wake: Notify,
    calling: Calling,
    /// Changes whenever a replica comes, goes, or says something new.
    changes: watch::Sender<u64>,
}

/// A fleet, as one. Clones are the same.
#[derive(Clone)]
pub(crate) struct Balancer {
    shared: Arc<Shared>,
    _clock: Arc<AbortOnDropHandle<()>>,
    _listing: Arc<AbortOnDropHandle<()>>,
}

impl Balancer {
    /// Follows the discovery. Must be called inside a runtime.
    pub(crate) fn start(settings: Settings, calling: Calling, discovery: &Discovery) -> Self {
        let shared = Arc::new(Shared {
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
        });
        let mut listing = discovery.listing();
        shared.follow(&listing.borrow_and_update().clone());
        let following = shared.clone();
        let follow = tokio::spawn(async move {
            while listing.changed().await.is_ok() {
                let now = listing.borrow_and_update().clone();
                following.follow(&now);
            }
        });
        let clock = tokio::spawn(shared.clone().run());
        Self {
            shared,
            _clock: Arc::new(AbortOnDropHandle::new(clock)),
            _listing: Arc::new(AbortOnDropHandle::new(follow)),
        }
    }

    /// Has the call made, on whichever replica is best, on another one where that fails. Dropping
    /// the future withdraws it.
    pub(crate) async fn call<C: Carry>(
        &self,
        carry: &C,
        asked: &Asked,
        call: C::Call,
    ) -> Result<C::Reply, CallError> {
        let (id, mut orders) = self.shared.submit(asked)?;
        let _withdrawn = Withdraw(&self.shared, id);
        let mut flights: Vec<(ReplicaId, Flying<C::Reply>)> = Vec::new();
        let mut flown = false;
        loop {
            tokio::select! {
                biased;
                order = orders.recv() => match order {
                    Some(Order::Fly(replica, peer)) => {
                        if std::mem::replace(&mut flown, true) {
                            carry.repeats(!flights.is_empty());
                        }
                        let heard = self.heard(replica);
                        flights.push((replica, carry.send(peer, heard, call.clone())));
                    }
                    Some(Order::Drop(replica)) => flights.retain(|(on, _)| *on != replica),
                    Some(Order::Fail(error)) => return Err(error),
                    None => return Err(unavailable("the balancer ended".to_owned())),
                },
                (replica, result) = landed(&mut flights) => {
                    let (outcome, reply) = match result {
                        Ok(reply) => (Outcome::Answered, Some(reply)),
                        Err(outcome) => (outcome, None),
                    };
                    let verdict = self.shared.tell(|core, now| core.finished(now, id, replica, outcome));
                    match (verdict, reply) {
                        (Verdict::Deliver, Some(reply)) => return Ok(reply),
                        (Verdict::Fail(error), _) => return Err(error),
                        _ => {}
                    }
                }
            }
        }
    }

    fn heard(&self, replica: ReplicaId) -> Heard {
        let shared = Arc::downgrade(&self.shared);
        Heard(Arc::new(move |report| {
            if let Some(shared) = shared.upgrade() {
                shared.tell(|core, now| core.report(now, replica, report));
            }
        }))
    }

    /// Everything there is to see, and what is wrong with the list of replicas.
    pub(crate) fn view(&self) -> (View, Vec<Trouble>) {
        let now = self.shared.now();
        let mut state = self.shared.lock();
        (state.core.view(now), state.troubles.clone())
    }

    /// Pixels a second that the replicas can do which are up, and pixels that wait or are under way.
    #[cfg(feature = "relay")]
    pub(crate) fn load(&self) -> (f64, f64) {
        let state = self.shared.lock();
        state.core.load()
    }

    /// What is known of the replicas that are listed, in their order.
    pub(crate) fn known(&self) -> Vec<Known> {
        let state = self.shared.lock();
        let mut listed: Vec<_> = state.listed.iter().filter(|(_, one)| !one.left).collect();
        listed.sort_unstable_by_key(|(id, _)| id.life());
        let known = listed.into_iter().map(|(_, one)| Known {
            name: one.target.uri.clone(),
            info: one.info.clone(),
            trouble: one.trouble.clone(),
        });
        known.collect()
    }

    /// A replica that can be called now and, unless it is empty, serves this model: for calls that
    /// cost nothing, and so wait for nothing.
    #[cfg(feature = "relay")]
    pub(crate) fn any(&self, model: &str) -> Option<(Peer, Heard)> {
        let serves = |info: &InfoResponse| {
            model.is_empty() || info.models.iter().any(|known| known.name == model)
        };
        let state = self.shared.lock();
        let fits = |one: &Listed| {
            !one.left && one.trouble.is_none() && one.info.as_ref().is_some_and(|info| serves(info))
        };
        let (id, one) = state.listed.iter().find(|(_, one)| fits(one))?;
        let (id, peer) = (*id, one.peer.clone()?);
        drop(state);
        Some((peer, self.heard(id)))
    }

    /// Changes whenever a replica comes, goes, or says something new.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.shared.changes.subscribe()
    }
}

type Flying<R> = BoxFuture<'static, Result<R, Outcome>>;

/// The first flight that lands; never, while there is none.
async fn landed<R>(flights: &mut Vec<(ReplicaId, Flying<R>)>) -> (ReplicaId, Result<R, Outcome>) {
    poll_fn(|cx| {
        for at in 0..flights.len() {
            if let Poll::Ready(result) = flights[at].1.as_mut().poll(cx) {
                let (replica, _) = flights.swap_remove(at);
                return Poll::Ready((replica, result));
            }
        }
        Poll::Pending
    })
    .await
}

/// Withdraws a request when its call is dropped; does nothing where it is over.
struct Withdraw<'a>(&'a Shared, RequestId);

impl Drop for Withdraw<'_> {
    fn drop(&mut self) {
        let Self(shared, id) = self;
        shared.lock().waiting.remove(id);
        shared.tell(|core, now| core.withdraw(now, *id));
    }
}

impl Shared {
    fn now(&self) -> Time {
        self.zero.elapsed()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn submit(&self, asked: &Asked) -> Result<(RequestId, mpsc::Receiver<Order>), CallError> {
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
    fn tell<T>(&self, what: impl FnOnce(&mut Core, Time) -> T) -> T {
        let now = self.now();
        let mut state = self.lock();
        let answer = what(&mut state.core, now);
        self.carry_out(&mut state, now);
        answer
    }

    fn carry_out(&self, state: &mut State, now: Time) {
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
    async fn run(self: Arc<Self>) {
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

    /// Starts with new replicas, and takes leave of those that are gone.
    fn follow(self: &Arc<Self>, listing: &Listing) {
        let now = self.now();
        let mut state = self.lock();
        let state = &mut *state;
        let known: HashMap<Target, ReplicaId> = state
            .listed
            .iter()
            .filter(|(_, one)| !one.left)
            .map(|(&id, one)| (one.target.clone(), id))
            .collect();
        for (target, &id) in &known {
            if !listing.targets.contains(target) {
                tracing::info!(replica = %target.uri, "no longer listed");
                state.core.leave(now, id);
                if let Some(gone) = state.listed.get_mut(&id) {
                    gone.keeper = None;
                    gone.left = true;
                }
            }
        }
        let left: Vec<_> = state
            .listed
            .keys()
            .copied()
            .filter(|&id| !state.core.knows(id))
            .collect();
        for id in left {
            state.listed.remove(&id);
        }
        for target in &listing.targets {
            if !known.contains_key(target) {
                let id = state.core.join(now, &target.uri);
                let listed = self.list(&mut state.core, now, (id, target));
                state.listed.insert(id, listed);
            }
        }
        state.troubles.clone_from(&listing.troubles);
        self.carry_out(state, now);
        self.changes.send_modify(|change| *change += 1);
    }

    fn list(
        self: &Arc<Self>,
        core: &mut Core,
        now: Time,
        (id, target): (ReplicaId, &Target),
    ) -> Listed {
        let probe = Arc::new(Notify::new());
        let (peer, trouble) = match Peer::new(target, &self.calling) {
            Ok(peer) => (Some(peer), None),
            Err(error) => {
                tracing::warn!(replica = %target.uri, %error, "cannot be called");
                core.away(now, id, &error.to_string());
                (None, Some(unavailable(error.to_string())))
            }
        };
        let keeper = peer.clone().map(|peer| {
            let keeper = keeper::Keeper::new(id, peer, probe.clone(), Arc::downgrade(self));
            AbortOnDropHandle::new(tokio::spawn(keeper.run()))
        });
        Listed {
            target: target.clone(),
            peer,
            probe,
            info: None,
            trouble,
            keeper,
            left: false,
        }
    }
}

/// See [`Shared::run`].
const TICK: Duration = Duration::from_millis(1);
/// How often the fleet's size is thought about.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What a keeper tells of its replica.
impl keeper::Tells for Shared {
    fn up(&self, id: ReplicaId, info: InfoResponse) {
        let served = served(&info);
        {
            let mut state = self.lock();
            if let Some(listed) = state.listed.get_mut(&id) {
                listed.info = Some(Arc::new(info));
                listed.trouble = None;
            }
        }
        self.tell(|core, now| core.up(now, id, Arc::new(served)));
        self.changes.send_modify(|change| *change += 1);
    }

    fn away(&self, id: ReplicaId, trouble: CallError) {
        self.tell(|core, now| core.away(now, id, &trouble.message));
        if let Some(listed) = self.lock().listed.get_mut(&id) {
            listed.trouble = Some(trouble);
        }
        self.changes.send_modify(|change| *change += 1);
    }
}

fn served(info: &InfoResponse) -> Served {
    let models = info.models.iter().map(|model| {
        let older = model.older_fingerprints.iter().cloned();
        let known = std::iter::once(model.fingerprint.clone()).chain(older);
        (model.name.clone(), known.collect())
    });
    Served {
        models: models.collect(),
    }
}
