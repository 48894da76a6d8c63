//! WebDataset shards: files of a tar that share a key are a sample.

use std::{
    collections::BTreeMap,
    io::{Read, Seek},
};

use rustc_hash::FxHashSet;
use tar::{Archive, Entry, EntryType};
use tokio::{runtime::Handle, task::spawn_blocking};

use super::{EXTENSIONS, Found, Located, Part, Sample, Shard, Span, Store, VIDEOS};
use crate::dataset::{probe, store::Window};

/// What is fetched at once: images below this size are read in passing, larger ones are skipped
/// after their headers.
const STEP_BYTES: u64 = 1024 * 1024;
/// A tar counts in these, and ends with two that are zero.
const BLOCK: u64 = 512;

/// What the scan has of the sample it is in: files by their extension.
#[derive(Default)]
struct Draft {
    key: String,
    files: BTreeMap<String, (u64, u64)>,
}

/// Videos are found, and not looked into.
pub(super) async fn scan(store: &Store, shard: &Shard, videos: bool) -> Result<Vec<Found>, String> {
    let (store, shard, handle) = (store.clone(), shard.clone(), Handle::current());
    let scanned = spawn_blocking(move || {
        let window = Window::new(&store, &shard, STEP_BYTES, &handle)?;
        let name = store.name(&shard.path);
        let mut scan = Scan {
            window,
            name,
            draft: Draft::default(),
            seen: FxHashSet::default(),
            found: Vec::new(),
            images: 0,
            videos,
        };
        let ended = scan.run();
        if let Some(failure) = scan.window.failure() {
            return Err(failure);
        }
        scan.end(&shard.path, ended?)
    });
    scanned.await.map_err(|error| error.to_string())?
}

struct Scan {
    window: Window,
    name: String,
    draft: Draft,
    seen: FxHashSet<String>,
    found: Vec<Found>,
    /// Samples with an image or a video, good or bad.
    images: usize,
    /// Whether videos are wanted.
    videos: bool,
}

impl Scan {
    /// Collects all samples but the last. If the tar breaks off: where, and how.
    fn run(&mut self) -> Result<Option<(u64, String)>, String> {
        let mut archive = Archive::new(self.window.clone());
        let entries = archive.entries_with_seek();
        let entries = entries.map_err(|error| format!("{}: {error}", self.name))?;
        let mut next = 0;
        for entry in entries {
            let mut entry = match entry {
                Ok(entry) => entry,
                Err(error) => return Ok(Some((next, error.to_string()))),
            };
            let (at, bytes) = (entry.raw_file_position(), entry.size());
            let end = at.saturating_add(bytes);
            let member = self.member(&mut entry)?;
            if let Some((key, _)) = &member
                && *key != self.draft.key
            {
                self.finish()?;
                self.draft.key.clone_from(key);
            }
            if end > self.window.len() {
                let shown = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
                let reason = format!("`{shown}` would end at byte {end}");
                return Ok(Some((at, reason)));
            }
            next = end.next_multiple_of(BLOCK);
            let Some((_, extension)) = member else {
                continue;
            };
            let again = self.draft.files.insert(extension.clone(), (at, bytes));
            if let Some((before, _)) = again {
                let key = &self.draft.key;
                return Err(format!(
                    "{}: `{key}.{extension}` is there twice, at bytes {before} and {at}: remove \
                     one, or write the shard again",
                    self.name
                ));
            }
        }
        // Without the zeros at its end, nothing tells a whole tar from one cut between files.
        let ended = next + BLOCK <= self.window.len();
        Ok((!ended).then(|| (next, "the end mark is missing".to_owned())))
    }

    /// Key and extension of a file; none of what is no part of a sample.
    fn member<R: Read + Seek>(
        &self,
        entry: &mut Entry<'_, R>,
    ) -> Result<Option<(String, String)>, String> {
        let path = entry.path_bytes();
        let Ok(path) = std::str::from_utf8(&path).map(str::to_owned) else {
            return Err(format!(
                "{}: the name `{}` is not UTF-8: rename the file and write the shard again",
                self.name,
                String::from_utf8_lossy(&path)
            ));
        };
        let kind = entry.header().entry_type();
        let name_at = path.rfind('/').map_or(0, |slash| slash + 1);
        let dot = path[name_at..].find('.').map(|dot| name_at + dot);
        let Some(dot) = dot.filter(|&dot| dot > name_at) else {
            // Directories, hidden files, a LICENSE.
            return Ok(None);
        };
        if path[name_at..].starts_with("__") || kind == EntryType::Directory {
            return Ok(None);
        }
        if kind.is_gnu_sparse() || sparse_by_pax(entry) {
            return Err(self.cannot(&path, "a sparse file: write the shard without --sparse"));
        }
        if !matches!(kind, EntryType::Regular | EntryType::Continuous) {
            return Err(self.cannot(&path, "a link or a device: store the file itself"));
        }
        let extension = path[dot + 1..].to_lowercase();
        Ok(Some((path[..dot].to_owned(), extension)))
    }

    fn cannot(&self, path: &str, what: &str) -> String {
        format!("{}: `{path}` is {what}", self.name)
    }

    fn finish(&mut self) -> Result<(), String> {
        let Draft { key, mut files } = std::mem::take(&mut self.draft);
        if files.is_empty() {
            return Ok(());
        }
        if !self.seen.insert(key.clone()) {
            return Err(format!(
                "{}: the key `{key}` is there twice: files of a sample must lie side by side, and \
                 keys differ; write the shard again",
                self.name
            ));
        }
        let mut take = |known: &[&str]| known.iter().find_map(|known| files.remove(*known));
        let video = if self.videos { take(&VIDEOS) } else { None };
        let Some((at, bytes)) = video.or_else(|| take(&EXTENSIONS)) else {
            let there: Vec<_> = files.keys().map(String::as_str).collect();
            let what = if self.videos {
                "video or image"
            } else {
                "image"
            };
            let reason = format!("has no {what}, only {}", there.join(", "));
            self.found.push(super::bad(key, reason));
            return Ok(());
        };
        self.images += 1;
        let size = match video {
            Some(_) => Err(super::UNPROBED.to_owned()),
            None => probe::size(self.window.part(at, bytes), bytes),
        };
        let parts = files.into_iter().map(|(name, (at, bytes))| {
            let bytes = super::part_bytes(&name, bytes)?;
            let span = Span { at, bytes };
            Ok(Part { name, span })
        });
        let parts: Result<Vec<_>, String> = parts.collect();
        let bytes = match video {
            Some(_) => super::video_bytes(bytes, false),
            None => super::image_bytes(bytes),
        };
        let whole = bytes.and_then(|bytes| Ok((bytes, super::sized(size)?, parts?)));
        self.found.push(match whole {
            Ok((bytes, size, parts)) => Found {
                key,
                image: Span { at, bytes },
                size,
                parts,
                clip: Vec::new(),
            },
            Err(reason) => super::bad(key, reason),
        });
        Ok(())
    }

    /// The last sample, which may be lost with the shard's end.
    fn end(mut self, path: &str, broken: Option<(u64, String)>) -> Result<Vec<Found>, String> {
        let Some((at, how)) = broken else {
            self.finish()?;
            if self.images == 0 {
                let samples = self.found.len();
                let (what, extensions) = match self.videos {
                    true => ("videos or images", [&VIDEOS[..], &EXTENSIONS].concat()),
                    false => ("images", EXTENSIONS.to_vec()),
                };
                return Err(format!(
                    "{} has no {what}: none of its {samples} samples has a file that ends in \
                     {extensions:?}",
                    self.name
                ));
            }
            return Ok(self.found);
        };
        if at == 0 {
            let bytes = self.window.len();
            return Err(format!("{} ({bytes} bytes) is no tar: {how}", self.name));
        }
        let lost = std::mem::take(&mut self.draft.key);
        let key = if lost.is_empty() {
            format!("{path}@{at}")
        } else {
            lost
        };
        let reason = format!(
            "{} is truncated or damaged at byte {at} of {}: {how}; the {} samples before it are \
             whole, write the shard again for the rest",
            self.name,
            self.window.len(),
            self.found.len()
        );
        self.found.push(super::bad(key, reason));
        Ok(self.found)
    }
}

/// Sparse files as pax writes them are regular files with a map in front.
fn sparse_by_pax<R: Read + Seek>(entry: &mut Entry<'_, R>) -> bool {
    let Ok(Some(extensions)) = entry.pax_extensions() else {
        return false;
    };
    extensions.flatten().any(|extension| {
        let key = extension.key_bytes();
        key.starts_with(b"GNU.sparse.")
    })
}

pub(super) async fn read(
    store: &Store,
    shard: &Shard,
    found: &Located<'_>,
) -> Result<Sample, String> {
    let spans = found.parts.iter().map(|(_, span)| span);
    let spans = std::iter::once(&found.image).chain(spans);
    let ranges: Vec<_> = spans
        .map(|span| span.at..span.at + u64::from(span.bytes))
        .collect();
    let mut read = store.ranges(shard, &ranges).await?.into_iter();
    let image = read.next().unwrap_or_default();
    let parts = found.parts.iter().zip(read).map(|((name, _), bytes)| {
        let bytes = if super::is_text(name) {
            super::text(name, bytes)?
        } else {
            bytes
        };
        Ok((name.clone(), bytes))
    });
    let parts = parts.collect::<Result<_, String>>()?;
    Ok(Sample { image, parts })
}
