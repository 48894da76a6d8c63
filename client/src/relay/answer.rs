//! Answers on their way back: passed on as they come, with the relay's own report in the trailers.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, header};
use http_body::{Body as HttpBody, Frame};
use preheat_proto::{Code, Error as CallError};
use tokio::time::{Instant, Sleep, sleep_until};
use tonic::{Status, body::Body};

use super::{
    call::{Call, First, Reply},
    failure, headers,
    seam::{Dispatch, Load, Replica},
};
use crate::{
    balance::orca::{Orca, TRAILER},
    wire::Counted,
};

/// Said when a call's time is over.
pub(super) fn too_late() -> CallError {
    let message = "the time that the caller gave this call (grpc-timeout) is over: no replica \
                   answered within it";
    CallError::new(Code::Deadline, message)
}

/// An answer of the relay's own, or a replica's refusal in its own `words`.
pub(super) fn refusal(error: CallError, words: Option<HeaderMap>) -> Response<Body> {
    let Some(words) = words else {
        return Status::from(error).into_http();
    };
    let mut response = Response::new(Body::empty());
    *response.headers_mut() = words;
    // Absent where the status came in trailers.
    let kind = HeaderValue::from_static("application/grpc");
    response
        .headers_mut()
        .entry(header::CONTENT_TYPE)
        .or_insert(kind);
    response
}

/// A message of the relay's own, prefix included.
pub(super) fn whole(message: Bytes) -> Response<Body> {
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert(Status::GRPC_STATUS, HeaderValue::from_static("0"));
    let frames = [Frame::trailers(trailers), Frame::data(message)];
    let mut response = Response::new(Body::new(Whole(frames.into())));
    let kind = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// Frames that are all here, in reverse.
struct Whole(Vec<Frame<Bytes>>);

impl HttpBody for Whole {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Poll::Ready(self.0.pop().map(Ok))
    }
}

/// A replica's answer, from its headers to its trailers.
pub(super) fn answer(reply: Reply, call: Call, dispatch: &Arc<impl Dispatch>) -> Response<Body> {
    // No attempt begins any more: the frames need not be kept.
    call.0.body.pass();
    let deadline = call.0.deadline;
    let dispatch = Arc::clone(dispatch);
    let passing = Passing {
        first: reply.first,
        body: reply.body,
        replica: reply.replica,
        report: call.0.method.is_work().then(|| {
            let load: Box<dyn Fn() -> Load + Send + Sync> = Box::new(move || dispatch.load());
            load
        }),
        alarm: deadline.map(|deadline| Alarm {
            deadline,
            sleep: None,
        }),
        is_over: false,
        call,
    };
    let mut response = Response::new(Body::new(passing));
    *response.headers_mut() = reply.headers;
    response
}

/// Puts the relay's report in the place of the replica's.
pub(super) fn report(headers: &mut HeaderMap, load: Load) {
    let cost = Orca::read(headers).map(|orca| orca.request_cost);
    let mut cost = cost.unwrap_or_default();
    // The replica's; callers would take what the call waited for here for time on the way.
    cost.remove("seconds");
    let entry = |(name, value): (&str, f64)| (name.to_owned(), value);
    let named = [
        ("queued_pixels", load.queued_pixels),
        ("pixels_per_second", load.pixels_per_second),
        ("window_pixels", load.window_pixels),
    ];
    // As full as it should be is 1: what is over waits for nothing but its turn.
    let full = load.queued_pixels / load.window_pixels;
    let orca = Orca {
        request_cost: cost,
        named_metrics: named.into_iter().map(entry).collect(),
        application_utilization: if full.is_finite() { full } else { 0.0 },
    };
    headers.insert(TRAILER, orca.write());
}

struct Passing {
    first: First,
    body: Counted,
    replica: Replica,
    report: Option<Box<dyn Fn() -> Load + Send + Sync>>,
    alarm: Option<Alarm>,
    is_over: bool,
    /// Kept until the end: with it goes the request's body.
    call: Call,
}

/// Rings when the caller gives up. Set only where something is waited for: most answers are here
/// before that.
struct Alarm {
    deadline: Instant,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Alarm {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let sleep = || Box::pin(sleep_until(self.deadline));
        self.sleep.get_or_insert_with(sleep).as_mut().poll(context)
    }
}

impl Passing {
    /// The trailers as they go on, and what the balancer learns from them.
    fn trailers(&mut self, mut trailers: HeaderMap) -> Frame<Bytes> {
        if let Some(orca) = Orca::read(&trailers) {
            self.replica.heard.report(&orca.report());
        }
        headers::strip(&mut trailers);
        if !trailers.contains_key(Status::GRPC_STATUS) {
            let message = "the replica ended its answer without a status";
            return self.failed(CallError::new(Code::Internal, message));
        }
        if let Some(load) = &self.report {
            report(&mut trailers, load());
        }
        self.is_over = true;
        Frame::trailers(trailers)
    }

    /// The end of an answer that broke off.
    fn failed(&mut self, error: CallError) -> Frame<Bytes> {
        // Where the caller's own stream is what broke, that is the reason.
        let error = self.call.0.body.broken().unwrap_or(error);
        let mut trailers = Status::from(error).into_http::<()>().headers().clone();
        trailers.remove(header::CONTENT_TYPE);
        if let Some(load) = &self.report {
            report(&mut trailers, load());
        }
        self.is_over = true;
        Frame::trailers(trailers)
    }
}

impl HttpBody for Passing {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        if this.is_over {
            return Poll::Ready(None);
        }
        let frame = match std::mem::replace(&mut this.first, First::Nothing) {
            First::Data(data) => Frame::data(data),
            First::Trailers(trailers) => this.trailers(trailers),
            First::Nothing => match Pin::new(&mut this.body.body).poll_frame(context) {
                Poll::Ready(Some(Ok(frame))) => match frame.into_trailers() {
                    Ok(trailers) => this.trailers(trailers),
                    Err(data) => data,
                },
                Poll::Ready(Some(Err(status))) => {
                    let error = failure::broken_off(&status, this.replica.peer.tls);
                    this.failed(error)
                }
                Poll::Ready(None) => {
                    let message = "the replica ended the call in the middle of its answer";
                    this.failed(CallError::new(Code::Unavailable, message))
                }
                Poll::Pending => {
                    let alarm = this.alarm.as_mut();
                    if alarm.is_none_or(|alarm| alarm.poll(context).is_pending()) {
                        return Poll::Pending;
                    }
                    this.failed(too_late())
                }
            },
        };
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.is_over
    }
}
