//! How loaded this replica is, in the trailers of every answer to Encode: an ORCA load report, as
//! gRPC's and Envoy's weighted balancers read it. What is not measured is left out.

use std::{
    collections::BTreeMap,
    pin::{Pin, pin},
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use prost::Message;
use tonic::{
    Status,
    body::Body,
    metadata::{Binary, MetadataMap, MetadataValue},
};

use crate::stack::Shared;

/// The trailer, binary.
pub(crate) const TRAILER: &str = "endpoint-load-metrics-bin";

/// Rates forget with this time constant: some batches long, and short against a change of load.
const MEMORY: Duration = Duration::from_secs(10);

/// `xds.data.orca.v3.OrcaLoadReport`, the fields that are filled here.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct OrcaLoadReport {
    /// What this call cost, by kind.
    #[prost(btree_map = "string, double", tag = "4")]
    pub(crate) request_cost: BTreeMap<String, f64>,
    /// Calls a second.
    #[prost(double, tag = "6")]
    pub(crate) rps_fractional: f64,
    /// Calls a second that failed by a fault of the replica.
    #[prost(double, tag = "7")]
    pub(crate) eps: f64,
    /// Everything else that a balancer may want to know.
    #[prost(btree_map = "string, double", tag = "8")]
    pub(crate) named_metrics: BTreeMap<String, f64>,
    /// How full the queue is, 0 to 1.
    #[prost(double, tag = "9")]
    pub(crate) application_utilization: f64,
}

/// What a call cost; an extension of its answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    /// Output pixels.
    pub(crate) pixels: u64,
    /// From the whole request to the answer: the rest of what a caller sees is the way.
    pub(crate) time: Duration,
}

/// Events a second, smoothed.
#[derive(Debug, Default)]
pub(crate) struct Rate(Mutex<Option<(f64, Instant)>>);

impl Rate {
    /// Counts one.
    pub(crate) fn tick(&self, now: Instant) {
        self.add(1.0 / MEMORY.as_secs_f64(), now);
    }

    fn add(&self, more: f64, now: Instant) -> f64 {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (old, since) = state.unwrap_or((0.0, now));
        let age = now.saturating_duration_since(since).as_secs_f64();
        let rate = old * (-age / MEMORY.as_secs_f64()).exp() + more;
        *state = Some((rate, now));
        rate
    }

    fn read(&self, now: Instant) -> f64 {
        self.add(0.0, now)
    }
}

/// Puts the report on an answer: in the trailers, or beside the status where there is no body.
pub(crate) fn report(shared: &Arc<Shared>, mut response: Response<Body>) -> Response<Body> {
    let cost = response.extensions().get::<Cost>().copied();
    if response.body().is_end_stream() {
        let load = load(shared, cost);
        append(response.headers_mut(), &load);
        return response;
    }
    let shared = Arc::clone(shared);
    response.map(|body| Body::new(Reporting { body, shared, cost }))
}

fn load(shared: &Shared, cost: Option<Cost>) -> OrcaLoadReport {
    let now = Instant::now();
    let queue = shared.engine.queue();
    let (queued, limit) = (queue.queued() as f64, f64::from(queue.pixels_limit()));
    let entry = |(name, value): (&str, f64)| (name.to_owned(), value);
    let named = [
        ("queued_pixels", queued),
        ("queue_pixels", limit),
        ("pixels_per_second", queue.rate() as f64),
    ];
    OrcaLoadReport {
        request_cost: cost.map_or_else(BTreeMap::new, |Cost { pixels, time }| {
            [("pixels", pixels as f64), ("seconds", time.as_secs_f64())]
                .map(entry)
                .into()
        }),
        rps_fractional: shared.call_rate.read(now),
        eps: shared.fault_rate.read(now),
        named_metrics: named.into_iter().map(entry).collect(),
        application_utilization: queued / limit,
    }
}

fn append(headers: &mut HeaderMap, load: &OrcaLoadReport) {
    let value = MetadataValue::<Binary>::from_bytes(&load.encode_to_vec());
    let mut metadata = MetadataMap::new();
    metadata.insert_bin(TRAILER, value);
    headers.extend(metadata.into_headers());
}

/// A body that adds the report to its trailers, as late as possible.
struct Reporting {
    body: Body,
    shared: Arc<Shared>,
    cost: Option<Cost>,
}

impl HttpBody for Reporting {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let mut frame = ready!(pin!(&mut self.body).poll_frame(cx));
        if let Some(Ok(frame)) = &mut frame
            && let Some(trailers) = frame.trailers_mut()
        {
            append(trailers, &load(&self.shared, self.cost));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_reached_and_forgotten() {
        let rate = Rate::default();
        let start = Instant::now();
        assert_eq!(rate.read(start), 0.0);
        // Twenty a second for ten time constants.
        for tick in 0..2000 {
            rate.tick(start + Duration::from_millis(50) * tick);
        }
        let end = start + Duration::from_secs(100);
        assert!((rate.read(end) - 20.0).abs() < 0.2, "{}", rate.read(end));
        assert!(rate.read(end + 5 * MEMORY) < 0.2);
    }
}
