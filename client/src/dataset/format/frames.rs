//! Directories of numbered images: each is a clip, shown at one rate.

use std::collections::BTreeMap;

use futures::future::try_join_all;
use tokio::{runtime::Handle, task::spawn_blocking};

use super::{EXTENSIONS, Found, Located, Part, Sample, Shard, Span, Store, TEXTS, folder};
use crate::{
    dataset::{Clip, clip::MAX_FILES, probe, prober::MAX_VIDEO_BYTES, store::Window},
    error::Error,
    plan::Rate,
};

/// Images of one directory, first to last, or why they are no clip.
type Numbered = Result<Vec<Shard>, String>;

/// A directory of frames: its path, its images, the texts beside it.
struct Directory {
    path: String,
    images: Vec<Shard>,
    texts: Vec<(&'static str, Shard)>,
}

/// The directories that hold directories of frames.
pub(super) async fn shards(store: &Store) -> Result<Vec<Shard>, Error> {
    let listed = store.list().await?;
    let count = listed.len();
    let mut parents: BTreeMap<String, Vec<Directory>> = BTreeMap::new();
    for directory in directories(listed) {
        let Some(parent) = parent(&directory.path) else {
            let reason = "is itself a directory of images: name the folder that holds one directory \
                          for each clip";
            return Err(Error::dataset(store.uri(), reason));
        };
        parents
            .entry(parent.to_owned())
            .or_default()
            .push(directory);
    }
    if parents.is_empty() {
        let reason = format!(
            "has no directories of frames: looked for {EXTENSIONS:?} below it, among {count} files"
        );
        return Err(Error::dataset(store.uri(), reason));
    }
    let summary = |(path, of): (String, Vec<Directory>)| summary(path, &of);
    Ok(parents.into_iter().map(summary).collect())
}

/// `None` of the dataset's own folder.
fn parent(path: &str) -> Option<&str> {
    match path.rsplit_once('/') {
        _ if path.is_empty() => None,
        Some((parent, _)) => Some(parent),
        None => Some(""),
    }
}

/// All directories with images in them, in the order of their paths.
fn directories(listed: Vec<Shard>) -> Vec<Directory> {
    let mut images: BTreeMap<String, Vec<Shard>> = BTreeMap::new();
    let mut texts: BTreeMap<String, Vec<(&'static str, Shard)>> = BTreeMap::new();
    for object in listed {
        let Some((stem, extension)) = object.path.rsplit_once('.') else {
            continue;
        };
        if super::has_extension(&object.path, &EXTENSIONS) {
            let path = object.path.rsplit_once('/').map_or("", |(path, _)| path);
            images.entry(path.to_owned()).or_default().push(object);
        } else if let Some(name) = TEXTS.into_iter().find(|name| *name == extension) {
            let of = texts.entry(stem.to_owned()).or_default();
            of.push((name, object));
        }
    }
    let with_texts = images.into_iter().map(|(path, images)| {
        let mut texts = texts.remove(&path).unwrap_or_default();
        texts.sort_unstable_by_key(|(name, _)| *name);
        Directory {
            path,
            images,
            texts,
        }
    });
    with_texts.collect()
}

fn summary(path: String, directories: &[Directory]) -> Shard {
    let files = directories.iter().flat_map(|directory| {
        let texts = directory.texts.iter().map(|(_, text)| text);
        directory.images.iter().chain(texts)
    });
    folder::hashed(path, files)
}

/// By the number at the end of each name; every number once, without a gap.
fn numbered(images: Vec<Shard>) -> Numbered {
    let mut found = BTreeMap::new();
    for image in images {
        let name = image.path.rsplit('/').next().unwrap_or(&image.path);
        let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
        let digits = stem.len() - stem.trim_end_matches(|c: char| c.is_ascii_digit()).len();
        let number = stem[stem.len() - digits..].parse::<u64>();
        let number = number.map_err(|_| {
            format!("has `{name}`, which does not end in a number: frames are numbered images")
        })?;
        if let Some(other) = found.insert(number, image) {
            return Err(format!("has two frames {number}: remove `{}`", other.path));
        }
    }
    let gap = found
        .keys()
        .zip(found.keys().skip(1))
        .find(|(a, b)| *a + 1 != **b);
    match gap {
        Some((before, _)) => Err(format!(
            "has no frame {}: number them in one row",
            before + 1
        )),
        None => Ok(found.into_values().collect()),
    }
}

pub(super) async fn scan(store: &Store, shard: &Shard, rate: Rate) -> Result<Vec<Found>, String> {
    let listed = store.list_below(&shard.path).await?;
    let mut directories = directories(listed);
    directories.retain(|directory| parent(&directory.path) == Some(&shard.path));
    if summary(shard.path.clone(), &directories).etag != shard.etag {
        return Err(format!(
            "{} changed while it was indexed: let nothing write to it, and try again",
            store.name(&shard.path)
        ));
    }
    let (store, handle) = (store.clone(), Handle::current());
    let scanned = spawn_blocking(move || {
        let found = directories.into_iter();
        found.map(|one| probe(&store, &handle, one, rate)).collect()
    });
    scanned.await.map_err(|error| error.to_string())?
}

/// The size is that of the first frame: replicas check it of all.
fn probe(
    store: &Store,
    handle: &Handle,
    directory: Directory,
    rate: Rate,
) -> Result<Found, String> {
    let Directory {
        path,
        images,
        texts,
    } = directory;
    let images = match numbered(images) {
        Ok(images) => images,
        Err(reason) => return Ok(super::bad(path, reason)),
    };
    let Some(first) = images.first() else {
        return Ok(super::bad(path, "has no frames".to_owned()));
    };
    let size = if let Some(path) = store.local_path(&first.path) {
        probe::probe(&path).1
    } else {
        let window = Window::new(store, first, folder::HEAD_BYTES, handle)?;
        let size = probe::size(window.clone(), first.bytes);
        if let Some(failure) = window.failure() {
            return Err(failure);
        }
        size
    };
    let parts = texts.iter().map(|(name, text)| {
        let bytes = super::part_bytes(name, text.bytes)?;
        let (name, span) = ((*name).to_owned(), Span { at: 0, bytes });
        Ok(Part { name, span })
    });
    let parts: Result<Vec<_>, String> = parts.collect();
    let count = u32::try_from(images.len())
        .ok()
        .filter(|&count| count <= MAX_FILES);
    let Some(count) = count else {
        let reason = format!("has {} frames, over {MAX_FILES}", images.len());
        return Ok(super::bad(path, reason));
    };
    let name = first.path.rsplit('/').next().unwrap_or_default();
    let size = size.map_err(|reason| format!("its frame `{name}` {reason}"));
    let whole = total(&images).and_then(|bytes| Ok((bytes, size?, parts?)));
    Ok(match whole {
        Ok((bytes, size, parts)) => Found {
            key: path,
            image: Span { at: 0, bytes },
            size: Ok(size),
            parts,
            clip: Clip::of_files(count, rate).pack(),
        },
        Err(reason) => super::bad(path, reason),
    })
}

fn total(images: &[Shard]) -> Result<u32, String> {
    let bytes = images.iter().map(|image| image.bytes).sum();
    super::limited(bytes, MAX_VIDEO_BYTES)
}

/// Some of a clip's frames, by number, in that order.
pub(super) async fn read(
    store: &Store,
    found: &Located<'_>,
    frames: &[u32],
) -> Result<(Vec<bytes::Bytes>, Sample), String> {
    let mut listed = store.list_in(found.key).await?;
    listed.retain(|object| super::has_extension(&object.path, &EXTENSIONS));
    let images = numbered(listed)?;
    if total(&images)? != found.image.bytes {
        return Err("has other frames than when it was indexed: index the dataset again".into());
    }
    let mut wanted = frames.to_vec();
    wanted.dedup();
    let read = wanted.iter().map(|&frame| {
        let image = images.get(frame as usize);
        async move {
            let image = image.ok_or("has fewer frames than when it was indexed")?;
            let whole = 0..image.bytes;
            store.range(image, whole).await
        }
    });
    let parts = folder::parts(store, found.key, found.parts);
    let (read, parts) = futures::future::try_join(try_join_all(read), parts).await?;
    let at = |frame: &u32| wanted.partition_point(|other| other < frame);
    let frames = frames.iter().map(|frame| read[at(frame)].clone()).collect();
    let image = bytes::Bytes::new();
    Ok((frames, Sample { image, parts }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Result<Vec<String>, String> {
        let file = |name: &&str| Shard {
            path: format!("a/{name}"),
            bytes: 1,
            etag: None,
            modified_ms: 0,
        };
        let images = numbered(names.iter().map(file).collect())?;
        Ok(images.into_iter().map(|image| image.path).collect())
    }

    #[test]
    fn frames_go_by_number() {
        let found = names(&["f10.png", "f9.png", "f11.jpg"]).unwrap();
        assert_eq!(found, ["a/f9.png", "a/f10.png", "a/f11.jpg"]);
        assert!(
            names(&["0001.png", "1.png"])
                .unwrap_err()
                .contains("two frames 1")
        );
        assert!(
            names(&["1.png", "3.png"])
                .unwrap_err()
                .contains("no frame 2")
        );
        let odd = names(&["1.png", "cover.png"]).unwrap_err();
        assert!(
            odd.contains("`cover.png`, which does not end in a number"),
            "{odd}"
        );
    }
}
