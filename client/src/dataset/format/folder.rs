//! A folder of images, or of videos and images, here or in a bucket, with texts beside them.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, future::try_join_all, stream};
use tokio::{runtime::Handle, task::spawn_blocking};

use super::{EXTENSIONS, Found, Located, Part, Sample, Shard, Span, Store, TEXTS, VIDEOS};
use crate::{
    dataset::{probe, store::Window},
    error::Error,
};

/// Headers read at once, per directory: mostly waiting for the store.
const PROBES: usize = 32;
/// Files that one task reads the headers of, where that takes microseconds.
const LOCAL_STRIDE: usize = 64;
/// What is fetched of a remote file at first; the size is nearly always in it.
pub(super) const HEAD_BYTES: u64 = 64 * 1024;

/// A directory's images, each with the texts beside it.
type Directory = Vec<(Shard, Vec<(&'static str, Shard)>)>;

/// The directories that hold images, or videos where they are wanted.
pub(super) async fn shards(store: &Store, videos: bool) -> Result<Vec<Shard>, Error> {
    let listed = store.list().await?;
    let count = listed.len();
    let mut directories: BTreeMap<String, Vec<Shard>> = BTreeMap::new();
    for object in listed {
        let directory = object.path.rsplit_once('/').map_or("", |(path, _)| path);
        let of = directories.entry(directory.to_owned()).or_default();
        of.push(object);
    }
    let found = directories.into_iter().filter_map(|(path, objects)| {
        let directory = pair(objects, videos);
        (!directory.is_empty()).then(|| summary(path, &directory))
    });
    let found: Vec<_> = found.collect();
    if found.is_empty() {
        let (what, extensions) = match videos {
            true => ("videos or images", [&VIDEOS[..], &EXTENSIONS].concat()),
            false => ("images", EXTENSIONS.to_vec()),
        };
        let reason = format!(
            "has no {what}: looked for {extensions:?} in it and below, among {count} files"
        );
        return Err(Error::dataset(store.uri(), reason));
    }
    Ok(found)
}

/// Images, videos and texts of the same stem; `objects` are sorted.
fn pair(objects: Vec<Shard>, videos: bool) -> Directory {
    let mut texts: BTreeMap<String, Vec<(&'static str, Shard)>> = BTreeMap::new();
    let mut images = Vec::new();
    for object in objects {
        let Some((stem, extension)) = object.path.rsplit_once('.') else {
            continue;
        };
        if super::has_extension(&object.path, &EXTENSIONS)
            || videos && super::has_extension(&object.path, &VIDEOS)
        {
            images.push(object);
        } else if let Some(name) = TEXTS.into_iter().find(|name| *name == extension) {
            let of = texts.entry(stem.to_owned()).or_default();
            of.push((name, object));
        }
    }
    let with_texts = images.into_iter().map(|image| {
        let stem = image.path.rsplit_once('.').map_or("", |(stem, _)| stem);
        let mut texts = texts.get(stem).cloned().unwrap_or_default();
        texts.sort_unstable_by_key(|(name, _)| *name);
        (image, texts)
    });
    with_texts.collect()
}

fn summary(path: String, directory: &Directory) -> Shard {
    let files = directory.iter().flat_map(|(image, texts)| {
        let texts = texts.iter().map(|(_, text)| text);
        std::iter::once(image).chain(texts)
    });
    hashed(path, files)
}

/// A directory as a shard, whose tag is a hash of its files.
pub(super) fn hashed<'a>(path: String, files: impl Iterator<Item = &'a Shard>) -> Shard {
    let (mut bytes, mut modified_ms) = (0, 0);
    let mut hasher = blake3::Hasher::new();
    for file in files {
        bytes += file.bytes;
        modified_ms = modified_ms.max(file.modified_ms);
        // Lengths first, so that no two lists of files are the same bytes.
        for text in [&file.path, file.etag.as_ref().unwrap_or(&String::new())] {
            hasher.update(&(text.len() as u64).to_le_bytes());
            hasher.update(text.as_bytes());
        }
        hasher.update(&file.bytes.to_le_bytes());
        hasher.update(&file.modified_ms.to_le_bytes());
    }
    Shard {
        path,
        bytes,
        etag: Some(hasher.finalize().to_hex().to_string()),
        modified_ms,
    }
}

/// Videos are found, and not looked into.
pub(super) async fn scan(store: &Store, shard: &Shard, videos: bool) -> Result<Vec<Found>, String> {
    let directory = pair(store.list_in(&shard.path).await?, videos);
    let now = summary(shard.path.clone(), &directory);
    if now.etag != shard.etag {
        return Err(format!(
            "{} changed while it was indexed: let nothing write to it, and try again",
            store.name(&shard.path)
        ));
    }
    let stride = if store.local_path("").is_some() {
        LOCAL_STRIDE
    } else {
        1
    };
    let handle = Handle::current();
    let strides: Vec<Directory> = directory.chunks(stride).map(<[_]>::to_vec).collect();
    // By number: a closure over items with lifetimes makes futures that cannot change threads.
    let strides = stream::iter(0..strides.len()).map(|at| {
        let (store, handle, stride) = (store.clone(), handle.clone(), strides[at].clone());
        spawn_blocking(move || {
            let found = stride.into_iter().map(|file| probe(&store, &handle, file));
            found.collect::<Result<Vec<_>, _>>()
        })
    });
    let mut found = Vec::with_capacity(directory.len());
    let mut strides = strides.buffered(PROBES);
    while let Some(stride) = strides.try_next().await.map_err(|e| e.to_string())? {
        found.extend(stride?);
    }
    Ok(found)
}

fn probe(
    store: &Store,
    handle: &Handle,
    (image, texts): (Shard, Vec<(&'static str, Shard)>),
) -> Result<Found, String> {
    let video = super::has_extension(&image.path, &VIDEOS);
    let size = if video {
        Err(super::UNPROBED.to_owned())
    } else if let Some(path) = store.local_path(&image.path) {
        probe::probe(&path).1
    } else {
        let window = Window::new(store, &image, HEAD_BYTES, handle)?;
        let size = probe::size(window.clone(), image.bytes);
        if let Some(failure) = window.failure() {
            return Err(failure);
        }
        size
    };
    let parts: Result<Vec<_>, String> = texts
        .iter()
        .map(|(name, text)| {
            let bytes = super::part_bytes(name, text.bytes)?;
            Ok(Part {
                name: (*name).to_owned(),
                span: Span { at: 0, bytes },
            })
        })
        .collect();
    let local = store.local_path("").is_some();
    let bytes = match video {
        true => super::video_bytes(image.bytes, local),
        false => super::image_bytes(image.bytes),
    };
    let whole = bytes.and_then(|bytes| Ok((bytes, super::sized(size)?, parts?)));
    Ok(match whole {
        Ok((bytes, size, parts)) => Found {
            key: image.path,
            image: Span { at: 0, bytes },
            size,
            parts,
            clip: Vec::new(),
        },
        Err(reason) => super::bad(image.path, reason),
    })
}

pub(super) async fn read(store: &Store, found: &Located<'_>) -> Result<Sample, String> {
    let stem = found.key.rsplit_once('.').map_or("", |(stem, _)| stem);
    let image = whole(store, found.key.to_owned(), found.image);
    let parts = parts(store, stem, found.parts);
    let (image, parts) = futures::future::try_join(image, parts).await?;
    Ok(Sample { image, parts })
}

/// The texts beside a file.
pub(super) async fn parts(
    store: &Store,
    stem: &str,
    parts: &[(Arc<str>, Span)],
) -> Result<Vec<(Arc<str>, Bytes)>, String> {
    let parts = parts.iter().map(|(name, span)| async move {
        let bytes = whole(store, format!("{stem}.{name}"), *span).await?;
        Ok::<_, String>((name.clone(), super::text(name, bytes)?))
    });
    try_join_all(parts).await
}

/// A file that must be as long as it was.
async fn whole(store: &Store, path: String, span: Span) -> Result<Bytes, String> {
    let bytes = u64::from(span.bytes);
    let file = Shard {
        path,
        bytes,
        etag: None,
        modified_ms: 0,
    };
    store.range(&file, 0..bytes).await
}
