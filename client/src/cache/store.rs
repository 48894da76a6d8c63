//! The folder: where entries are, read and written whole.
//!
//! ```text
//! CACHEDIR.TAG               tells backup tools to leave the folder out
//! tmp/                       entries being written
//! v1-<recipe>/<3>/<61>       entries, by the digits of their names: 10 million are 2,400 a folder
//! ```
//!
//! Nothing is forced to disk: what a crash of the machine leaves half written fails its checksum.

use std::{
    fs::{self, File},
    hash::{BuildHasher, RandomState},
    io::{self, ErrorKind, Read, Write},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

use bytes::Bytes;

use super::{
    config::CacheConfig,
    entry::{self, Damage, HEADER_BYTES},
    key::Key,
};
use crate::error::Error;

/// Digits of a name that are its folder's.
pub(super) const FOLDER_DIGITS: usize = 3;
/// An entry's time of use is rewritten when it is older than this: not at every hit, and often enough
/// to tell epochs apart.
const TOUCH_AFTER: Duration = Duration::from_secs(600);
/// Temporary files older than this belong to nobody: to write one takes milliseconds.
const STALE_TEMP: Duration = Duration::from_secs(3600);
/// Attempts to put an entry in place while another process tidies empty folders away.
const RENAMES: u32 = 3;
/// What <https://bford.info/cachedir/> asks for.
const TAG: &str = "Signature: 8a477f597d28d172789f06886806bc55\n\
                   # Latents cached by Preheat. May be deleted at any time.\n";

/// What is there under a name.
#[derive(Debug)]
pub(crate) enum Found {
    /// The whole file: the tensor begins after its header.
    Whole(Bytes),
    Nothing,
    /// Something else; it is removed where this run writes.
    Damaged(Damage),
}

/// Writes files: the one thing that tests of full disks replace.
pub(crate) trait Disk: Send + Sync {
    /// Writes a new file.
    fn save(&self, path: &Path, parts: [&[u8]; 2]) -> io::Result<()>;
}

/// The real one.
struct Files;

impl Disk for Files {
    fn save(&self, path: &Path, parts: [&[u8]; 2]) -> io::Result<()> {
        let mut file = File::create_new(path)?;
        parts.into_iter().try_for_each(|part| file.write_all(part))
    }
}

/// The entries of one recipe, in a folder that others share. Clones are the same.
#[derive(Clone)]
pub(crate) struct Store {
    pub(super) root: PathBuf,
    /// The folder of the recipe.
    pub(super) own: PathBuf,
    writes: bool,
    disk: Arc<dyn Disk>,
    /// Tells temporary files of processes apart, on whatever machines.
    process: u64,
    temps: Arc<AtomicU64>,
}

impl Store {
    /// # Errors
    /// [`Error::Config`] if the folder is not there, or cannot be made.
    pub(crate) fn open(config: &CacheConfig, recipe: &str) -> Result<Self, Error> {
        Self::open_on(config, recipe, Arc::new(Files))
    }

    pub(super) fn open_on(
        config: &CacheConfig,
        recipe: &str,
        disk: Arc<dyn Disk>,
    ) -> Result<Self, Error> {
        let (root, writes) = (config.folder.clone(), config.mode.writes());
        let unusable = |why: String| {
            let root = root.display();
            Error::config("cache.folder", format!("is `{root}`, {why}"))
        };
        if writes {
            fs::create_dir_all(&root).map_err(|error| {
                unusable(format!(
                    "which cannot be made a folder ({error}): name one on a local disk"
                ))
            })?;
            // At their best effort: without room for them, reading may still be of use.
            let _ = fs::create_dir(root.join("tmp"));
            let _ = Files.save(&root.join("CACHEDIR.TAG"), [TAG.as_bytes(), b""]);
        } else if !root.is_dir() {
            return Err(unusable(
                "which is no folder, and mode is Read: fill it first with mode Both".into(),
            ));
        }
        Ok(Self {
            own: root.join(recipe),
            root,
            writes,
            disk,
            process: RandomState::new().hash_one(std::process::id()),
            temps: Arc::default(),
        })
    }

    /// Where an entry is, if it is.
    pub(crate) fn path(&self, key: &Key) -> PathBuf {
        let name = key.to_hex();
        let (folder, file) = name.split_at(FOLDER_DIGITS);
        self.own.join(folder).join(file)
    }

    /// Reads an entry with a tensor of so many bytes.
    pub(crate) fn read(&self, key: &Key, bytes: usize) -> Found {
        let path = self.path(key);
        let loaded = self.load(&path, HEADER_BYTES + bytes);
        match loaded.and_then(|file| entry::check(key, &file, bytes).map(|()| file)) {
            Ok(file) => Found::Whole(file.into()),
            Err(Damage::Unreadable(ErrorKind::NotFound | ErrorKind::NotADirectory)) => {
                Found::Nothing
            }
            Err(damage) => {
                if self.writes {
                    let _ = fs::remove_file(path);
                }
                Found::Damaged(damage)
            }
        }
    }

    /// A file of this length. One of another, which may be any, is not read.
    fn load(&self, path: &Path, expected: usize) -> Result<Vec<u8>, Damage> {
        let unreadable = |error: io::Error| Damage::Unreadable(error.kind());
        let mut file = File::open(path).map_err(unreadable)?;
        let about = file.metadata().map_err(unreadable)?;
        let (seen, length) = (about.len(), expected as u64);
        if seen != length {
            return Err(Damage::Length {
                seen,
                expected: length,
            });
        }
        let mut bytes = vec![0; expected];
        file.read_exact(&mut bytes).map_err(unreadable)?;
        if self.writes {
            touch(&file, about.modified().ok());
        }
        Ok(bytes)
    }

    /// Whether there is an entry that looks whole; it then counts as used.
    pub(crate) fn has(&self, key: &Key, bytes: usize) -> bool {
        let Ok(file) = File::open(self.path(key)) else {
            return false;
        };
        match file.metadata() {
            Ok(about) if about.len() == (HEADER_BYTES + bytes) as u64 => {
                touch(&file, about.modified().ok());
                true
            }
            _ => false,
        }
    }

    /// Puts an entry in its place, whole or not at all. Returns the bytes of its file.
    ///
    /// # Errors
    /// Of the disk. Nothing is left behind.
    pub(crate) fn write(&self, key: &Key, tensor: &[u8]) -> io::Result<u64> {
        let temps = self.root.join("tmp");
        let number = self.temps.fetch_add(1, Relaxed);
        let temp = temps.join(format!("{:016x}-{number}", self.process));
        let header = entry::header(key, tensor);
        let save = || self.disk.save(&temp, [&header, tensor]);
        let saved = match save() {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                fs::create_dir_all(&temps).and_then(|()| save())
            }
            saved => saved,
        };
        let placed = saved.and_then(|()| place(&temp, &self.path(key)));
        if placed.is_err() {
            let _ = fs::remove_file(&temp);
        }
        placed.map(|()| (HEADER_BYTES + tensor.len()) as u64)
    }

    /// Removes what processes that ended have left half written.
    pub(crate) fn tidy(&self) {
        let now = SystemTime::now();
        let Ok(temps) = fs::read_dir(self.root.join("tmp")) else {
            return;
        };
        for temp in temps.flatten() {
            let used = temp.metadata().and_then(|about| about.modified());
            let age = used.map(|used| now.duration_since(used).unwrap_or_default());
            if age.is_ok_and(|age| age > STALE_TEMP) {
                let _ = fs::remove_file(temp.path());
            }
        }
    }
}

fn place(temp: &Path, path: &Path) -> io::Result<()> {
    let mut tries = 0;
    loop {
        match fs::rename(temp, path) {
            Err(error) if error.kind() == ErrorKind::NotFound && tries < RENAMES => {
                tries += 1;
                fs::create_dir_all(path.parent().unwrap_or(path))?;
            }
            placed => return placed,
        }
    }
}

/// Remembers that an entry was used. Where that is not allowed, it is removed a little early.
fn touch(file: &File, used: Option<SystemTime>) {
    let now = SystemTime::now();
    let age = used.and_then(|used| now.duration_since(used).ok());
    if age.is_some_and(|age| age > TOUCH_AFTER) {
        let _ = file.set_modified(now);
    }
}

#[cfg(test)]
mod tests;
