//! An object as a file that blocking parsers can read and seek, through a window that moves.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use tokio::runtime::Handle;

use super::{Store, names};
use crate::dataset::sample::Shard;

/// A view of an object or a part of it. Clones share the bytes held and have places of their own.
///
/// Only for threads that may block: `tokio::task::spawn_blocking`.
#[derive(Clone)]
pub(in crate::dataset) struct Window {
    shared: Arc<Mutex<Shared>>,
    base: u64,
    bytes: u64,
    at: u64,
}

struct Shared {
    source: Source,
    object: Shard,
    /// Bytes fetched at least.
    step: u64,
    held_at: u64,
    held: Bytes,
    failure: Option<String>,
}

enum Source {
    File(File),
    Remote(Store, Handle),
}

impl Window {
    /// The whole of an object that must not have changed; `step` is how much is fetched at once.
    ///
    /// # Errors
    /// In words, if a local file is gone or not what it was.
    pub(in crate::dataset) fn new(
        store: &Store,
        object: &Shard,
        step: u64,
        handle: &Handle,
    ) -> Result<Self, String> {
        let source = match store.local_path(&object.path) {
            None => Source::Remote(store.clone(), handle.clone()),
            Some(path) => {
                let opened = File::open(&path).and_then(|file| Ok((file.metadata()?, file)));
                let (meta, file) =
                    opened.map_err(|error| format!("cannot open `{}`: {error}", path.display()))?;
                let now = Shard {
                    bytes: meta.len(),
                    modified_ms: names::modified_ms(&meta),
                    ..object.clone()
                };
                if let Some(reason) = store.differs(object, &now) {
                    return Err(reason);
                }
                Source::File(file)
            }
        };
        let shared = Shared {
            source,
            object: object.clone(),
            step,
            held_at: 0,
            held: Bytes::new(),
            failure: None,
        };
        Ok(Self {
            shared: Arc::new(Mutex::new(shared)),
            base: 0,
            bytes: object.bytes,
            at: 0,
        })
    }

    /// A part of it as a file of its own.
    pub(in crate::dataset) fn part(&self, at: u64, bytes: u64) -> Self {
        Self {
            base: self.base + at,
            bytes: bytes.min(self.bytes.saturating_sub(at)),
            at: 0,
            ..self.clone()
        }
    }

    /// Its length.
    pub(in crate::dataset) fn len(&self) -> u64 {
        self.bytes
    }

    /// Some bytes, without a copy where the window holds them.
    ///
    /// # Errors
    /// If they cannot be read, or there are too few.
    pub(in crate::dataset) fn bytes_at(&self, at: u64, bytes: u64) -> io::Result<Bytes> {
        let end = at.checked_add(bytes).filter(|&end| end <= self.bytes);
        if end.is_none() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if bytes == 0 {
            return Ok(Bytes::new());
        }
        let mut shared = self.lock();
        shared.hold(self.base + at, bytes)?;
        let start = (self.base + at - shared.held_at) as usize;
        Ok(shared.held.slice(start..start + bytes as usize))
    }

    /// Why the store could not be read, if it ever could not: parsers may have passed on an error
    /// as their own.
    pub(in crate::dataset) fn failure(&self) -> Option<String> {
        self.lock().failure.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        // A panic elsewhere leaves bytes that are still right.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    /// Fetches so that `bytes` from `at` on are held.
    fn hold(&mut self, at: u64, bytes: u64) -> io::Result<()> {
        let end = self.held_at + self.held.len() as u64;
        if at >= self.held_at && at + bytes <= end {
            return Ok(());
        }
        let want = bytes.max(self.step).min(self.object.bytes - at);
        let fetched = self.fetch(at, want);
        self.held = fetched.inspect_err(|error| self.failure = Some(error.to_string()))?;
        self.held_at = at;
        Ok(())
    }

    fn fetch(&mut self, at: u64, bytes: u64) -> io::Result<Bytes> {
        match &mut self.source {
            Source::File(file) => {
                let mut held = vec![0; bytes as usize];
                file.seek(SeekFrom::Start(at))?;
                file.read_exact(&mut held)?;
                Ok(held.into())
            }
            Source::Remote(store, handle) => handle
                .block_on(store.range(&self.object, at..at + bytes))
                .map_err(io::Error::other),
        }
    }
}

impl Read for Window {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let left = self.bytes.saturating_sub(self.at);
        if left == 0 || into.is_empty() {
            return Ok(0);
        }
        let mut shared = self.lock();
        shared.hold(self.base + self.at, 1)?;
        let start = (self.base + self.at - shared.held_at) as usize;
        let held = &shared.held[start..];
        let len = into.len().min(held.len()).min(left as usize);
        into[..len].copy_from_slice(&held[..len]);
        drop(shared);
        self.at += len as u64;
        Ok(len)
    }
}

impl Seek for Window {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.bytes.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}
