//! What replicas say about themselves beside their answers, and what a relay says of its fleet: load
//! reports as gRPC's and Envoy's weighted balancers read them (ORCA).

use std::{collections::BTreeMap, time::Duration};

use http::{HeaderMap, HeaderValue};
use prost::Message;
use tonic::metadata::{Binary, MetadataMap, MetadataValue};

use super::types::Report;

/// Where a report is: in the trailers of an answer, or beside the status of a refusal. Binary.
pub const TRAILER: &str = "endpoint-load-metrics-bin";

/// Bytes of a report in base64, at most: dozens of times what a replica of ours says. Longer ones
/// are not read.
const MAX_BYTES: usize = 16 * 1024;

/// `xds.data.orca.v3.OrcaLoadReport`, the fields that are of use here.
#[derive(Clone, PartialEq, Message)]
pub struct Orca {
    /// What this call cost, by kind.
    #[prost(btree_map = "string, double", tag = "4")]
    pub request_cost: BTreeMap<String, f64>,
    /// Everything else that a balancer may want to know.
    #[prost(btree_map = "string, double", tag = "8")]
    pub named_metrics: BTreeMap<String, f64>,
    /// How full the queue is, 0 to 1.
    #[prost(double, tag = "9")]
    pub application_utilization: f64,
}

impl Orca {
    /// The report among these headers or trailers. What cannot be read is as good as none: it is
    /// only advice.
    pub fn read(headers: &HeaderMap) -> Option<Self> {
        let value = headers.get(TRAILER).filter(|v| v.len() <= MAX_BYTES)?;
        let mut alone = HeaderMap::with_capacity(1);
        alone.insert(TRAILER, value.clone());
        let alone = MetadataMap::from_headers(alone);
        let bytes = alone.get_bin(TRAILER)?.to_bytes().ok()?;
        Self::decode(bytes).ok()
    }

    /// As a header.
    pub fn write(&self) -> HeaderValue {
        let value = MetadataValue::<Binary>::from_bytes(&self.encode_to_vec());
        let mut alone = MetadataMap::with_capacity(1);
        alone.insert_bin(TRAILER, value);
        let mut headers = alone.into_headers();
        headers
            .remove(TRAILER)
            .expect("it was inserted two lines above")
    }

    /// How long the replica had the call, if it says so.
    pub fn served(&self) -> Option<Duration> {
        let seconds = self.request_cost.get("seconds")?;
        Duration::try_from_secs_f64(*seconds).ok()
    }

    /// What the balancer learns from. Whatever is no number of pixels is unknown.
    pub fn report(&self) -> Report {
        let number = |name: &str| {
            let value = self.named_metrics.get(name).copied().unwrap_or(0.0);
            let fits = value.is_finite() && value > 0.0;
            if fits { value } else { 0.0 }
        };
        Report {
            queued_pixels: number("queued_pixels"),
            queue_pixels: number("queue_pixels"),
            pixels_per_second: number("pixels_per_second"),
            window_pixels: number("window_pixels"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(value: HeaderValue) -> HeaderMap {
        [(http::HeaderName::from_static(TRAILER), value)]
            .into_iter()
            .collect()
    }

    #[test]
    fn a_report_is_read_as_it_is_written() {
        let entry = |(name, value): (&str, f64)| (name.to_owned(), value);
        let named = [("queued_pixels", 3.5), ("pixels_per_second", 2e6)];
        let orca = Orca {
            request_cost: [("pixels", 9.0), ("seconds", 0.5)].map(entry).into(),
            named_metrics: named.map(entry).into(),
            application_utilization: 0.25,
        };
        let read = Orca::read(&headers(orca.write())).unwrap();
        assert_eq!(read, orca);
        let expected = Report {
            queued_pixels: 3.5,
            queue_pixels: 0.0,
            pixels_per_second: 2e6,
            window_pixels: 0.0,
        };
        assert_eq!(read.report(), expected);
        assert_eq!(read.served(), Some(Duration::from_millis(500)));
    }

    #[test]
    fn nonsense_is_no_report() {
        for bytes in [&b"!!"[..], b"\xff", b"AAAA", b"SQE"] {
            let value = HeaderValue::from_bytes(bytes).unwrap();
            assert_eq!(Orca::read(&headers(value)), None, "{bytes:?}");
        }
        let long = HeaderValue::from_bytes(&[b'A'; MAX_BYTES + 4]).unwrap();
        assert_eq!(Orca::read(&headers(long)), None);
        assert_eq!(Orca::read(&HeaderMap::new()), None);
        let lies = [("queued_pixels", f64::NAN), ("queue_pixels", -1.0)];
        let lies = Orca {
            named_metrics: lies.map(|(name, value)| (name.to_owned(), value)).into(),
            ..Orca::default()
        };
        assert_eq!(lies.report(), Report::default());
        for seconds in [f64::NAN, -1.0, f64::INFINITY] {
            let lies = Orca {
                request_cost: [("seconds".to_owned(), seconds)].into(),
                ..Orca::default()
            };
            assert_eq!(lies.served(), None);
        }
    }
}
