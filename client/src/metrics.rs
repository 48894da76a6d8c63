//! Every metric of this crate, registered once. Handles are made here and passed in.

use metrics::{
    Counter, Gauge, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram,
    gauge, histogram,
};

use crate::stats::{Stage, Stages};

/// Time waited for batches, by what they waited for.
const STAGE_WAIT: &str = "preheat_client_stage_wait_seconds";

/// Handles to all metrics.
#[derive(Clone)]
pub(crate) struct Metrics {
    pub(crate) batches: Counter,
    pub(crate) images: Counter,
    pub(crate) sent_bytes: Counter,
    pub(crate) received_bytes: Counter,
    pub(crate) times: Times,
    pub(crate) retries: Counter,
    pub(crate) hedges: Counter,
    pub(crate) bad_samples: Counter,
    pub(crate) window_bytes: Gauge,
    pub(crate) window_batches: Gauge,
    pub(crate) ready_batches: Gauge,
    pub(crate) under_way: Gauge,
    pub(crate) bytes_in_flight: Gauge,
}

/// Those that are distributions of times.
#[derive(Clone)]
pub(crate) struct Times {
    pub(crate) wait: Histogram,
    pub(crate) step: Histogram,
    waited_on: [Histogram; Stage::ALL.len()],
    pub(crate) call: Histogram,
    pub(crate) read: Histogram,
    pub(crate) queue: Histogram,
    pub(crate) encode: Histogram,
}

/// Counted by stores, which a loader shares with others: a dataset is open before any loader is.
pub(crate) const STORE_RETRIES: &str = "preheat_client_store_retries_total";

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
        // Shown from the start, also where there is nothing to count.
        c(STORE_RETRIES, Unit::Count, "Reads of the store repeated").increment(0);
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
            times: Times::register(),
            retries: c(
                "preheat_client_retries_total",
                Unit::Count,
                "Attempts repeated",
            ),
            hedges: c(
                "preheat_client_hedges_total",
                Unit::Count,
                "Attempts made beside one that was late",
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
            under_way: g(
                "preheat_client_under_way_batches",
                Unit::Count,
                "Batches admitted and not complete",
            ),
            bytes_in_flight: g(
                "preheat_client_in_flight_bytes",
                Unit::Bytes,
                "Payloads of calls under way",
            ),
        }
    }
}

impl Times {
    fn register() -> Self {
        let h = |name, about| {
            describe_histogram!(name, Unit::Seconds, about);
            histogram!(name)
        };
        describe_histogram!(
            STAGE_WAIT,
            Unit::Seconds,
            "Time that the trainer waited, by what its batch waited for"
        );
        let stages = Stage::ALL.map(|stage| histogram!(STAGE_WAIT, "stage" => stage.word()));
        Self {
            waited_on: stages,
            wait: h(
                "preheat_client_wait_seconds",
                "Time that the trainer waited for a batch",
            ),
            step: h(
                "preheat_client_step_seconds",
                "Time between a batch and asking for the next",
            ),
            read: h(
                "preheat_client_read_seconds",
                "Time to read the samples of a request",
            ),
            queue: h(
                "preheat_client_queue_seconds",
                "Time that a request waited for a replica",
            ),
            encode: h(
                "preheat_client_encode_seconds",
                "Time from sending a request to its answer",
            ),
            call: h(
                "preheat_client_call_seconds",
                "Time of a request, with its retries",
            ),
        }
    }

    /// One wait, by stage; those that it did not see are left out.
    pub(crate) fn waited_on(&self, on: &Stages) {
        for (stage, histogram) in Stage::ALL.into_iter().zip(&self.waited_on) {
            if !on[stage].is_zero() {
                histogram.record(on[stage].as_secs_f64());
            }
        }
    }
}
