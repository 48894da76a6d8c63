//! One call, as the relay holds it: everything that an attempt needs, shared by all of them.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Bytes;
use http::{HeaderMap, uri::PathAndQuery};
use preheat_proto::Error as CallError;
use tokio::time::Instant;

use super::{inflow::Inflow, seam::Replica};
use crate::wire::Counted;

/// A call on its way. Clones are the same call.
#[derive(Clone, Debug)]
pub struct Call(pub(super) Arc<Inner>);

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) method: Method,
    pub(super) path: PathAndQuery,
    /// Those that go on to a replica.
    pub(super) headers: HeaderMap,
    pub(super) body: Inflow,
    /// When the caller gives up.
    pub(super) deadline: Option<Instant>,
    /// When the answer is needed, once that is known; never for calls that cost nothing.
    pub(super) needed_at: OnceLock<Instant>,
    /// The last refusal in the replica's own words.
    pub(super) refusal: Mutex<Option<Refusal>>,
}

/// What a method is to the balancer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    /// `preheat.v1.Encoder/Encode`.
    Encode,
    /// `ModelInfer` of the Open Inference Protocol.
    Infer,
    /// The same as a stream: once a replica has taken it up there is no other.
    InferStream,
    /// Questions about one model, which cost nothing: a replica that serves it should answer.
    About,
    /// Costs nothing: any replica will do.
    Light,
}

impl Method {
    pub(super) fn of(path: &str) -> Self {
        match path {
            "/preheat.v1.Encoder/Encode" => Self::Encode,
            "/inference.GRPCInferenceService/ModelInfer" => Self::Infer,
            "/inference.GRPCInferenceService/ModelStreamInfer" => Self::InferStream,
            "/inference.GRPCInferenceService/ModelReady"
            | "/inference.GRPCInferenceService/ModelMetadata"
            | "/inference.GRPCInferenceService/ModelConfig"
            | "/inference.GRPCInferenceService/ModelStatistics" => Self::About,
            _ => Self::Light,
        }
    }

    /// Whether it waits for its turn.
    pub(super) const fn is_work(self) -> bool {
        !matches!(self, Self::About | Self::Light)
    }

    /// Whether the caller is told nothing before the first bytes of the answer are there. Callers
    /// of streams may want to see the headers before they say more.
    pub(super) const fn waits_for_data(self) -> bool {
        matches!(self, Self::Encode | Self::Infer)
    }
}

/// A refusal as it was said, and as it was understood.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    pub(super) error: CallError,
    /// Status, message, details and metadata.
    pub(super) headers: HeaderMap,
}

impl Inner {
    /// Keeps a refusal, to be said again word by word.
    pub(super) fn refused(&self, refusal: Refusal) {
        *self.refusal.lock().unwrap_or_else(PoisonError::into_inner) = Some(refusal);
    }

    /// The refusal that this error was made of.
    pub(super) fn words(&self, error: &CallError) -> Option<HeaderMap> {
        let mut refusal = self.refusal.lock().unwrap_or_else(PoisonError::into_inner);
        let refusal = refusal.take_if(|refusal| refusal.error == *error)?;
        Some(refusal.headers)
    }
}

/// An answer that has begun.
pub struct Reply {
    pub(super) headers: HeaderMap,
    /// What came before it was known to be an answer.
    pub(super) first: First,
    pub(super) body: Counted,
    /// Takes the report that comes with the trailers.
    pub(super) replica: Replica,
}

/// See [`Reply`].
pub(super) enum First {
    /// Only the headers.
    Nothing,
    Data(Bytes),
    /// The answer is empty.
    Trailers(HeaderMap),
}
