//! The balancer at work: the core, behind a lock, between calls that wait and replicas that answer.
//!
//! No task stands between a call and its replica. Whoever tells the core something also carries out
//! what it then says; only what happens by time alone has a task of its own.

mod listing;
mod shared;

use std::{future::poll_fn, sync::Arc, task::Poll};

use futures::future::BoxFuture;
use preheat_proto::{Error as CallError, v1::InfoResponse};
use tokio::{sync::watch, time::Instant};
use tokio_util::task::AbortOnDropHandle;

#[cfg(feature = "relay")]
use self::shared::Listed;
use self::shared::{Order, Shared};
use super::{
    core::{Settings, unavailable},
    discover::{Discovery, Trouble},
    peer::{Calling, Peer},
    types::{Outcome, ReplicaId, Report, RequestId, Verdict},
    view::View,
};

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
        let shared = Arc::new(Shared::new(settings, calling));
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
