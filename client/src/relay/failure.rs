//! What failures of replicas and of connections are to the balancer.

use std::{error::Error as StdError, sync::Arc, time::Duration};

use http::{HeaderMap, StatusCode, header};
use preheat_proto::{Code, Error as CallError, tame::tame};
use tonic::Status;

use super::answer::too_late;
use crate::{balance::Outcome, security::Bearer, wire};

/// A busy replica that does not say when it has room again is asked again after this.
const BUSY_PUSHBACK: Duration = Duration::from_millis(100);

/// The status among these headers or trailers, however badly it is written.
pub(super) fn read(headers: &HeaderMap) -> CallError {
    let mut status = HeaderMap::with_capacity(headers.len());
    for (name, value) in headers {
        if name.as_str().starts_with("grpc-") {
            status.append(name, value.clone());
        }
    }
    tame(&mut status);
    let status = Status::from_header_map(&status);
    status.map_or_else(
        || CallError::new(Code::Internal, "the replica answered without a status"),
        |status| CallError::from(&status),
    )
}

/// What a status of the replica's is. `encode`: the call was one to Encode, whose refusals are of a
/// known meaning. `ours`: the balancer's own token, if it was shown.
pub(super) fn classify(error: CallError, encode: bool, ours: Option<&Bearer>) -> Outcome {
    match error.code {
        Code::Busy => Outcome::Busy(error.retry_after.unwrap_or(BUSY_PUSHBACK)),
        // It lives, and the call was cut off by somebody on the way.
        Code::Cancelled => Outcome::Busy(BUSY_PUSHBACK),
        Code::Unavailable => away(error.message, false),
        Code::UnknownModel | Code::WrongFingerprint | Code::NotAReplica if encode => {
            Outcome::NotHere(error)
        }
        // No caller can repair it; but the token may have been rotated under way.
        Code::Unauthenticated if ours.is_some_and(Bearer::refresh) => away(error.message, false),
        Code::Unauthenticated if ours.is_some() => Outcome::NotHere(error),
        Code::Internal => Outcome::Fault(error),
        Code::BadRequest
        | Code::UnknownModel
        | Code::WrongFingerprint
        | Code::NotAReplica
        | Code::TooLarge
        | Code::Deadline
        | Code::Unauthenticated => Outcome::Refused(error),
    }
}

/// A call that got no answer at all.
pub(super) fn of_call(error: tonic::transport::Error, tls: bool) -> Outcome {
    // The transport keeps the caller's patience, too.
    if find::<tonic::TimeoutExpired>(&error).is_some() {
        return Outcome::Refused(too_late());
    }
    let is_canceled = find::<hyper::Error>(&error).is_some_and(hyper::Error::is_canceled);
    let status = Status::from_error(Box::new(error));
    let is_underway = !is_canceled && !wire::never_sent(&status);
    lost(&status, tls, is_underway)
}

/// An answer that broke off.
pub(super) fn of_stream(status: &Status, tls: bool) -> Outcome {
    lost(status, tls, true)
}

/// The same where the caller has seen a part of it already, and only it can begin again.
pub(super) fn broken_off(status: &Status, tls: bool) -> CallError {
    let message = match lost(status, tls, true) {
        Outcome::Away { reason, .. } => reason.to_string(),
        Outcome::Fault(error) => error.message,
        _ => status.message().to_owned(),
    };
    let message = format!("the answer broke off: {message}");
    CallError::new(Code::Unavailable, message)
}

fn lost(status: &Status, tls: bool, underway: bool) -> Outcome {
    let reset = StdError::source(status).and_then(find::<h2::Error>);
    let remote = reset.filter(|error| error.is_reset() && error.is_remote());
    match remote.and_then(h2::Error::reason) {
        // It says that it did nothing.
        Some(h2::Reason::REFUSED_STREAM) => {
            return away("the replica refused the stream".into(), false);
        }
        Some(h2::Reason::ENHANCE_YOUR_CALM) => return Outcome::Busy(BUSY_PUSHBACK),
        Some(h2::Reason::CANCEL | h2::Reason::NO_ERROR) | None => {}
        Some(reason) => {
            let message = format!("the replica reset the stream: {reason}");
            return Outcome::Fault(CallError::new(Code::Internal, message));
        }
    }
    let error = wire::failure(status, tls).unwrap_or_else(|| CallError::from(status));
    away(error.message, underway)
}

/// Whatever answers there, it is no gRPC.
pub(super) fn not_grpc(status: StatusCode, headers: &HeaderMap) -> Option<CallError> {
    let kind = headers.get(header::CONTENT_TYPE);
    let is_grpc = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
    if status == StatusCode::OK && is_grpc {
        return None;
    }
    let message = format!("answered with HTTP status {status} and content-type {kind:?}: no gRPC");
    Some(CallError::new(Code::Internal, message))
}

fn away(reason: String, underway: bool) -> Outcome {
    let reason = Arc::from(reason);
    Outcome::Away { underway, reason }
}

fn find<'a, E: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a E> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        cause = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn status(code: &'static str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert("grpc-status", HeaderValue::from_static(code));
        headers
    }

    fn kind(code: &'static str, encode: bool) -> &'static str {
        match classify(read(&status(code)), encode, None) {
            Outcome::Answered => "answered",
            Outcome::Busy(_) => "busy",
            Outcome::Away { .. } => "away",
            Outcome::NotHere(_) => "not here",
            Outcome::Refused(_) => "refused",
            Outcome::Fault(_) => "fault",
        }
    }

    #[test]
    fn every_status_has_a_meaning() {
        for (code, encode, other) in [
            ("1", "busy", "busy"),
            ("2", "fault", "fault"),
            ("3", "refused", "refused"),
            ("4", "refused", "refused"),
            ("5", "not here", "refused"),
            ("8", "busy", "busy"),
            ("9", "not here", "refused"),
            ("11", "refused", "refused"),
            ("12", "not here", "refused"),
            ("13", "fault", "fault"),
            ("14", "away", "away"),
            ("16", "refused", "refused"),
            ("banana", "fault", "fault"),
        ] {
            assert_eq!(
                (kind(code, true), kind(code, false)),
                (encode, other),
                "{code}"
            );
        }
    }

    #[test]
    fn a_pushback_is_heeded_and_nonsense_beside_it_is_not() {
        let mut headers = status("8");
        for (name, value) in [
            ("grpc-retry-pushback-ms", &b"70"[..]),
            ("grpc-status-details-bin", b"!!"),
            ("grpc-message", b"\xff%ff%"),
            ("other-bin", b"!!"),
        ] {
            headers.insert(name, HeaderValue::from_bytes(value).unwrap());
        }
        let error = read(&headers);
        assert_eq!(error.retry_after, Some(Duration::from_millis(70)));
    }
}
