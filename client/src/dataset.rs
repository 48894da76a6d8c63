//! Where bytes come from: a store, how samples lie in it, and an index of all of them.

mod clip;
mod cut;
pub mod format;
pub mod index;
pub(crate) mod map;
mod mix;
mod opened;
mod probe;
mod prober;
pub mod sample;
mod source;
pub mod store;

use std::{
    borrow::Cow,
    collections::BTreeMap,
    iter,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    thread,
};

use preheat_proto::limits;
use tokio::{runtime, sync::Semaphore};

pub use self::{
    clip::Clip,
    format::{Columns, Format, Videos},
    index::{Index, MAX_SAMPLES, Progress},
    map::Map,
    mix::{MAX_SOURCE_NAME, MAX_SOURCES, Mix, MixSource, Sources},
    opened::Opened,
    prober::{MAX_CLIP_BYTES, MAX_VIDEO_BYTES},
    sample::{Found, Located, Part, Sample, Shard, Span},
    source::{Check, Source},
    store::{Store, StoreOptions},
};
pub(crate) use self::{
    clip::Made,
    format::{Media, Read},
    probe::{size as image_size, within_limits},
};
use crate::{
    config::BadSamples,
    error::Error,
    plan::{Samples, Size},
};

/// Bytes of one file: what fits a message beside its metadata.
pub const MAX_FILE_BYTES: u64 = (limits::MAX_MESSAGE_BYTES - 2 * limits::MAX_META_BYTES) as u64;
/// Samples read at once. A read may keep a thread that waits for another one, to read a local file: a
/// runtime that reads needs more threads for blocking than this, or they all wait.
pub const MAX_READS: usize = 64;
/// Threads for blocking while shards are scanned: as many as all scans keep waiting at once (each reads
/// up to 32 headers in threads), and as many again for what they wait for. Few are ever started.
const SCAN_THREADS: usize = 2 * 32 * index::MAX_SCANS;

/// What the index knows of one file: its bytes and its size in pixels, or why it is bad.
type Probed = (u64, Result<Size, String>);

/// Samples that can be looked up and read: of one source, or of all sources of a [`Mix`]. A sample's id
/// is its index in the order of the sources, within each of the shards' paths and within these of the
/// samples. A clone is the same dataset.
#[derive(Clone, Debug)]
pub struct Dataset {
    opened: Arc<[Opened]>,
    /// Of every source the id after its last.
    ends: Arc<[u64]>,
    starts: Arc<[u64]>,
    fingerprint: Arc<str>,
    layouts: Arc<Path>,
    bad: Arc<OnceLock<BTreeMap<u64, String>>>,
    reads: Arc<Semaphore>,
    /// Where its videos are cut into clips.
    cut: Option<Arc<cut::Cut>>,
}

impl Dataset {
    /// Opens a dataset and its index, which is made, or brought up to date, where it needs be, on
    /// several threads. `progress` is called now and then meanwhile, for one source after the other.
    /// Blocks; can be used inside a runtime, but keeps its thread.
    ///
    /// # Errors
    /// [`Error::Dataset`] if a store cannot be read, has no samples, or an index cannot be
    /// written; [`Error::BadSample`] under [`BadSamples::Fail`] for the first bad sample;
    /// [`Error::Config`] for a mix that makes no sense.
    pub fn open(
        sources: impl Into<Sources>,
        policy: BadSamples,
        progress: &(dyn Fn(Progress) + Sync),
    ) -> Result<Self, Error> {
        match sources.into() {
            Sources::One(source) => {
                let opened = Opened::new("", &source, policy, progress)?;
                let fingerprint = opened.index().fingerprint().to_owned();
                let layouts = opened.index().path().to_owned();
                Ok(Self::of([opened].into(), &fingerprint, &layouts))
            }
            Sources::Mix(mix) => {
                mix.check()?;
                let open = |MixSource { name, source, .. }: &MixSource| {
                    let opened = Opened::new(name, source, policy, progress);
                    opened.map_err(|error| opened::named(name, error))
                };
                let opened = mix.sources.iter().map(open).collect::<Result<_, _>>()?;
                Ok(Self::mixed(opened))
            }
        }
    }

    fn mixed(opened: Arc<[Opened]>) -> Self {
        let hash = |of: fn(&Opened) -> &[u8]| {
            let mut hasher = blake3::Hasher::new();
            for source in opened.iter() {
                for part in [source.name().as_bytes(), of(source)] {
                    // Lengths first, so that no two lists of parts are the same bytes.
                    hasher.update(&(part.len() as u64).to_le_bytes());
                    hasher.update(part);
                }
            }
            hasher.finalize().to_hex()
        };
        let fingerprint = hash(|source| source.index().fingerprint().as_bytes());
        // A name of its own: the layouts of the first source alone lie there too.
        let places = hash(|source| source.index().path().as_os_str().as_encoded_bytes());
        let mut layouts = opened[0].index().path().as_os_str().to_owned();
        layouts.push(format!(".mix-{}", &places[..16]));
        Self::of(opened.clone(), &fingerprint, Path::new(&layouts))
    }

    fn of(opened: Arc<[Opened]>, fingerprint: &str, layouts: &Path) -> Self {
        let (mut ends, mut starts, mut end) = (Vec::new(), Vec::new(), 0);
        for index in opened.iter().map(Opened::index) {
            starts.extend(index.shard_starts().iter().map(|start| end + start));
            end += index.len();
            ends.push(end);
        }
        Self {
            opened,
            ends: ends.into(),
            starts: starts.into(),
            fingerprint: fingerprint.into(),
            layouts: layouts.into(),
            bad: Arc::default(),
            reads: Arc::new(Semaphore::new(MAX_READS)),
            cut: None,
        }
    }

    /// The sources, in order; a dataset that is no mix is one without a name.
    pub fn sources(&self) -> &[Opened] {
        &self.opened
    }

    /// Which of the sources a sample is from.
    pub fn source_of(&self, id: u64) -> usize {
        let source = self.ends.partition_point(|&end| end <= id);
        source.min(self.opened.len() - 1)
    }

    /// The source of a sample, and its id there.
    pub(crate) fn locate(&self, id: u64) -> (&Opened, u64) {
        let at = self.source_of(id);
        let (id, ends) = match &self.cut {
            Some(cut) => (cut.base(id).0, &cut.ends),
            None => (id, &self.ends),
        };
        let start = at.checked_sub(1).map_or(0, |before| ends[before]);
        (&self.opened[at], id - start)
    }

    /// What the layouts of its plans lie beside.
    pub(crate) fn layouts(&self) -> &Path {
        &self.layouts
    }

    /// Number of samples, bad ones included.
    pub fn len(&self) -> u64 {
        self.ends.last().copied().unwrap_or(0)
    }

    /// Never: a dataset without samples cannot be opened.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Hash of everything that a delivered sequence depends on. See [`Index::fingerprint`]. Of a mix:
    /// of its sources' names and fingerprints; the shares are the run's.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// Id of the first sample of each shard.
    pub fn shard_starts(&self) -> &[u64] {
        &self.starts
    }

    /// What a sample is called: in a folder its path, with `/` between its parts; in a mix the name of
    /// its source, `/`, and what it is called there.
    pub fn key(&self, id: u64) -> Cow<'_, str> {
        let window = self.window_number(id);
        let (source, id) = self.locate(id);
        let key = source.index().key(id);
        match (source.name(), window) {
            ("", None) => key.into(),
            (name, None) => format!("{name}/{key}").into(),
            ("", Some(window)) => format!("{key}#{window}").into(),
            (name, Some(window)) => format!("{name}/{key}#{window}").into(),
        }
    }

    /// Bytes of [`Self::key`].
    pub(crate) fn key_bytes(&self, id: u64) -> u64 {
        let (source, id) = self.locate(id);
        let name = match source.name() {
            "" => 0,
            name => name.len() + 1,
        };
        // And what is said of its window, if it is one.
        (name + source.index().key(id).len() + "#".len() + u64::MAX.ilog10() as usize + 1) as u64
    }

    /// Where a sample's file is, if its source is a folder of images on this machine.
    pub fn path(&self, id: u64) -> Option<PathBuf> {
        let (source, id) = self.locate(id);
        source.path(id)
    }

    /// Bytes of its image, when it was indexed.
    pub fn file_bytes(&self, id: u64) -> u64 {
        let (source, id) = self.locate(id);
        source.index().image(id).bytes.into()
    }

    /// Bytes of its image and of all that travels with it.
    pub fn bytes(&self, id: u64) -> u64 {
        let (source, id) = self.locate(id);
        source.index().bytes(id)
    }

    /// Size of the image with its EXIF orientation applied, or of a video's frames as they are shown;
    /// `None` for a bad sample.
    pub fn size(&self, id: u64) -> Option<Size> {
        let (source, id) = self.locate(id);
        source.index().size(id)
    }

    /// The sizes of all samples, in order.
    pub fn sizes(&self) -> impl Iterator<Item = Option<Size>> + Clone {
        (0..self.len()).map(|id| self.size(id))
    }

    /// The samples that turned out bad while indexing, with reasons.
    pub fn bad(&self) -> &BTreeMap<u64, String> {
        self.bad.get_or_init(|| {
            let ends = self.cut.as_ref().map_or(&self.ends, |cut| &cut.ends);
            let starts = iter::once(0).chain(ends.iter().copied());
            let sources = self.opened.iter().zip(starts);
            let bad = sources.flat_map(|(source, start)| {
                let bad = source.index().bad();
                let first = |id| self.cut.as_ref().map_or(id, |cut| cut.first(id));
                bad.map(move |(id, reason)| (first(start + id), reason.to_owned()))
            });
            bad.collect()
        })
    }

    /// Reads a sample: its image and what travels with it.
    ///
    /// # Errors
    /// In words, if it cannot be read or is not what it was.
    pub async fn read(&self, id: u64) -> Result<Sample, String> {
        let _read = self.reads.acquire().await.map_err(|e| e.to_string())?;
        let (source, id) = self.locate(id);
        source.read(id).await
    }

    /// What frames of a sample are to be had from, and what travels with it. `frames` are those that are
    /// wanted of the video, by number.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub(crate) async fn media(
        &self,
        id: u64,
        wanted: (Option<&Clip>, &[u32]),
    ) -> Result<Read, String> {
        let _read = self.reads.acquire().await.map_err(|e| e.to_string())?;
        let (source, id) = self.locate(id);
        source.media(id, wanted).await
    }
}

impl Samples for Dataset {
    fn count(&self) -> u64 {
        self.len()
    }

    fn size(&self, id: u64) -> Option<Size> {
        Self::size(self, id)
    }

    fn frames(&self, id: u64) -> u32 {
        self.frames_of(id)
    }

    fn shard_starts(&self) -> &[u64] {
        Self::shard_starts(self)
    }

    fn source_ends(&self) -> &[u64] {
        &self.ends
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
