//! What the cache has done, for statistics and metrics.

use std::{
    collections::BTreeSet,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use metrics::{Counter, Unit, counter, describe_counter};

/// What the latent cache has done so far. All zero without one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheStats {
    /// Samples found: the fleet was not asked.
    pub hits: u64,
    /// Samples looked for and not found, or found damaged.
    pub misses: u64,
    /// Entries found damaged, and encoded again.
    pub corrupt: u64,
    /// Bytes read for hits.
    pub read_bytes: u64,
    /// Entries written.
    pub written: u64,
    /// Bytes written for them.
    pub written_bytes: u64,
    /// Writes that failed. Writing then pauses for ten minutes.
    pub write_failures: u64,
    /// Samples not written: the disk was too slow, the cache full, or writing paused.
    pub not_written: u64,
    /// Samples that wait to be written now.
    pub waiting: u64,
    /// Entries removed to make room.
    pub evicted: u64,
    /// Their bytes, in blocks.
    pub evicted_bytes: u64,
}

/// One number, here and among the metrics.
pub(crate) struct Count {
    value: AtomicU64,
    metric: Counter,
}

impl Count {
    pub(crate) fn add(&self, more: u64) {
        self.value.fetch_add(more, Relaxed);
        self.metric.increment(more);
    }

    fn get(&self) -> u64 {
        self.value.load(Relaxed)
    }
}

/// The counters behind [`CacheStats`].
pub(crate) struct Counts {
    pub(crate) hits: Count,
    pub(crate) misses: Count,
    pub(crate) corrupt: Count,
    pub(crate) read_bytes: Count,
    pub(crate) written: Count,
    pub(crate) written_bytes: Count,
    pub(crate) write_failures: Count,
    pub(crate) not_written: Count,
    pub(crate) waiting: AtomicU64,
    pub(crate) evicted: Count,
    pub(crate) evicted_bytes: Count,
    /// The troubles that were logged: at most as many as there are kinds.
    said: Mutex<BTreeSet<&'static str>>,
}

impl Counts {
    pub(crate) fn register() -> Self {
        let count = |name, unit, about| {
            describe_counter!(name, unit, about);
            Count {
                value: AtomicU64::new(0),
                metric: counter!(name),
            }
        };
        let entries = |name, about| count(name, Unit::Count, about);
        let bytes = |name, about| count(name, Unit::Bytes, about);
        Self {
            hits: entries("preheat_client_cache_hits_total", "Samples found"),
            misses: entries("preheat_client_cache_misses_total", "Samples not found"),
            corrupt: entries("preheat_client_cache_corrupt_total", "Entries damaged"),
            read_bytes: bytes("preheat_client_cache_read_bytes_total", "Bytes read"),
            written: entries("preheat_client_cache_written_total", "Entries written"),
            written_bytes: bytes("preheat_client_cache_written_bytes_total", "Bytes written"),
            write_failures: entries(
                "preheat_client_cache_write_failures_total",
                "Writes that failed",
            ),
            not_written: entries(
                "preheat_client_cache_not_written_total",
                "Samples not written: slow disk, full cache, writing paused",
            ),
            waiting: AtomicU64::new(0),
            evicted: entries("preheat_client_cache_evicted_total", "Entries removed"),
            evicted_bytes: bytes("preheat_client_cache_evicted_bytes_total", "Bytes removed"),
            said: Mutex::default(),
        }
    }

    /// Whether this is the first trouble of its kind, which is worth a line.
    pub(crate) fn first(&self, kind: &'static str) -> bool {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        said.insert(kind)
    }

    pub(crate) fn snapshot(&self) -> CacheStats {
        CacheStats {
            hits: self.hits.get(),
            misses: self.misses.get(),
            corrupt: self.corrupt.get(),
            read_bytes: self.read_bytes.get(),
            written: self.written.get(),
            written_bytes: self.written_bytes.get(),
            write_failures: self.write_failures.get(),
            not_written: self.not_written.get(),
            waiting: self.waiting.load(Relaxed),
            evicted: self.evicted.get(),
            evicted_bytes: self.evicted_bytes.get(),
        }
    }
}
