//! What the loader has done so far, for people and for tests.

mod latency;
mod text;
mod track;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use self::latency::Times;
pub(crate) use self::track::Track;
pub use self::{
    latency::Latency,
    text::Bound,
    track::{Stage, Stages},
};
use crate::{
    cache::{CacheStats, Counts},
    metrics::Metrics,
    window::Window,
};

/// Bad samples that are listed with their reasons; further ones are only counted.
pub const MAX_BAD_LISTED: usize = 1000;
/// Waits shorter than this are the price of a call, not a stall.
pub const SHORTEST_WAIT: Duration = Duration::from_millis(1);

/// A sample that could not be encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadSample {
    /// Its index in the dataset.
    pub id: u64,
    /// Its path, relative to the dataset.
    pub key: String,
    /// What is wrong with it.
    pub reason: String,
}

/// What a loader has done so far.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// Batches taken.
    pub batches: u64,
    /// Images in them.
    pub images: u64,
    /// Bytes of images and metadata sent, repetitions included.
    pub sent_bytes: u64,
    /// Bytes of latents and metadata received.
    pub received_bytes: u64,
    /// Batches that the trainer had to wait for.
    pub waits: u64,
    /// How long, in all.
    pub waited: Duration,
    /// How much of that was for the first batch, when nothing could be ready.
    pub waited_first: Duration,
    /// Time that the trainer spent on its own, between a batch and asking for the next.
    pub stepped: Duration,
    /// What was waited for, the first batch aside: the stages of the chunk that came last.
    pub waited_on: Stages,
    /// Reading the samples of one chunk.
    pub read: Latency,
    /// From then until a replica took it.
    pub queue: Latency,
    /// From then until its answer was here: the way there and back, and what attempts that failed
    /// took.
    pub encode: Latency,
    /// Attempts that were repeated, hedges included.
    pub retries: u64,
    /// Attempts beside one that was late.
    pub hedges: u64,
    /// Places filled with a substitute.
    pub substituted: u64,
    /// Places left empty and masked.
    pub skipped: u64,
    /// Different bad samples met, here or in the index.
    pub bad_samples: u64,
    /// The first [`MAX_BAD_LISTED`] of them.
    pub bad: Vec<BadSample>,
    /// Batches under way or held.
    pub window_batches: u32,
    /// Of these, not complete.
    pub under_way: u32,
    /// Most batches under way at the trainer's pace and the latency of answers.
    pub under_way_target: u32,
    /// Bytes of calls under way.
    pub bytes_in_flight: u64,
    /// Bytes admitted for all of them.
    pub window_bytes: u64,
    /// Most bytes ever admitted at once.
    pub window_bytes_peak: u64,
    /// Batches complete and not taken: the depth of the prefetch.
    pub ready_batches: u64,
    /// Sum over all takes of the batches that were ready then; divide by `batches` for the mean.
    pub ready_when_taken: u64,
    /// What the latent cache did.
    pub cache: CacheStats,
}

/// The counters behind [`Stats`], shared by everything that counts.
#[derive(Clone)]
pub(crate) struct Recorder {
    pub(crate) metrics: Metrics,
    pub(crate) cache: Arc<Counts>,
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    batches: AtomicU64,
    images: AtomicU64,
    sent: AtomicU64,
    received: AtomicU64,
    waits: AtomicU64,
    waited: AtomicU64,
    waited_first: AtomicU64,
    retries: AtomicU64,
    hedges: AtomicU64,
    substituted: AtomicU64,
    skipped: AtomicU64,
    in_flight: AtomicU64,
    stepped: AtomicU64,
    waited_on: Mutex<Stages>,
    read: Times,
    queue: Times,
    encode: Times,
    peak: AtomicU64,
    ready: AtomicI64,
    ready_when_taken: AtomicU64,
    bad: Mutex<BTreeMap<u64, (String, String)>>,
}

/// One batch that is complete and not taken.
pub(crate) struct Ready(Recorder);

/// Bytes of one call under way.
pub(crate) struct InFlight(Recorder, u64);

impl Drop for InFlight {
    fn drop(&mut self) {
        let Self(recorder, bytes) = self;
        let before = recorder.inner.in_flight.fetch_sub(*bytes, Relaxed);
        let left = before.saturating_sub(*bytes);
        recorder.metrics.bytes_in_flight.set(left as f64);
    }
}

impl Drop for Ready {
    fn drop(&mut self) {
        self.0.change_ready(-1);
    }
}

impl Recorder {
    pub(crate) fn new() -> Self {
        Self {
            metrics: Metrics::register(),
            cache: Arc::new(Counts::register()),
            inner: Arc::default(),
        }
    }

    /// Bytes go out; they are in flight for as long as the guard lives.
    pub(crate) fn sent(&self, bytes: u64) -> InFlight {
        self.inner.sent.fetch_add(bytes, Relaxed);
        self.metrics.sent_bytes.increment(bytes);
        let before = self.inner.in_flight.fetch_add(bytes, Relaxed);
        self.metrics.bytes_in_flight.set((before + bytes) as f64);
        InFlight(self.clone(), bytes)
    }

    pub(crate) fn received(&self, bytes: u64) {
        self.inner.received.fetch_add(bytes, Relaxed);
        self.metrics.received_bytes.increment(bytes);
    }

    pub(crate) fn repeated(&self, hedge: bool) {
        self.inner.retries.fetch_add(1, Relaxed);
        self.metrics.retries.increment(1);
        if hedge {
            self.inner.hedges.fetch_add(1, Relaxed);
            self.metrics.hedges.increment(1);
        }
    }

    /// A chunk was encoded.
    pub(crate) fn encoded(&self, track: &Track) {
        let spent = track.spent();
        let encode = spent[Stage::Replica] + spent[Stage::Network];
        for (times, metric, time) in [
            (
                &self.inner.read,
                &self.metrics.times.read,
                spent[Stage::Store],
            ),
            (
                &self.inner.queue,
                &self.metrics.times.queue,
                spent[Stage::Queue],
            ),
            (&self.inner.encode, &self.metrics.times.encode, encode),
        ] {
            times.add(time);
            metric.record(time.as_secs_f64());
        }
    }

    pub(crate) fn skipped(&self) {
        self.inner.skipped.fetch_add(1, Relaxed);
    }

    pub(crate) fn substituted(&self) {
        self.inner.substituted.fetch_add(1, Relaxed);
    }

    /// Whether it was not known. The map holds every bad id, so that one met in every epoch counts
    /// once; reasons are kept for the first of them only.
    pub(crate) fn bad(&self, id: u64, key: &str, reason: &str) -> bool {
        let mut bad = self
            .inner
            .bad
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if bad.contains_key(&id) {
            return false;
        }
        let listed = bad.len() < MAX_BAD_LISTED;
        let text = |text: &str| {
            if listed {
                text.to_owned()
            } else {
                String::new()
            }
        };
        bad.insert(id, (text(key), text(reason)));
        self.metrics.bad_samples.increment(1);
        true
    }

    /// Why a sample is bad, if it is among those listed.
    pub(crate) fn reason(&self, id: u64) -> Option<String> {
        let bad = self.inner.bad.lock();
        let bad = bad.unwrap_or_else(PoisonError::into_inner);
        bad.get(&id).map(|(_, reason)| reason.clone())
    }

    pub(crate) fn admitted(&self, window: &Window) {
        self.inner.peak.fetch_max(window.bytes_held(), Relaxed);
        self.show(window);
    }

    /// Batches that are complete and not taken.
    pub(crate) fn ready_batches(&self) -> u64 {
        self.inner.ready.load(Relaxed).max(0).unsigned_abs()
    }

    /// Counts a batch as ready for as long as the guard lives.
    pub(crate) fn ready(&self) -> Ready {
        self.change_ready(1);
        Ready(self.clone())
    }

    fn change_ready(&self, change: i64) {
        let before = self.inner.ready.fetch_add(change, Relaxed);
        self.metrics.ready_batches.set((before + change) as f64);
    }

    /// The trainer's step took so long, before it asked for another batch.
    pub(crate) fn stepped(&self, step: Duration) {
        self.inner.stepped.fetch_add(nanos(step), Relaxed);
        self.metrics.times.step.record(step.as_secs_f64());
    }

    /// The trainer has a batch, for which it waited so long, on these.
    pub(crate) fn taken(&self, images: u64, (wait, on): (Duration, Stages), window: &Window) {
        let ready = self.inner.ready.load(Relaxed).max(0).unsigned_abs();
        self.inner.ready_when_taken.fetch_add(ready, Relaxed);
        let first = self.inner.batches.fetch_add(1, Relaxed) == 0;
        self.inner.images.fetch_add(images, Relaxed);
        self.inner.waited.fetch_add(nanos(wait), Relaxed);
        if first {
            self.inner.waited_first.store(nanos(wait), Relaxed);
        } else {
            let waited_on = self.inner.waited_on.lock();
            *waited_on.unwrap_or_else(PoisonError::into_inner) += on;
            self.metrics.times.waited_on(&on);
        }
        if wait >= SHORTEST_WAIT {
            self.inner.waits.fetch_add(1, Relaxed);
        }
        self.metrics.batches.increment(1);
        self.metrics.images.increment(images);
        self.metrics.times.wait.record(wait.as_secs_f64());
        self.show(window);
    }

    pub(crate) fn snapshot(&self, window: &Window) -> Stats {
        let inner = &*self.inner;
        let bad = inner.bad.lock().unwrap_or_else(PoisonError::into_inner);
        let listed = bad.iter().filter(|(_, (key, _))| !key.is_empty());
        Stats {
            batches: inner.batches.load(Relaxed),
            images: inner.images.load(Relaxed),
            sent_bytes: inner.sent.load(Relaxed),
            received_bytes: inner.received.load(Relaxed),
            waits: inner.waits.load(Relaxed),
            waited: Duration::from_nanos(inner.waited.load(Relaxed)),
            waited_first: Duration::from_nanos(inner.waited_first.load(Relaxed)),
            stepped: Duration::from_nanos(inner.stepped.load(Relaxed)),
            waited_on: *inner
                .waited_on
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
            read: inner.read.read(),
            queue: inner.queue.read(),
            encode: inner.encode.read(),
            retries: inner.retries.load(Relaxed),
            hedges: inner.hedges.load(Relaxed),
            substituted: inner.substituted.load(Relaxed),
            skipped: inner.skipped.load(Relaxed),
            bad_samples: bad.len() as u64,
            bad: listed
                .map(|(&id, (key, reason))| BadSample {
                    id,
                    key: key.clone(),
                    reason: reason.clone(),
                })
                .collect(),
            window_batches: window.batches_held(),
            under_way: window.under_way(),
            under_way_target: window.target(),
            bytes_in_flight: inner.in_flight.load(Relaxed),
            window_bytes: window.bytes_held(),
            window_bytes_peak: inner.peak.load(Relaxed),
            ready_batches: inner.ready.load(Relaxed).max(0).unsigned_abs(),
            ready_when_taken: inner.ready_when_taken.load(Relaxed),
            cache: self.cache.snapshot(),
        }
    }

    fn show(&self, window: &Window) {
        self.metrics.window_bytes.set(window.bytes_held() as f64);
        self.metrics
            .window_batches
            .set(f64::from(window.batches_held()));
        self.metrics.under_way.set(f64::from(window.under_way()));
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
