//! Writing, off the path of batches: a queue that drops rather than waits, and one thread.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use rustc_hash::FxBuildHasher;

use super::{
    config::CacheConfig, counts::Counts, entry::HEADER_BYTES, key::Key, space::Space, store::Store,
};
use crate::error::Error;

/// Bytes of tensors that wait to be written: what a slow disk may be behind by, beside the window.
const QUEUE_BYTES: usize = 64 << 20;
/// Tensors that wait to be written.
const QUEUE_ENTRIES: usize = 4096;
/// How long writing pauses after a failure: a full disk is not emptied in less, and a run of weeks
/// should find it emptied.
const PAUSE: Duration = Duration::from_secs(600);
/// How long a loader that ends waits for what is still to be written.
const FLUSH_WAIT: Duration = Duration::from_secs(10);

/// Keeps tensors, soon. The thread ends with it.
pub(crate) struct Writer {
    queue: flume::Sender<Job>,
    waiting: Arc<Waiting>,
    counts: Arc<Counts>,
}

enum Job {
    Put(Key),
    /// Says when all before it is done.
    Flush(flume::Sender<()>),
}

/// What waits to be written can be found already.
#[derive(Default)]
struct Waiting(Mutex<Tensors>);

#[derive(Default)]
struct Tensors {
    held: HashMap<Key, Bytes, FxBuildHasher>,
    bytes: usize,
}

impl Waiting {
    fn lock(&self) -> MutexGuard<'_, Tensors> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, key: &Key) -> Option<Bytes> {
        self.lock().held.get(key).cloned()
    }

    /// `None` if there is no room; else whether it is new.
    fn add(&self, key: Key, tensor: Bytes, counts: &Counts) -> Option<bool> {
        let mut tensors = self.lock();
        if tensors.held.contains_key(&key) {
            return Some(false);
        }
        if tensors.bytes + tensor.len() > QUEUE_BYTES {
            return None;
        }
        tensors.bytes += tensor.len();
        tensors.held.insert(key, tensor);
        counts.waiting.store(tensors.held.len() as u64, Relaxed);
        Some(true)
    }

    fn remove(&self, key: &Key, counts: &Counts) {
        let mut tensors = self.lock();
        if let Some(tensor) = tensors.held.remove(key) {
            tensors.bytes -= tensor.len();
            counts.waiting.store(tensors.held.len() as u64, Relaxed);
        }
    }
}

impl Writer {
    /// # Errors
    /// [`Error::Internal`] if the system starts no thread.
    pub(crate) fn start(
        config: &CacheConfig,
        store: &Store,
        counts: Arc<Counts>,
    ) -> Result<Self, Error> {
        let (queue, jobs) = flume::bounded(QUEUE_ENTRIES);
        let waiting = Arc::<Waiting>::default();
        let mut work = Work {
            space: Space::new(config, store.clone(), counts.clone()),
            store: store.clone(),
            counts: counts.clone(),
            // Where entries are looked up first, those that come here are not there.
            look_first: !config.mode.reads(),
            paused_until: None,
        };
        let held = waiting.clone();
        thread::Builder::new()
            .name("preheat-cache".into())
            .spawn(move || work.run(&jobs, &held))
            .map_err(|error| Error::Internal(format!("cannot start a thread: {error}")))?;
        Ok(Self {
            queue,
            waiting,
            counts,
        })
    }

    /// A tensor that is not written yet.
    pub(crate) fn waiting(&self, key: &Key) -> Option<Bytes> {
        self.waiting.get(key)
    }

    /// Keeps a tensor, or drops it where too much waits already.
    pub(crate) fn put(&self, key: Key, tensor: Bytes) {
        let queued = match self.waiting.add(key, tensor, &self.counts) {
            Some(true) => self.queue.try_send(Job::Put(key)).is_ok(),
            Some(false) => return,
            None => false,
        };
        if !queued {
            self.waiting.remove(&key, &self.counts);
            self.counts.not_written.add(1);
        }
    }

    /// Waits until all that was put before is written, for [`FLUSH_WAIT`] at most.
    pub(crate) fn flush(&self) {
        let until = Instant::now() + FLUSH_WAIT;
        let (sender, done) = flume::bounded(1);
        if self.queue.send_deadline(Job::Flush(sender), until).is_ok() {
            let _ = done.recv_deadline(until);
        }
    }
}

/// The thread.
struct Work {
    store: Store,
    space: Space,
    counts: Arc<Counts>,
    look_first: bool,
    paused_until: Option<Instant>,
}

impl Work {
    fn run(&mut self, jobs: &flume::Receiver<Job>, waiting: &Waiting) {
        self.store.tidy();
        // Before the first entry comes: in a large folder it takes a while.
        self.space.look(0);
        for job in jobs {
            match job {
                Job::Put(key) => {
                    if let Some(tensor) = waiting.get(&key) {
                        self.save(&key, &tensor);
                    }
                    waiting.remove(&key, &self.counts);
                }
                Job::Flush(done) => {
                    let _ = done.send(());
                }
            }
        }
    }

    fn save(&mut self, key: &Key, tensor: &[u8]) {
        let paused = self
            .paused_until
            .is_some_and(|until| Instant::now() < until);
        if paused {
            return self.counts.not_written.add(1);
        }
        if self.look_first && self.store.has(key, tensor.len()) {
            return;
        }
        if !self.space.admits((HEADER_BYTES + tensor.len()) as u64) {
            return self.counts.not_written.add(1);
        }
        match self.store.write(key, tensor) {
            Ok(bytes) => {
                self.space.wrote(bytes);
                self.counts.written.add(1);
                self.counts.written_bytes.add(bytes);
                self.paused_until = None;
            }
            Err(error) => self.failed(&error),
        }
    }

    fn failed(&mut self, error: &std::io::Error) {
        self.counts.write_failures.add(1);
        self.paused_until = Some(Instant::now() + PAUSE);
        if self.counts.first("write") {
            tracing::warn!(
                folder = %self.store.root.display(),
                %error,
                "cache: cannot be written; the run goes on without, and tries again every {PAUSE:?} \
                 (said once, then counted)"
            );
        }
    }
}

#[cfg(test)]
mod tests;
