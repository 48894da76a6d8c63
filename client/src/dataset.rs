//! Where bytes come from: a store, how samples lie in it, and an index of all of them.

pub mod format;
pub mod index;
pub(crate) mod map;
mod probe;
pub mod sample;
mod source;
pub mod store;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, OnceLock},
    thread,
};

use preheat_proto::limits;
use tempfile::TempDir;
use tokio::{runtime, sync::Semaphore};

pub(crate) use self::probe::{size as image_size, within_limits};
pub use self::{
    format::{Columns, Format},
    index::{Index, MAX_SAMPLES, Progress},
    map::Map,
    sample::{Found, Located, Part, Sample, Shard, Span},
    source::{Check, Source},
    store::{Store, StoreOptions},
};
use crate::{
    config::BadSamples,
    error::Error,
    plan::{Samples, Size},
};

/// Bytes of one file: what fits a message beside its metadata.
pub const MAX_FILE_BYTES: u64 = (limits::MAX_MESSAGE_BYTES - 2 * limits::MAX_META_BYTES) as u64;
/// Samples read at once. A read may keep a thread that waits for another one, to read a local file: a
/// runtime that reads needs twice as many threads for blocking, or they all wait.
pub const MAX_READS: usize = 64;
/// Threads for blocking while shards are scanned: as many as all scans keep waiting at once (each reads
/// up to 32 headers in threads), and as many again for what they wait for. Few are ever started.
const SCAN_THREADS: usize = 2 * 32 * index::MAX_SCANS;

/// What the index knows of one file: its bytes and its size in pixels, or why it is bad.
type Probed = (u64, Result<Size, String>);

/// Samples that can be looked up and read. A sample's id is its index in the order of the shards'
/// paths and, within each, of the samples. A clone is the same dataset.
#[derive(Clone, Debug)]
pub struct Dataset {
    store: Store,
    format: Format,
    index: Arc<Index>,
    bad: Arc<OnceLock<BTreeMap<u64, String>>>,
    reads: Arc<Semaphore>,
    /// Where the index is, if nothing else could be written to.
    _folder: Option<Arc<TempDir>>,
}

impl Dataset {
    /// Opens a dataset and its index, which is made, or brought up to date, where it needs be, on
    /// several threads. `progress` is called now and then meanwhile. Blocks; can be used inside a
    /// runtime, but keeps its thread.
    ///
    /// # Errors
    /// [`Error::Dataset`] if the store cannot be read, has no samples, or the index cannot be
    /// written; [`Error::BadSample`] under [`BadSamples::Fail`] for the first bad sample.
    pub fn open(
        source: impl Into<Source>,
        policy: BadSamples,
        progress: &(dyn Fn(Progress) + Sync),
    ) -> Result<Self, Error> {
        let source = source.into();
        let (format, index, folder) = on_a_runtime(async {
            // Connections belong to the runtime that made them: those of reading are made later.
            let store = source.open_store()?;
            source.resolve(&store, progress).await
        })?;
        let dataset = Self {
            store: source.open_store()?,
            format,
            index: Arc::new(index),
            bad: Arc::default(),
            reads: Arc::new(Semaphore::new(MAX_READS)),
            _folder: folder.map(Arc::new),
        };
        if dataset.is_empty() {
            let reason = "has no samples: none of its shards has an image";
            return Err(Error::dataset(dataset.store.uri(), reason));
        }
        if policy == BadSamples::Fail
            && let Some((id, reason)) = dataset.index.bad().next()
        {
            return Err(Error::BadSample {
                key: dataset.key(id).to_owned(),
                reason: reason.to_owned(),
            });
        }
        Ok(dataset)
    }

    /// The index.
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// Number of samples, bad ones included.
    pub fn len(&self) -> u64 {
        self.index.len()
    }

    /// Never: a dataset without samples cannot be opened.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Hash of everything that a delivered sequence depends on. See [`Index::fingerprint`].
    pub fn fingerprint(&self) -> &str {
        self.index.fingerprint()
    }

    /// The shards, in the order of their paths' bytes.
    pub fn shards(&self) -> &[Shard] {
        self.index.shards()
    }

    /// Id of the first sample of each shard.
    pub fn shard_starts(&self) -> &[u64] {
        self.index.shard_starts()
    }

    /// What a sample is called: in a folder its path, with `/` between its parts.
    pub fn key(&self, id: u64) -> &str {
        self.index.key(id)
    }

    /// Where a sample's file is, if the dataset is a folder of images on this machine.
    pub fn path(&self, id: u64) -> Option<PathBuf> {
        matches!(self.format, Format::Folder)
            .then(|| self.store.local_path(self.key(id)))
            .flatten()
    }

    /// Bytes of its image, when it was indexed.
    pub fn file_bytes(&self, id: u64) -> u64 {
        self.index.image(id).bytes.into()
    }

    /// Bytes of its image and of all that travels with it.
    pub fn bytes(&self, id: u64) -> u64 {
        self.index.bytes(id)
    }

    /// Size of the image with its EXIF orientation applied; `None` for a bad sample.
    pub fn size(&self, id: u64) -> Option<Size> {
        self.index.size(id)
    }

    /// The sizes of all samples, in order.
    pub fn sizes(&self) -> impl Iterator<Item = Option<Size>> + Clone {
        (0..self.len()).map(|id| self.size(id))
    }

    /// The samples that turned out bad while indexing, with reasons.
    pub fn bad(&self) -> &BTreeMap<u64, String> {
        self.bad.get_or_init(|| {
            let bad = self.index.bad();
            bad.map(|(id, reason)| (id, reason.to_owned())).collect()
        })
    }

    /// Reads a sample: its image and what travels with it.
    ///
    /// # Errors
    /// In words, if it cannot be read or is not what it was.
    pub async fn read(&self, id: u64) -> Result<Sample, String> {
        let _read = self.reads.acquire().await.map_err(|e| e.to_string())?;
        let entry = self.index.entry(id)?;
        let located = Located {
            key: entry.key,
            image: entry.image,
            parts: &entry.parts,
        };
        self.format.read(&self.store, entry.shard, &located).await
    }
}

impl Samples for Dataset {
    fn count(&self) -> u64 {
        self.len()
    }

    fn size(&self, id: u64) -> Option<Size> {
        Self::size(self, id)
    }

    fn shard_starts(&self) -> &[u64] {
        Self::shard_starts(self)
    }

    fn fingerprint(&self) -> &str {
        Self::fingerprint(self)
    }
}

/// Runs a future on a runtime of its own, on a thread of its own: that of the caller may belong to
/// another runtime, where blocking is a panic.
fn on_a_runtime<T: Send>(
    future: impl Future<Output = Result<T, Error>> + Send,
) -> Result<T, Error> {
    let failed = |error| Error::Internal(format!("cannot start threads: {error}"));
    thread::scope(|scope| {
        let run = move || {
            let mut builder = runtime::Builder::new_multi_thread();
            let builder = builder.thread_name("preheat-index").enable_all();
            let builder = builder.max_blocking_threads(SCAN_THREADS);
            builder.build().map_err(failed)?.block_on(future)
        };
        let thread = thread::Builder::new().spawn_scoped(scope, run);
        let done = thread.map_err(failed)?.join();
        done.unwrap_or_else(|_| Err(Error::Internal("indexing panicked".into())))
    })
}
