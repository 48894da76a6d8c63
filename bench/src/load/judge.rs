//! What an answer is worth.

use std::time::Duration;

use preheat_proto::{
    Code, Error as CallError, ItemCode, Meta, ReplyMeta, headers, v1::EncodeResponse,
};
use tonic::{Response, Status};
use tonic_types::StatusExt as _;

use super::request::Prepared;

/// What became of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Every item is there, in the shape and type that were asked.
    Whole,
    /// An answer in which so many items failed, and why the first did.
    Partial(usize, String),
    /// Refused because the replica is full; when to come back, if it said so.
    Busy(Option<Duration>),
    /// Refused because the replica drains or its device failed.
    Unavailable(String),
    /// No answer within the deadline, by the replica's clock or ours.
    Deadline,
    /// The connection failed.
    Lost(String),
    /// Refused for another reason, or an answer that breaks the contract.
    Failed(String),
}

/// What became of a call, and the bytes of its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) verdict: Verdict,
    /// Bytes of the request; 0 unless it was answered with latents.
    pub(super) up: u64,
    /// Bytes of the answer.
    pub(super) down: u64,
}

impl From<Verdict> for Answer {
    fn from(verdict: Verdict) -> Self {
        Self {
            verdict,
            up: 0,
            down: 0,
        }
    }
}

/// Judges what came back; `lost` says in words how the connection failed, if it did.
pub(super) fn judge(
    asked: &Prepared,
    answer: Result<Response<EncodeResponse>, Status>,
    lost: impl FnOnce(&Status) -> Option<String>,
) -> Answer {
    match answer {
        Ok(response) => {
            let response = response.into_inner();
            Answer {
                up: asked.bytes,
                down: (response.latents.len() + response.meta.len()) as u64,
                verdict: open(asked, &response).unwrap_or_else(Verdict::Failed),
            }
        }
        Err(status) => refusal(&status, lost).into(),
    }
}

/// The deadline went by here: tonic's timer ends a call on this side too, as if it were cancelled.
pub(super) fn by_our_clock(status: &Status) -> bool {
    status.code() == tonic::Code::Cancelled && status.message() == "Timeout expired"
}

fn refusal(status: &Status, lost: impl FnOnce(&Status) -> Option<String>) -> Verdict {
    if by_our_clock(status) {
        return Verdict::Deadline;
    }
    if let Some(why) = lost(status) {
        return Verdict::Lost(why);
    }
    let error = CallError::from(status);
    match error.code {
        Code::Busy => Verdict::Busy(pushback(status)),
        Code::Unavailable => Verdict::Unavailable(error.message),
        Code::Deadline => Verdict::Deadline,
        _ => Verdict::Failed(format!("{:?}: {}", error.code, error.message)),
    }
}

/// When the replica says to come back, in either of its two ways.
fn pushback(status: &Status) -> Option<Duration> {
    let header = status.metadata().get(headers::RETRY_PUSHBACK_MS);
    let millis = header.and_then(|value| value.to_str().ok()?.parse::<u32>().ok());
    let header = millis.map(|millis| Duration::from_millis(millis.into()));
    header.or_else(|| status.get_details_retry_info()?.retry_delay)
}

fn open(asked: &Prepared, response: &EncodeResponse) -> Result<Verdict, String> {
    let pinned = &asked.request.fingerprint;
    if response.fingerprint != *pinned {
        let seen = &response.fingerprint;
        return Err(format!(
            "broken reply: fingerprint {seen} where {pinned} is pinned"
        ));
    }
    let meta = Meta::<ReplyMeta>::open(response.meta_version, &response.meta)
        .map_err(|error| format!("broken reply: {error}"))?;
    let view = meta.view();
    view.check(&asked.ids, response.latents.len())
        .map_err(|error| error.message)?;
    let shape: Vec<u32> = view.shape.iter().map(|side| side.to_native()).collect();
    if shape != asked.shape
        || preheat_proto::DType::from(view.dtype) != asked.asked.dtype
        || preheat_proto::Posterior::from(view.posterior) != asked.asked.posterior
    {
        let wanted = &asked.shape;
        return Err(format!(
            "broken reply: a tensor of {shape:?} where {wanted:?} was asked"
        ));
    }
    let failed = || {
        view.items
            .iter()
            .filter(|item| ItemCode::from(item.code) != ItemCode::Ok)
    };
    Ok(match failed().next() {
        None => Verdict::Whole,
        Some(first) => Verdict::Partial(failed().count(), first.message.as_str().to_owned()),
    })
}
