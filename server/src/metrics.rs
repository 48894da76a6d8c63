//! Every metric of a replica: registered here, once, and passed on as handles.

use metrics::{
    Counter, Gauge, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram,
    gauge, histogram,
};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use crate::engine::{FaultKind, Refusal};

/// Upper bounds of the buckets of durations: 0.5 ms to 33 s, doubling.
const SECONDS: [f64; 17] = doubling(0.0005);
/// Upper bounds of the buckets of items of a batch: 1 to 65536, doubling.
const ITEMS: [f64; 17] = doubling(1.0);
/// Upper bounds of the buckets of pixels of a batch: 64² to 16384², doubling.
const PIXELS: [f64; 17] = doubling(4096.0);

/// gRPC has the codes 0 to 16.
const GRPC_CODES: usize = 17;

/// Handles. Without an installed recorder they cost nothing and do nothing.
#[derive(Debug)]
pub(crate) struct Metrics {
    /// From the headers of an Encode call to the end of its body.
    pub(crate) wire_seconds: Histogram,
    /// Waiting for a decode thread.
    pub(crate) queue_seconds: Histogram,
    /// Decode, resize, crop, flip of one image or frame.
    pub(crate) decode_seconds: Histogram,
    /// One item, from its first frame at a decode thread to its last one decoded.
    pub(crate) clip_decode_seconds: Histogram,
    /// Images and frames decoded.
    pub(crate) frames_decoded: Counter,
    /// Posterior, scale, rounding and layout of one answer.
    pub(crate) finish_seconds: Histogram,
    /// From headers to answer, one call.
    pub(crate) call_seconds: Histogram,
    /// Output pixels that are admitted and not yet answered.
    pub(crate) queued_pixels: Gauge,
    /// Output pixels that may be.
    pub(crate) queue_limit_pixels: Gauge,
    /// Calls turned away, by reason.
    pub(crate) sheds: Sheds,
    /// Items answered with a tensor.
    pub(crate) items_ok: Counter,
    calls: [Counter; GRPC_CODES],
}

/// The handles of one device.
#[derive(Debug)]
pub(crate) struct DeviceMetrics {
    /// Waiting, decoded, for the device.
    pub(crate) batch_wait_seconds: Histogram,
    /// Handing one batch over to the device.
    pub(crate) upload_seconds: Histogram,
    /// The device, one batch. Their sum is the time that the device was busy.
    pub(crate) encode_seconds: Histogram,
    /// From there to the order of the answer in memory, one batch.
    pub(crate) read_back_seconds: Histogram,
    /// Items of a batch.
    pub(crate) batch_items: Histogram,
    /// Pixels of a batch.
    pub(crate) batch_pixels: Histogram,
    /// Batches that the device failed.
    pub(crate) faults: Counter,
    device: String,
}

impl DeviceMetrics {
    /// Bytes that this process holds on the device. A device without memory of its own never has
    /// this gauge.
    pub(crate) fn memory(&self, bytes: u64) {
        gauge!("preheat_device_memory_bytes", "device" => self.device.clone()).set(bytes as f64);
    }

    /// Registers those of one device.
    pub(crate) fn new(device: &str) -> Self {
        let histogram = |name| histogram!(name, "device" => device.to_owned());
        Self {
            batch_wait_seconds: histogram("preheat_batch_wait_seconds"),
            upload_seconds: histogram("preheat_upload_seconds"),
            encode_seconds: histogram("preheat_encode_seconds"),
            read_back_seconds: histogram("preheat_read_back_seconds"),
            batch_items: histogram("preheat_batch_items"),
            batch_pixels: histogram("preheat_batch_pixels"),
            faults: counter!("preheat_device_faults_total", "device" => device.to_owned()),
            device: device.to_owned(),
        }
    }
}

/// Reloads of the models, by what came of them.
#[derive(Debug)]
pub(crate) struct Reloads {
    /// At least one model has new weights.
    pub(crate) changed: Counter,
    /// All sources hold what was served before.
    pub(crate) unchanged: Counter,
    /// Nothing was changed, because something cannot be served.
    pub(crate) failed: Counter,
}

impl Reloads {
    /// Registers them.
    pub(crate) fn new() -> Self {
        let reloads =
            |outcome: &'static str| counter!("preheat_reloads_total", "outcome" => outcome);
        Self {
            changed: reloads("changed"),
            unchanged: reloads("unchanged"),
            failed: reloads("failed"),
        }
    }
}

/// Calls turned away before any work.
#[derive(Debug)]
pub(crate) struct Sheds {
    /// Too many calls at once.
    pub(crate) calls: Counter,
    /// No room for their pixels.
    pub(crate) pixels: Counter,
    /// The replica drains.
    pub(crate) draining: Counter,
    /// The deadline passed.
    pub(crate) deadline: Counter,
}

impl Metrics {
    /// Registers all of them with the recorder of the process.
    pub(crate) fn new() -> Self {
        let shed = |reason: &'static str| counter!("preheat_sheds_total", "reason" => reason);
        Self {
            wire_seconds: histogram!("preheat_wire_seconds"),
            queue_seconds: histogram!("preheat_queue_seconds"),
            decode_seconds: histogram!("preheat_decode_seconds"),
            clip_decode_seconds: histogram!("preheat_clip_decode_seconds"),
            frames_decoded: counter!("preheat_frames_decoded_total"),
            finish_seconds: histogram!("preheat_finish_seconds"),
            call_seconds: histogram!("preheat_call_seconds"),
            queued_pixels: gauge!("preheat_queued_pixels"),
            queue_limit_pixels: gauge!("preheat_queue_limit_pixels"),
            sheds: Sheds {
                calls: shed("calls"),
                pixels: shed("pixels"),
                draining: shed("draining"),
                deadline: shed("deadline"),
            },
            items_ok: counter!("preheat_items_total", "outcome" => "ok"),
            calls: std::array::from_fn(|code| {
                let name = format!("{:?}", tonic::Code::from(code as i32));
                counter!("preheat_calls_total", "code" => name)
            }),
        }
    }

    /// Counts a call that the queue refused.
    pub(crate) fn shed(&self, refusal: &Refusal) {
        if matches!(refusal, Refusal::Busy { .. }) {
            self.sheds.pixels.increment(1);
        }
    }

    /// Calls that ended with this gRPC code.
    pub(crate) fn calls(&self, code: tonic::Code) -> &Counter {
        &self.calls[code as usize % GRPC_CODES]
    }

    /// Items that failed this way. Failures are rare, so the handle is looked up each time.
    #[allow(clippy::unused_self)]
    pub(crate) fn items_failed(&self, kind: FaultKind) -> Counter {
        counter!("preheat_items_total", "outcome" => format!("{kind:?}"))
    }
}

/// Takes in the metrics of the process, for [`admin`](crate::admin). Call before [`Metrics::new`].
///
/// # Errors
/// Where the process has another recorder already.
pub(crate) fn install() -> anyhow::Result<PrometheusHandle> {
    let suffix = |text: &str| Matcher::Suffix(text.to_owned());
    // Without buckets the exporter makes summaries, which cannot be added up over replicas.
    let recorder = PrometheusBuilder::new()
        .set_buckets_for_metric(suffix("_seconds"), &SECONDS)?
        .set_buckets_for_metric(suffix("_items"), &ITEMS)?
        .set_buckets_for_metric(suffix("_pixels"), &PIXELS)?
        .build_recorder();
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder)
        .map_err(|_| anyhow::anyhow!("this process already exports metrics elsewhere"))?;
    describe();
    Ok(handle)
}

/// The words beside the numbers.
fn describe() {
    for (name, text) in [
        (
            "wire",
            "From the headers of an Encode call to the end of its body",
        ),
        ("queue", "Wait of an image or frame for a decode thread"),
        (
            "decode",
            "Decode, resize, crop and flip of an image or frame",
        ),
        (
            "clip_decode",
            "An item, from its first frame at a decode thread to its last one decoded",
        ),
        ("batch_wait", "Wait of a decoded item for the device"),
        ("upload", "Handing a batch over to the device"),
        ("encode", "The device, one batch"),
        (
            "read_back",
            "From the end of the computation to latents in memory, one batch",
        ),
        (
            "finish",
            "Posterior, scale, rounding and layout of an answer",
        ),
        ("call", "From the headers of an Encode call to its answer"),
    ] {
        describe_histogram!(format!("preheat_{name}_seconds"), Unit::Seconds, text);
    }
    describe_histogram!("preheat_batch_items", "Items of a device batch");
    describe_histogram!("preheat_batch_pixels", "Output pixels of a device batch");
    describe_gauge!(
        "preheat_queued_pixels",
        "Output pixels admitted and not yet answered"
    );
    describe_gauge!(
        "preheat_queue_limit_pixels",
        "Output pixels that may be admitted"
    );
    describe_counter!(
        "preheat_sheds_total",
        "Calls turned away before any work, by reason"
    );
    describe_counter!("preheat_frames_decoded_total", "Images and frames decoded");
    describe_counter!("preheat_items_total", "Items answered, by outcome");
    describe_counter!("preheat_calls_total", "Calls answered, by gRPC code");
}

const fn doubling(first: f64) -> [f64; 17] {
    let mut bounds = [first; 17];
    let mut index = 1;
    while index < bounds.len() {
        bounds[index] = bounds[index - 1] * 2.0;
        index += 1;
    }
    bounds
}
