//! Everything that a call passes on its way to the handler, in one function, top to bottom.

use std::{
    convert::Infallible,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use http::{HeaderMap, Request, Response};
use preheat_proto::{Code, Error, headers};
use tokio::sync::Semaphore;
use tonic::{Status, body::Body, server::NamedService, service::LayerExt};
use tower::{Service, ServiceBuilder, ServiceExt};
use tracing::Instrument;

use crate::{
    around::{Around, Next, around},
    body,
    engine::{Engine, Refusal, Ticket},
    metrics::Metrics,
    orca::{self, Rate},
    security::Tokens,
    trace,
    watch::Current,
};

/// The methods whose calls cost something.
pub(crate) const ENCODE: [&str; 2] = [
    "/preheat.v1.Encoder/Encode",
    "/inference.GRPCInferenceService/ModelInfer",
];

/// Probes, which must also be answered while draining: the answer is what they are for.
const PROBES: [&str; 3] = [
    "/inference.GRPCInferenceService/ServerLive",
    "/inference.GRPCInferenceService/ServerReady",
    "/inference.GRPCInferenceService/ModelReady",
];

/// Encode calls that one replica holds at a time, in whatever state. With the limit on a message it
/// bounds what bodies can occupy.
const MAX_CALLS: u32 = 256;

/// How long a call may take when its caller sets no deadline.
const MAX_CALL_TIME: Duration = Duration::from_secs(600);

/// A caller that does not say when it needs the answer is served as if it had said this.
const DEFAULT_NEEDED: Duration = Duration::from_secs(10);

/// When told to come back because too many calls are open; nothing is known about their length.
const CALLS_PUSHBACK: Duration = Duration::from_millis(100);

/// Told by a draining replica: long enough for balancers to have seen that it leaves, and short,
/// because the retry is for another.
pub(crate) const DRAIN_PUSHBACK: Duration = Duration::from_millis(250);

/// What the layers share with the handlers and with draining.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) engine: Engine,
    pub(crate) metrics: Arc<Metrics>,
    /// Who may call; `None`: everybody.
    pub(crate) tokens: Option<Current<Tokens>>,
    /// One permit for each open Encode call, until its answer is sent.
    calls: Arc<Semaphore>,
    /// Encode calls.
    pub(crate) call_rate: Rate,
    /// Those with items that failed by a fault of this replica. Not those answered INTERNAL: that
    /// is what tonic says to a message that is none, and strangers could paint a replica black.
    pub(crate) fault_rate: Rate,
    draining: AtomicBool,
}

/// The clock of a call, in its extensions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timing {
    pub(crate) deadline: Instant,
    pub(crate) needed: Instant,
}

impl Timing {
    /// How long the caller still waits.
    pub(crate) fn patience(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }
}

/// The place of a call, in its extensions; whoever takes it out owns it.
#[derive(Clone, Debug)]
pub(crate) struct Place(Arc<Mutex<Option<Ticket>>>);

/// A service that tonic can route to.
pub(crate) trait Routed:
    Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send + 'static>
    + NamedService
    + Clone
    + Send
    + Sync
    + 'static
{
}

impl<S> Routed for S where
    S: Service<
            Request<Body>,
            Response = Response<Body>,
            Error = Infallible,
            Future: Send + 'static,
        > + NamedService
        + Clone
        + Send
        + Sync
        + 'static
{
}

/// A service that costs something, behind its layers. Health and reflection stay outside: they must
/// answer however full the replica is.
pub(crate) fn stack(service: impl Routed, shared: &Arc<Shared>) -> impl Routed {
    let layer = |f: Around| around(Arc::clone(shared), f);
    ServiceBuilder::new()
        // Outermost, so that it sees every answer, also those that the layers below give.
        .layer(layer(|shared, request, next| {
            Box::pin(trace(shared, request, next))
        }))
        // Before anything that takes a place, so that no place outlives the caller's patience; and
        // inside tonic's own timer, which would answer CANCELLED.
        .layer(layer(|shared, request, next| {
            Box::pin(deadline(shared, request, next))
        }))
        // Draining, and the bound on open calls: costs nothing to refuse, so before admission.
        .layer(layer(|shared, request, next| {
            Box::pin(gate(shared, request, next))
        }))
        // Last before the body is read: what is refused here leaves its payload at the caller,
        // held back by HTTP/2 flow control.
        .layer(layer(|shared, request, next| {
            Box::pin(admission(shared, request, next))
        }))
        .named_layer(service)
}

impl Shared {
    pub(crate) fn new(
        engine: Engine,
        metrics: Arc<Metrics>,
        tokens: Option<Current<Tokens>>,
    ) -> Self {
        Self {
            engine,
            metrics,
            tokens,
            calls: Arc::new(Semaphore::new(MAX_CALLS as usize)),
            call_rate: Rate::default(),
            fault_rate: Rate::default(),
            draining: AtomicBool::new(false),
        }
    }

    /// From now on new calls are refused.
    pub(crate) fn refuse_new_calls(&self) {
        self.draining.store(true, Ordering::SeqCst);
    }

    /// Whether new calls are refused.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }

    /// Completes when no call is open any more.
    pub(crate) async fn all_calls_done(&self) {
        // Never closed, so this cannot fail.
        let _ = self.calls.acquire_many(MAX_CALLS).await;
    }
}

impl Place {
    /// The ticket, unless it was taken before.
    pub(crate) fn take(&self) -> Option<Ticket> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

async fn trace(shared: Arc<Shared>, request: Request<Body>, next: Next) -> Response<Body> {
    let start = Instant::now();
    let path = request.uri().path().to_owned();
    let span = trace::span(&path, request.headers());
    let response = call(next, request).instrument(span.clone()).await;
    // A response without this header succeeded; its status comes in the trailers.
    let code =
        Status::from_header_map(response.headers()).map_or(tonic::Code::Ok, |status| status.code());
    let took = start.elapsed();
    span.record("code", tracing::field::debug(code));
    tracing::debug!(parent: &span, ?took, "answered");
    shared.metrics.calls(code).increment(1);
    if !ENCODE.contains(&path.as_str()) {
        return response;
    }
    shared.metrics.call_seconds.record(took);
    shared.call_rate.tick(Instant::now());
    orca::report(&shared, response)
}

async fn deadline(shared: Arc<Shared>, mut request: Request<Body>, next: Next) -> Response<Body> {
    let patience = timeout(request.headers()).unwrap_or(MAX_CALL_TIME);
    let now = Instant::now();
    let deadline = now + patience.min(MAX_CALL_TIME);
    let needed = millis(request.headers()).unwrap_or(DEFAULT_NEEDED);
    request.extensions_mut().insert(Timing {
        deadline,
        needed: now + needed.min(MAX_CALL_TIME),
    });
    let answer = tokio::time::timeout_at(deadline.into(), call(next, request)).await;
    answer.unwrap_or_else(|_| {
        shared.metrics.sheds.deadline.increment(1);
        refuse(Refusal::Deadline.into())
    })
}

async fn gate(shared: Arc<Shared>, request: Request<Body>, next: Next) -> Response<Body> {
    let path = request.uri().path();
    if PROBES.contains(&path) {
        return call(next, request).await;
    }
    let costs = ENCODE.contains(&path);
    let permit = costs.then(|| Arc::clone(&shared.calls).try_acquire_owned());
    // Looked at with the permit in hand, so that draining waits for whoever passes here; and before
    // the permit, because draining itself takes all that are free.
    if shared.is_draining() {
        shared.metrics.sheds.draining.increment(1);
        let message = "this replica is draining: send the call to another";
        return refuse(Error::new(Code::Unavailable, message).retry_after(DRAIN_PUSHBACK));
    }
    match permit {
        Some(Err(_)) => {
            shared.metrics.sheds.calls.increment(1);
            let message = format!("{MAX_CALLS} calls are open on this replica: come back later");
            refuse(Error::busy(message, CALLS_PUSHBACK))
        }
        Some(Ok(permit)) => body::held(call(next, request).await, permit),
        None => call(next, request).await,
    }
}

async fn admission(shared: Arc<Shared>, mut request: Request<Body>, next: Next) -> Response<Body> {
    // Without the header the handler admits, once it has read the body.
    if let Some(claim) = request.headers().get(headers::COST_PIXELS) {
        let pixels = claim.to_str().ok().and_then(|text| text.parse().ok());
        let Some(pixels) = pixels else {
            let name = headers::COST_PIXELS;
            let message = format!("header {name} is {claim:?}, must be a decimal number");
            return refuse(Error::new(Code::BadRequest, message));
        };
        let timing = request.extensions().get::<Timing>();
        let patience = timing.map_or(MAX_CALL_TIME, Timing::patience);
        match shared.engine.queue().admit(pixels, patience) {
            Ok(ticket) => {
                let place = Place(Arc::new(Mutex::new(Some(ticket))));
                request.extensions_mut().insert(place);
            }
            Err(refusal) => {
                shared.metrics.shed(&refusal);
                return refuse(refusal.into());
            }
        }
    }
    call(next, request).await
}

/// What the layers below answer, which cannot fail.
pub(crate) async fn call(next: Next, request: Request<Body>) -> Response<Body> {
    match next.oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

/// An answer without a body.
pub(crate) fn refuse(error: Error) -> Response<Body> {
    Status::from(error).into_http()
}

fn millis(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(headers::NEEDED_IN_MS)?.to_str().ok()?;
    text.parse().ok().map(Duration::from_millis)
}

/// The caller's patience, a little shortened: tonic's own timers, on both sides, would otherwise
/// answer CANCELLED first.
fn timeout(headers: &HeaderMap) -> Option<Duration> {
    const MARGIN: Duration = Duration::from_millis(50);
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    // The protocol allows eight digits; `parse` alone would also take a sign.
    let digits = Some(digits).filter(|d| d.len() <= 8 && d.bytes().all(|b| b.is_ascii_digit()))?;
    let value: u64 = digits.parse().ok()?;
    let timeout = match unit {
        "H" => Duration::from_secs(value * 3600),
        "M" => Duration::from_secs(value * 60),
        "S" => Duration::from_secs(value),
        "m" => Duration::from_millis(value),
        "u" => Duration::from_micros(value),
        "n" => Duration::from_nanos(value),
        _ => return None,
    };
    Some(timeout - (timeout / 10).min(MARGIN))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_the_protocol_writes_them() {
        let read = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-timeout", text.parse().unwrap());
            timeout(&headers)
        };
        assert_eq!(read("10S"), Some(Duration::from_millis(9950)));
        assert_eq!(read("100m"), Some(Duration::from_millis(90)));
        assert_eq!(read("1H"), Some(Duration::from_millis(3_599_950)));
        for bad in [
            "",
            "S",
            "10",
            "+1S",
            "-1S",
            "1.5S",
            "123456789S",
            "1s",
            "1é",
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
