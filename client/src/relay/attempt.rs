//! One attempt at a call on one replica: until it has become an answer, or has failed so that it can
//! be made elsewhere.

use std::{future::poll_fn, pin::Pin};

use http::{HeaderMap, HeaderValue, Request, header};
use http_body::{Body as _, Frame};
use preheat_proto::{Code, Error as CallError, headers as names};
use tokio::time::Instant;
use tonic::{Status, body::Body};

use super::{
    call::{Call, First, Inner, Method, Refusal, Reply},
    failure, headers,
    seam::Replica,
};
use crate::{
    balance::{Outcome, orca::Orca},
    wire::Counted,
};

/// Sends the call and waits until it is an answer.
pub(super) async fn send(replica: Replica, call: Call) -> Result<Reply, Outcome> {
    let call = &*call.0;
    let Some(body) = call.body.replay() else {
        let message =
            "the stream broke after more of it was sent than a balancer keeps: begin again";
        return Err(Outcome::Refused(CallError::new(Code::Unavailable, message)));
    };
    let request = request(&replica, call, Body::new(body));
    let response = replica.peer.connections.raw(request).await;
    let response = response.map_err(|error| failure::of_call(error, replica.peer.tls))?;
    let (mut head, mut body) = response.into_parts();
    if let Some(wrong) = failure::not_grpc(head.status, &head.headers) {
        return Err(Outcome::Fault(wrong));
    }
    headers::strip(&mut head.headers);
    let first = if head.headers.contains_key(Status::GRPC_STATUS) {
        if !is_ok(&head.headers) {
            return Err(refused(&replica, call, head.headers));
        }
        // An answer without messages, said in one breath.
        let mut trailers = std::mem::take(&mut head.headers);
        let kind = trailers.remove(header::CONTENT_TYPE);
        head.headers
            .extend(kind.map(|kind| (header::CONTENT_TYPE, kind)));
        First::Trailers(trailers)
    } else if call.method.waits_for_data() {
        first(&replica, call, &mut body).await?
    } else {
        First::Nothing
    };
    Ok(Reply {
        headers: head.headers,
        first,
        body,
        replica,
    })
}

fn request(replica: &Replica, call: &Inner, body: Body) -> Request<Body> {
    let mut request = Request::new(body);
    *request.method_mut() = http::Method::POST;
    *request.version_mut() = http::Version::HTTP_2;
    *request.uri_mut() = call.path.clone().into();
    let headers = request.headers_mut();
    headers.clone_from(&call.headers);
    // Wanted by the protocol, and about this hop.
    headers.insert(header::TE, HeaderValue::from_static("trailers"));
    if let Some(needed_at) = call.needed_at.get() {
        // Computed for each attempt: a retried call is more urgent.
        let needed_in = needed_at.saturating_duration_since(Instant::now());
        let left = u64::try_from(needed_in.as_millis()).unwrap_or(u64::MAX);
        headers.insert(names::NEEDED_IN_MS, left.into());
    }
    if let Some(deadline) = call.deadline {
        headers.insert("grpc-timeout", headers::timeout_until(deadline));
    }
    if let Some(bearer) = &replica.peer.bearer {
        headers.insert(header::AUTHORIZATION, bearer.header());
    }
    request
}

/// Waits for the first bytes of the answer, or for the status in their place.
async fn first(replica: &Replica, call: &Inner, body: &mut Counted) -> Result<First, Outcome> {
    loop {
        let frame = poll_fn(|context| Pin::new(&mut body.body).poll_frame(context));
        match frame.await.map(|result| result.map(Frame::into_data)) {
            Some(Ok(Ok(data))) if data.is_empty() => {}
            Some(Ok(Ok(data))) => return Ok(First::Data(data)),
            Some(Ok(Err(frame))) => {
                let mut trailers = frame.into_trailers().unwrap_or_default();
                headers::strip(&mut trailers);
                return match is_ok(&trailers) {
                    true => Ok(First::Trailers(trailers)),
                    false => Err(refused(replica, call, trailers)),
                };
            }
            Some(Err(status)) => return Err(failure::of_stream(&status, replica.peer.tls)),
            None => {
                // hyper shows a stream that was reset with CANCEL or NO_ERROR as one that ended.
                let reason = "the replica ended the call without an answer".into();
                return Err(Outcome::Away {
                    underway: true,
                    reason,
                });
            }
        }
    }
}

fn is_ok(headers: &HeaderMap) -> bool {
    headers
        .get(Status::GRPC_STATUS)
        .is_some_and(|code| code == "0")
}

/// What the replica's refusal is to the balancer. Its words are kept, to be repeated.
fn refused(replica: &Replica, call: &Inner, said: HeaderMap) -> Outcome {
    if let Some(orca) = Orca::read(&said) {
        replica.heard.report(&orca.report());
    }
    let error = failure::read(&said);
    let encode = call.method == Method::Encode;
    call.refused(Refusal {
        error: error.clone(),
        headers: said,
    });
    failure::classify(error, encode, replica.peer.bearer.as_ref())
}
