//! Making an index, shard by shard.

use std::{
    collections::HashMap,
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
};

use super::{
    Index, MAX_SAMPLES,
    check::same,
    columns::Columns,
    duplicates::{Seen, Suspects},
    file::Fault,
    journal::{Journal, Record, Volume},
    lock::Lock,
    write::Writer,
};
use crate::{
    dataset::sample::{Found, Shard},
    error::Error,
};

/// How far indexing has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Shards scanned, or known from before.
    pub done: u64,
    /// Shards found.
    pub total: u64,
    /// Samples in those that were scanned.
    pub samples: u64,
}

/// Makes one index. Holds its lock: other processes that want to make the same one wait until this is
/// finished or dropped.
///
/// Every shard that is added is kept in a journal beside the file, which the next builder takes up
/// where this one ends before its time. Memory is needed for one shard, and for the hashes of all
/// keys while the file is written (16 bytes a sample).
pub struct Builder {
    path: PathBuf,
    format: String,
    journal: Journal,
    /// What was there before, read through and found whole.
    old: Option<Index>,
    kept: HashMap<String, usize>,
    _lock: Lock,
}

/// Where a shard's samples come from.
enum Origin {
    Journal(Record),
    Kept(usize, Volume),
}

impl Builder {
    /// Begins or goes on to build an index at `path`, of what `format` finds: an index of something
    /// else is replaced. Waits for others who build it, up to [`MAX_LOCK_WAIT`](super::MAX_LOCK_WAIT).
    ///
    /// # Errors
    /// [`Error::Dataset`] where the folder cannot be written to, or the file is no index.
    pub async fn begin(path: &Path, format: &str) -> Result<Self, Error> {
        let lock = async {
            let folder = path.parent().unwrap_or(Path::new(""));
            if !folder.as_os_str().is_empty() {
                fs::create_dir_all(folder)?;
            }
            Lock::acquire(&beside(path, "lock")).await
        };
        let failed = |error| cannot_write(path, &error);
        let lock = lock.await.map_err(failed)?;
        let old = match Index::read(path) {
            Err(fault @ Fault::Foreign) => {
                return Err(Error::dataset(
                    path.display().to_string(),
                    fault.to_string(),
                ));
            }
            // Damage must not be handed down.
            Ok(index) if index.format() == format && index.verify().is_ok() => Some(index),
            _ => None,
        };
        let owner = blake3::hash(format.as_bytes());
        let journal = Journal::open(&beside(path, "journal"), owner.as_bytes()).map_err(failed)?;
        let shards = old.as_ref().map_or(&[][..], Index::shards).iter();
        Ok(Self {
            path: path.to_owned(),
            format: format.to_owned(),
            journal,
            kept: shards
                .zip(0..)
                .map(|(shard, at)| (shard.path.clone(), at))
                .collect(),
            old,
            _lock: lock,
        })
    }

    /// Whether a shard need not be scanned: it is as it was when it was scanned last.
    pub fn knows(&self, shard: &Shard) -> bool {
        self.journal.find(shard).is_some() || self.keeps(shard).is_some()
    }

    /// Adds a shard, in any order. Samples in the order in which they lie in it.
    ///
    /// # Errors
    /// [`Error::Dataset`] where it holds more than an index can, or the disk is full.
    pub fn add(&mut self, shard: &Shard, found: &[Found]) -> Result<(), Error> {
        let columns = pack(shard, found)?;
        self.append(shard, &columns)
    }

    pub(super) fn append(&mut self, shard: &Shard, columns: &Columns<'_>) -> Result<(), Error> {
        let added = self.journal.append(shard, columns);
        added.map_err(|error| cannot_write(&self.path, &error))
    }

    /// Writes the index of these shards, all of which it [knows](Self::knows), and puts it in its
    /// place in one step.
    ///
    /// # Errors
    /// [`Error::Dataset`] where a key occurs twice, there are more than [`MAX_SAMPLES`] samples, or
    /// the disk is full.
    pub fn finish(mut self, mut shards: Vec<Shard>) -> Result<Index, Error> {
        shards.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        let mut pieces = Vec::with_capacity(shards.len());
        for shard in shards {
            let origin = match (self.journal.find(&shard), self.keeps(&shard)) {
                (Some(record), _) => Origin::Journal(record.clone()),
                (None, Some((index, at))) => Origin::Kept(at, Volume::of(&index.columns(at))),
                (None, None) => {
                    return Err(Error::Internal(format!("`{}` was not scanned", shard.path)));
                }
            };
            pieces.push((shard, origin));
        }
        let samples: u64 = pieces
            .iter()
            .map(|(_, origin)| origin.volume().samples)
            .sum();
        if samples > MAX_SAMPLES {
            let reason = format!("its index would have {samples} samples, over {MAX_SAMPLES}");
            return Err(Error::dataset(self.path.display().to_string(), reason));
        }
        let new = beside(&self.path, "new");
        let seen = self.write(&new, &pieces)?;
        if seen.suspicious()
            && let Some(twice) = self.twice(&seen, &pieces)?
        {
            // What cannot be removed is overwritten the next time.
            let _ = fs::remove_file(&new);
            return Err(twice);
        }
        self.publish(&new)
            .map_err(|error| cannot_write(&self.path, &error))?;
        Index::open(&self.path)
    }

    fn keeps(&self, shard: &Shard) -> Option<(&Index, usize)> {
        let at = *self.kept.get(&shard.path)?;
        let old = self.old.as_ref()?;
        same(&old.shards()[at], shard).then_some((old, at))
    }

    fn columns(&mut self, origin: &Origin) -> io::Result<Columns<'_>> {
        match origin {
            Origin::Journal(record) => self.journal.read(record),
            Origin::Kept(at, _) => {
                let old = self.old.as_ref().ok_or(io::ErrorKind::NotFound)?;
                Ok(old.columns(*at))
            }
        }
    }

    fn write(&mut self, new: &Path, pieces: &[(Shard, Origin)]) -> Result<Seen, Error> {
        let mut seen = Seen::default();
        let mut write = || {
            let volumes = pieces.iter().map(|(_, origin)| origin.volume());
            let mut writer = Writer::begin(new, &self.format.clone(), volumes)?;
            for (shard, origin) in pieces {
                let columns = self.columns(origin)?;
                seen.add(&columns);
                writer.add(shard, &columns)?;
            }
            writer.finish(new)
        };
        write().map_err(|error: io::Error| cannot_write(new, &error))?;
        Ok(seen)
    }

    /// The error about a key that occurs twice, if one does.
    fn twice(&mut self, seen: &Seen, pieces: &[(Shard, Origin)]) -> Result<Option<Error>, Error> {
        let mut suspects = Suspects::default();
        for (at, (shard, origin)) in pieces.iter().enumerate() {
            let path = self.path.clone();
            let columns = self
                .columns(origin)
                .map_err(|error| cannot_write(&path, &error))?;
            if let Some((key, before)) = seen.look(&mut suspects, at, &columns) {
                let reason = match &pieces[before].0.path {
                    other if *other == shard.path => format!("has two samples called `{key}`"),
                    other => format!("has a sample called `{key}`, and so has `{other}`"),
                };
                let reason = format!("{reason}: rename or remove one of them");
                return Ok(Some(Error::dataset(&shard.path, reason)));
            }
        }
        Ok(None)
    }

    fn publish(&self, new: &Path) -> io::Result<()> {
        fs::rename(new, &self.path)?;
        if let Some(folder) = self.path.parent().filter(|folder| folder.is_dir()) {
            // So that the new name outlives a machine that fails. Not every system opens folders.
            let _ = fs::File::open(folder).and_then(|folder| folder.sync_all());
        }
        // What is left of it would only be read once more.
        let _ = fs::remove_file(beside(&self.path, "journal"));
        Ok(())
    }
}

impl Origin {
    fn volume(&self) -> &Volume {
        match self {
            Self::Journal(record) => &record.volume,
            Self::Kept(_, volume) => volume,
        }
    }
}

/// A shard's columns, or the error that names it.
pub(super) fn pack(shard: &Shard, found: &[Found]) -> Result<Columns<'static>, Error> {
    Columns::pack(found).map_err(|reason| Error::dataset(&shard.path, reason))
}

/// A file beside the index.
fn beside(path: &Path, extension: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".");
    name.push(extension);
    name.into()
}

fn cannot_write(path: &Path, error: &io::Error) -> Error {
    let reason = match error.kind() {
        io::ErrorKind::StorageFull => format!(
            "{error}: make room, or name an index on another disk; what has been scanned is kept"
        ),
        _ => format!("cannot be written: {error}; name another place for the index"),
    };
    Error::dataset(path.display().to_string(), reason)
}
