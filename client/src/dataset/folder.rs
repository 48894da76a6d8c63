//! A folder of images: the walk, and the headers in parallel.

use std::{
    path::Path,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
    thread,
};

use walkdir::WalkDir;

use super::{Probed, Progress, probe::probe};
use crate::error::Error;

/// Extensions of images, in lower case; the content decides what a file is.
const EXTENSIONS: [&str; 4] = ["jpg", "jpeg", "png", "webp"];
/// Threads that read headers: more than cores, because they mostly wait for the disk.
const MAX_PROBE_THREADS: usize = 32;
/// Headers that a thread takes at a time, and between calls of `progress`.
const PROBE_STRIDE: usize = 64;

/// Relative paths of all images below `root`, in the order of their bytes.
pub(super) fn walk(root: &Path) -> Result<Vec<String>, Error> {
    let name = root.display().to_string();
    let found =
        std::fs::metadata(root).map_err(|error| Error::dataset(&name, error.to_string()))?;
    if !found.is_dir() {
        return Err(Error::dataset(name, "is not a folder"));
    }
    let mut keys = Vec::new();
    for entry in WalkDir::new(root).follow_links(true) {
        let entry = entry.map_err(|error| {
            let path = error.path().unwrap_or(root).display().to_string();
            Error::dataset(path, error.to_string())
        })?;
        let path = entry.path();
        let extension = path.extension().and_then(|text| text.to_str());
        let image = extension.is_some_and(|text| {
            EXTENSIONS
                .iter()
                .any(|known| text.eq_ignore_ascii_case(known))
        });
        if !image || !entry.file_type().is_file() {
            continue;
        }
        let relative = path.strip_prefix(root).unwrap_or(path);
        let parts: Option<Vec<_>> = relative.iter().map(|part| part.to_str()).collect();
        let Some(parts) = parts else {
            let reason = "the name is not UTF-8: rename it";
            return Err(Error::dataset(path.display().to_string(), reason));
        };
        keys.push(parts.join("/"));
    }
    if keys.is_empty() {
        let reason = format!("has no images: looked for {EXTENSIONS:?} in it and below");
        return Err(Error::dataset(name, reason));
    }
    keys.sort_unstable();
    Ok(keys)
}

/// The header of each file, in the order of `keys`.
pub(super) fn probe_all(
    root: &Path,
    keys: &[String],
    progress: &(dyn Fn(Progress) + Sync),
) -> Vec<Probed> {
    let total = keys.len() as u64;
    let (next, done) = (AtomicUsize::new(0), AtomicU64::new(0));
    let work = || {
        let mut mine = Vec::new();
        loop {
            let start = next.fetch_add(PROBE_STRIDE, Ordering::Relaxed);
            let Some(rest) = keys.get(start..).filter(|rest| !rest.is_empty()) else {
                return mine;
            };
            let stride = &rest[..rest.len().min(PROBE_STRIDE)];
            let probed: Vec<_> = stride.iter().map(|key| probe(&root.join(key))).collect();
            mine.push((start, probed));
            let stride = stride.len() as u64;
            let done = done.fetch_add(stride, Ordering::Relaxed) + stride;
            progress(Progress { done, total });
        }
    };
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let threads = (2 * cores)
        .min(MAX_PROBE_THREADS)
        .min(keys.len().div_ceil(PROBE_STRIDE));
    let mut strides = thread::scope(|scope| {
        let handles: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let mut strides = Vec::new();
        for handle in handles {
            strides.extend(
                handle
                    .join()
                    .expect("`probe` turns panics into bad samples"),
            );
        }
        strides
    });
    strides.sort_unstable_by_key(|(start, _)| *start);
    strides.into_iter().flat_map(|(_, probed)| probed).collect()
}
