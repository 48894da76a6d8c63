//! One replica: the innermost service of the stack.

use std::{
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures::future::BoxFuture;
use preheat_proto::{
    Code, DType, Error as CallError, ItemCode, Meta, Posterior, ReplyMeta, Scale, headers,
    v1::{EncodeRequest, EncodeResponse, InfoRequest, InfoResponse},
};
use tokio::time::{Instant, timeout};
use tonic::{Request, Status};
use tower::Service;

use crate::{
    config::Config,
    error::Error,
    security::Bearer,
    stats::Recorder,
    wire::{self, Connections},
};

/// One chunk on its way. Cheap to clone, so that it can be sent again.
#[derive(Clone, Debug)]
pub(crate) struct EncodeCall {
    /// What to send.
    pub(crate) request: EncodeRequest,
    /// The items' names, in order.
    pub(crate) ids: Arc<[u64]>,
    /// What every answer must be.
    pub(crate) expected: Arc<Expected>,
    /// Output pixels.
    pub(crate) cost_pixels: u64,
    /// When the trainer needs the answer.
    pub(crate) needed_at: Instant,
}

/// What every answer to a call must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Expected {
    /// Shape of one tensor.
    pub(crate) shape: Vec<u32>,
    /// Element type.
    pub(crate) dtype: DType,
    /// What the tensors hold.
    pub(crate) posterior: Posterior,
    /// Their scale.
    pub(crate) scale: Scale,
}

/// A checked answer.
#[derive(Debug)]
pub(crate) struct EncodeReply {
    /// Status and place of every item.
    pub(crate) meta: Meta<ReplyMeta>,
    /// The tensors.
    pub(crate) latents: Bytes,
}

/// A replica. Clones share its connections.
#[derive(Clone)]
pub(crate) struct Endpoint {
    client: Connections,
    tls: bool,
    bearer: Option<Bearer>,
    attempt_timeout: Duration,
    recorder: Recorder,
}

impl Endpoint {
    /// Connects lazily. Must be called inside a runtime.
    pub(crate) fn new(config: &Config, recorder: Recorder) -> Result<Self, Error> {
        let endpoint = wire::endpoint(&config.endpoint, &config.security)?;
        let tls = endpoint.uri().scheme_str() == Some("https");
        let endpoint = endpoint.connect_timeout(config.connect_timeout);
        let client = Connections::lazy(endpoint, config.connections);
        Ok(Self {
            client,
            tls,
            bearer: config.security.bearer()?,
            attempt_timeout: config.attempt_timeout,
            recorder,
        })
    }

    /// What the replica serves.
    pub(crate) async fn info(&self) -> Result<InfoResponse, CallError> {
        let mut request = Request::new(InfoRequest {});
        self.sign(&mut request);
        self.client.info(request).await.map_err(|status| {
            let mut error = self.translate(&status);
            // Some TLS libraries hang up without a word. Between two calls that would be a replica
            // that ends; on the first call it is a hint.
            let hung_up = ["closed", "reset", "broken pipe"];
            if hung_up.iter().any(|word| error.message.contains(word)) {
                error.message.push_str(if self.tls {
                    "; if it wants a certificate of the loader: set `security.client_cert`"
                } else {
                    "; if it speaks TLS: use https://"
                });
            }
            error
        })
    }

    async fn encode(self, call: EncodeCall) -> Result<EncodeReply, CallError> {
        let wanted = call.request.fingerprint.clone();
        let payloads: usize = call.request.payloads.iter().map(Bytes::len).sum();
        self.recorder
            .sent((payloads + call.request.meta.len()) as u64);
        let mut request = Request::new(call.request);
        // The time left is computed for each attempt: a retried call is more urgent.
        let needed_in = call.needed_at.saturating_duration_since(Instant::now());
        let needed_in = u64::try_from(needed_in.as_millis()).unwrap_or(u64::MAX);
        let metadata = request.metadata_mut();
        metadata.insert(headers::COST_PIXELS, call.cost_pixels.into());
        metadata.insert(headers::NEEDED_IN_MS, needed_in.into());
        self.sign(&mut request);
        request.set_timeout(self.attempt_timeout);
        // Around the whole answer: tonic's own timeout ends when the first bytes arrive.
        let answer = timeout(self.attempt_timeout, self.client.encode(request)).await;
        let Ok(answer) = answer else {
            let waited = self.attempt_timeout;
            return Err(CallError::new(
                Code::Deadline,
                format!("no answer within {waited:?}"),
            ));
        };
        let reply = answer
            .map_err(|status| self.translate(&status))?
            .into_inner();
        self.recorder
            .received((reply.latents.len() + reply.meta.len()) as u64);
        check(reply, &wanted, &call.ids, &call.expected)
    }

    fn sign<T>(&self, request: &mut Request<T>) {
        if let Some(bearer) = &self.bearer {
            bearer.sign(request);
        }
    }

    fn translate(&self, status: &Status) -> CallError {
        if let Some(failure) = wire::failure(status, self.tls) {
            return failure;
        }
        let mut error = CallError::from(status);
        if error.code == Code::Unauthenticated {
            match &self.bearer {
                // Rotated under way: the same call may pass with the new one.
                Some(bearer) if bearer.refresh() => error.code = Code::Unavailable,
                Some(_) => {}
                None => error.message.push_str("; set `security.token_file`"),
            }
        }
        error
    }
}

impl Service<EncodeCall> for Endpoint {
    type Response = EncodeReply;
    type Error = CallError;
    type Future = BoxFuture<'static, Result<EncodeReply, CallError>>;

    /// Always: the choice of a connection belongs in `call`, where the cost is known.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), CallError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: EncodeCall) -> Self::Future {
        Box::pin(self.clone().encode(call))
    }
}

/// Holds an answer against the call, here, so that a replica that breaks the contract counts as
/// faulty and the call can be tried elsewhere.
fn check(
    reply: EncodeResponse,
    fingerprint: &str,
    ids: &[u64],
    expected: &Expected,
) -> Result<EncodeReply, CallError> {
    if reply.fingerprint != fingerprint {
        let seen = reply.fingerprint;
        let what = format!("answered with fingerprint {seen} where {fingerprint} is pinned");
        return Err(CallError::new(Code::WrongFingerprint, what));
    }
    let broken = |what: String| CallError::new(Code::Internal, format!("broken reply: {what}"));
    // Whatever code the check reports, the fault is the replica's.
    let meta = Meta::<ReplyMeta>::open(reply.meta_version, &reply.meta)
        .map_err(|error| broken(error.message))?;
    let view = meta.view();
    view.check(ids, reply.latents.len())?;
    let seen = Expected {
        shape: view.shape.iter().map(|side| side.to_native()).collect(),
        dtype: view.dtype.into(),
        posterior: view.posterior.into(),
        scale: view.scale.into(),
    };
    let scaled = expected.posterior != Posterior::Moments;
    let same = seen.shape == expected.shape
        && seen.dtype == expected.dtype
        && seen.posterior == expected.posterior
        && (seen.scale == expected.scale || !scaled);
    if !same {
        return Err(broken(format!("{seen:?} where {expected:?} was asked")));
    }
    for item in view.items.iter() {
        if ItemCode::from(item.code) == ItemCode::Internal {
            let (id, why) = (item.id, item.message.as_str());
            return Err(CallError::new(
                Code::Internal,
                format!("sample {id}: {why}"),
            ));
        }
    }
    Ok(EncodeReply {
        latents: reply.latents,
        meta,
    })
}
