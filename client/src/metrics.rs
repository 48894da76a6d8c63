//! Every metric of this crate, registered once. Handles are made here and passed in.

use metrics::{
    Counter, Gauge, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram,
    gauge, histogram,
};

/// Handles to all metrics.
#[derive(Clone)]
pub(crate) struct Metrics {
    pub(crate) batches: Counter,
    pub(crate) images: Counter,
    pub(crate) sent_bytes: Counter,
    pub(crate) received_bytes: Counter,
    pub(crate) wait: Histogram,
    pub(crate) call: Histogram,
    pub(crate) retries: Counter,
    pub(crate) bad_samples: Counter,
    pub(crate) window_bytes: Gauge,
    pub(crate) window_batches: Gauge,
    pub(crate) ready_batches: Gauge,
}

impl Metrics {
    pub(crate) fn register() -> Self {
        let c = |name, unit, about| {
            describe_counter!(name, unit, about);
            counter!(name)
        };
        let g = |name, unit, about| {
            describe_gauge!(name, unit, about);
            gauge!(name)
        };
        let h = |name, about| {
            describe_histogram!(name, Unit::Seconds, about);
            histogram!(name)
        };
        Self {
            batches: c("preheat_client_batches_total", Unit::Count, "Batches taken"),
            images: c("preheat_client_images_total", Unit::Count, "Images taken"),
            sent_bytes: c(
                "preheat_client_sent_bytes_total",
                Unit::Bytes,
                "Payloads sent",
            ),
            received_bytes: c(
                "preheat_client_received_bytes_total",
                Unit::Bytes,
                "Latents received",
            ),
            wait: h(
                "preheat_client_wait_seconds",
                "Time that the trainer waited for a batch",
            ),
            call: h(
                "preheat_client_call_seconds",
                "Time of a request, with its retries",
            ),
            retries: c(
                "preheat_client_retries_total",
                Unit::Count,
                "Attempts repeated",
            ),
            bad_samples: c(
                "preheat_client_bad_samples_total",
                Unit::Count,
                "Samples that could not be encoded",
            ),
            window_bytes: g(
                "preheat_client_window_bytes",
                Unit::Bytes,
                "Bytes held ahead",
            ),
            window_batches: g(
                "preheat_client_window_batches",
                Unit::Count,
                "Batches held ahead",
            ),
            ready_batches: g(
                "preheat_client_ready_batches",
                Unit::Count,
                "Batches complete and not taken",
            ),
        }
    }
}
