//! Where the relay and the balancer meet: what a call asks for, how it is carried to a replica, and
//! what the relay wants to know of the fleet.

use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;
use preheat_proto::{Error as CallError, v1::InfoResponse};
use tokio::sync::watch;

use super::{
    attempt,
    call::{Call, Reply},
};
use crate::{
    Error, Security,
    balance::{
        Outcome, Target,
        drive::{Carry, Heard},
        peer::{Calling, Peer},
    },
    wire,
};

/// How long a connection may take to be made.
pub(super) const CONNECT_TIME: Duration = Duration::from_secs(5);

/// A replica, as a call reaches it.
#[derive(Clone)]
pub struct Replica {
    pub(super) peer: Peer,
    pub(super) heard: Heard,
}

impl Replica {
    /// One that no balancer looks after. Must be called inside a runtime.
    ///
    /// # Errors
    /// A URI and settings that do not fit together.
    pub fn new(uri: &str, security: &Security) -> Result<Self, Error> {
        let target = Target {
            uri: uri.into(),
            server_name: None,
        };
        let calling = Calling::new(security, wire::DEFAULT_CONNECTIONS, CONNECT_TIME)?;
        Ok(Self {
            peer: Peer::new(&target, &calling)?,
            heard: Heard::nobody(),
        })
    }

    /// One attempt at a call. Dropping the future gives it up, and the replica is told.
    ///
    /// # Errors
    /// What the failure means for the replica.
    pub async fn send(&self, call: Call) -> Result<Reply, Outcome> {
        attempt::send(self.clone(), call).await
    }

    /// What it serves.
    ///
    /// # Errors
    /// As it says, or the transport.
    pub async fn info(&self) -> Result<InfoResponse, CallError> {
        self.peer.info().await
    }
}

/// Carries calls as undecoded bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Undecoded;

impl Carry for Undecoded {
    type Call = Call;
    type Reply = Reply;

    fn send(
        &self,
        to: Peer,
        heard: Heard,
        call: Call,
    ) -> BoxFuture<'static, Result<Reply, Outcome>> {
        Box::pin(attempt::send(Replica { peer: to, heard }, call))
    }
}

/// What a call asks of the balancer: [`crate::balance::Ask`] with its own strings, and a duration in
/// the place of a time.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    /// Name of the model.
    pub model: String,
    /// The only fingerprint that may answer; empty for any.
    pub fingerprint: String,
    /// Who asks.
    pub trainer: String,
    /// Its part of the fleet, in proportion to those of the others.
    pub weight: f64,
    /// Output pixels.
    pub pixels: u64,
    /// Time until the answer is needed.
    pub needed_in: Duration,
    /// Complete batches that the trainer holds, if it says so.
    pub ready: Option<u64>,
}

/// What the replicas that are up say they serve.
pub type Serving = Arc<[Arc<InfoResponse>]>;

/// How loaded the fleet is, all replicas together.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Load {
    /// Output pixels a second that it encodes.
    pub pixels_per_second: f64,
    /// Output pixels that wait here and that replicas have.
    pub queued_pixels: f64,
    /// Output pixels that a caller should keep under way here: enough that no replica waits for it.
    pub window_pixels: f64,
}

/// What the relay asks of the balancer.
pub trait Dispatch: Send + Sync + 'static {
    /// Binds the call to replicas until one answers. Dropping the future withdraws it.
    fn call(&self, asked: Asked, call: Call) -> BoxFuture<'static, Result<Reply, CallError>>;

    /// A replica that is up and, unless it is empty, serves this model: for calls that cost nothing.
    fn any(&self, model: &str) -> Option<Replica>;

    /// What is served, as it changes.
    fn serving(&self) -> watch::Receiver<Serving>;

    /// How loaded the fleet is.
    fn load(&self) -> Load;
}
