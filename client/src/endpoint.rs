//! One attempt at a call: to one replica and back, and the answer held against the call.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use bytes::Bytes;
use futures::future::BoxFuture;
use preheat_proto::{
    Code, DType, Error as CallError, ItemCode, Meta, Posterior, ReplyMeta, Scale, headers,
    v1::{EncodeRequest, EncodeResponse},
};
use tokio::time::{Instant, timeout};
use tonic::{
    Request,
    metadata::{Ascii, MetadataValue},
};

use crate::{
    balance::{
        Outcome,
        drive::{Carry, Heard},
        orca::Orca,
        peer::{Peer, outcome},
    },
    config::Config,
    stats::{Recorder, Track},
    wire,
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
    /// Where its time goes.
    pub(crate) track: Track,
    /// When its first attempt began.
    pub(crate) first_sent: Arc<OnceLock<Instant>>,
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

/// Carries the loader's calls.
#[derive(Clone)]
pub(crate) struct Carrier {
    attempt_timeout: Duration,
    recorder: Recorder,
    /// Who asks, and for what part of the fleet.
    trainer: MetadataValue<Ascii>,
    weight: MetadataValue<Ascii>,
}

impl Carrier {
    /// `trainer` and `weight` were checked with the config.
    pub(crate) fn new(config: &Config, recorder: Recorder) -> Self {
        let text = |text: String| MetadataValue::try_from(text);
        let absent = |_| MetadataValue::from_static("");
        Self {
            attempt_timeout: config.attempt_timeout,
            recorder,
            trainer: text(config.trainer()).unwrap_or_else(absent),
            weight: text(config.weight.to_string()).unwrap_or_else(absent),
        }
    }

    /// Complete batches that the trainer holds.
    pub(crate) fn ready_batches(&self) -> u64 {
        self.recorder.ready_batches()
    }

    async fn encode(
        self,
        to: Peer,
        heard: Heard,
        call: EncodeCall,
    ) -> Result<EncodeReply, Outcome> {
        let wanted = call.request.fingerprint.clone();
        let payloads: usize = call.request.payloads.iter().map(Bytes::len).sum();
        let bytes = payloads + call.request.meta.len();
        let _in_flight = self.recorder.sent(bytes as u64);
        let _flight = call.track.fly();
        call.first_sent.get_or_init(Instant::now);
        let request = self.request(&to, &call);
        // Around the whole answer: tonic's own timeout ends when the first bytes arrive.
        let answer = timeout(self.attempt_timeout, to.connections.encode(request)).await;
        let Ok(answer) = answer else {
            let waited = self.attempt_timeout;
            let late = CallError::new(Code::Deadline, format!("no answer within {waited:?}"));
            return Err(Outcome::Fault(late));
        };
        let reply = answer.map_err(|status| {
            let lost = wire::failure(&status, to.tls).is_some() && !wire::never_sent(&status);
            outcome(to.translate(&status), lost)
        })?;
        let orca = Orca::read(reply.metadata().as_ref());
        if let Some(orca) = &orca {
            heard.report(&orca.report());
        }
        let reply = reply.into_inner();
        self.recorder
            .received((reply.latents.len() + reply.meta.len()) as u64);
        let reply = check(reply, &wanted, &call.ids, &call.expected)
            .map_err(|error| outcome(error, false))?;
        call.track.answered(orca.as_ref().and_then(Orca::served));
        Ok(reply)
    }

    fn request(&self, to: &Peer, call: &EncodeCall) -> Request<EncodeRequest> {
        let mut request = Request::new(call.request.clone());
        // The time left is computed for each attempt: a retried call is more urgent.
        let needed_in = call.needed_at.saturating_duration_since(Instant::now());
        let needed_in = u64::try_from(needed_in.as_millis()).unwrap_or(u64::MAX);
        let metadata = request.metadata_mut();
        metadata.insert(headers::COST_PIXELS, call.cost_pixels.into());
        metadata.insert(headers::NEEDED_IN_MS, needed_in.into());
        // Beside the message, for balancers that do not open it.
        for (name, value) in [
            (headers::MODEL, &call.request.model),
            (headers::FINGERPRINT, &call.request.fingerprint),
        ] {
            if let Ok(value) = MetadataValue::try_from(value) {
                metadata.insert(name, value);
            }
        }
        metadata.insert(headers::TRAINER, self.trainer.clone());
        metadata.insert(headers::WEIGHT, self.weight.clone());
        metadata.insert(headers::READY, self.recorder.ready_batches().into());
        to.sign(&mut request);
        request.set_timeout(self.attempt_timeout);
        request
    }
}

impl Carry for Carrier {
    type Call = EncodeCall;
    type Reply = EncodeReply;

    fn send(
        &self,
        to: Peer,
        heard: Heard,
        call: EncodeCall,
    ) -> BoxFuture<'static, Result<EncodeReply, Outcome>> {
        Box::pin(self.clone().encode(to, heard, call))
    }

    fn repeats(&self, hedge: bool) {
        self.recorder.repeated(hedge);
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
