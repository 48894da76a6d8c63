//! What there is in the folder, and what of it may go. Times of use are those of the files.

use std::{
    collections::BinaryHeap,
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use super::store::{FOLDER_DIGITS, Store};

/// A file takes whole blocks of this.
const BLOCK_BYTES: u64 = 4096;
/// Entries that one scan remembers for removal: some 10 MB. If they are too few, the next goes on.
const MAX_REMEMBERED: usize = 1 << 16;
/// Entries of other recipes that were used within this time belong to a run that goes on.
const KEEP_OTHERS: Duration = Duration::from_secs(3600);

/// An entry that may go. Ordered by what should go first.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Old {
    /// Those of other recipes come first: this run has no use for them.
    own: bool,
    used: SystemTime,
    path: PathBuf,
    bytes: u64,
}

/// What a scan found.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    /// Bytes of all entries, in blocks.
    pub(crate) bytes: u64,
    /// What may go, what should go first in front.
    pub(crate) old: Vec<Old>,
}

/// Bytes on disk of a file of so many bytes.
pub(crate) fn on_disk(bytes: u64) -> u64 {
    bytes.next_multiple_of(BLOCK_BYTES)
}

/// Goes through all entries, of whatever recipe. What is not named like one is left alone, so that a
/// folder with other things in it loses nothing.
pub(crate) fn scan(store: &Store, keep: Duration, now: SystemTime) -> Scan {
    let mut bytes = 0;
    // The one that should go last on top, so that it makes way.
    let mut old = BinaryHeap::new();
    for recipe in folders(&store.root, is_recipe) {
        let own = recipe == store.own;
        let keep = if own { keep } else { keep.min(KEEP_OTHERS) };
        let named = |name: &str| is_hex(name, FOLDER_DIGITS);
        for folder in folders(&recipe, named) {
            for_each_entry(&folder, |path, size, used| {
                bytes += on_disk(size);
                if now.duration_since(used).unwrap_or_default() >= keep {
                    let bytes = on_disk(size);
                    old.push(Old {
                        own,
                        used,
                        path,
                        bytes,
                    });
                    if old.len() > MAX_REMEMBERED {
                        old.pop();
                    }
                }
            });
        }
    }
    Scan {
        bytes,
        old: old.into_sorted_vec(),
    }
}

/// Removes entries, first ones first, until at least `excess` bytes are free or none is left. Returns
/// how many went, and their bytes.
pub(crate) fn remove(old: &[Old], excess: u64) -> (u64, u64) {
    let (mut entries, mut bytes) = (0, 0);
    for one in old {
        if bytes >= excess {
            break;
        }
        match fs::remove_file(&one.path) {
            Ok(()) => {
                entries += 1;
                bytes += one.bytes;
                // Succeeds for empty ones only: what an abandoned recipe leaves.
                let folder = one.path.parent();
                if folder.is_some_and(|folder| fs::remove_dir(folder).is_ok())
                    && let Some(recipe) = folder.and_then(Path::parent)
                {
                    let _ = fs::remove_dir(recipe);
                }
            }
            // Another process was faster.
            Err(error) if error.kind() == io::ErrorKind::NotFound => bytes += one.bytes,
            Err(_) => {}
        }
    }
    (entries, bytes)
}

fn folders(root: &Path, named: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let entries = fs::read_dir(root).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_name().to_str().is_some_and(&named))
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

fn for_each_entry(folder: &Path, mut found: impl FnMut(PathBuf, u64, SystemTime)) {
    let digits = 64 - FOLDER_DIGITS;
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let named = entry
            .file_name()
            .to_str()
            .is_some_and(|name| is_hex(name, digits));
        // What vanishes meanwhile is not counted.
        if named
            && let Ok(about) = entry.metadata()
            && about.is_file()
            && let Ok(used) = about.modified()
        {
            found(entry.path(), about.len(), used);
        }
    }
}

/// Of this or of another version.
fn is_recipe(name: &str) -> bool {
    let parts = name.strip_prefix('v').and_then(|name| name.split_once('-'));
    parts.is_some_and(|(version, recipe)| {
        !version.is_empty()
            && version.bytes().all(|byte| byte.is_ascii_digit())
            && is_hex(recipe, 16)
    })
}

fn is_hex(name: &str, digits: usize) -> bool {
    let hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    name.len() == digits && name.bytes().all(hex)
}

#[cfg(test)]
mod tests;
