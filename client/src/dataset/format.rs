//! How samples lie in a store.

use std::{collections::BTreeMap, fs::File, io::Read, time::UNIX_EPOCH};

use tokio::task::spawn_blocking;

use super::{
    folder,
    probe::probe,
    sample::{Found, Located, Sample, Shard, Span},
    store::Store,
};
use crate::error::Error;

/// How samples lie in a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Format {
    /// Images, each a file.
    Folder,
}

impl Format {
    /// # Errors
    /// None.
    pub async fn detect(_: &Store) -> Result<Self, Error> {
        Ok(Self::Folder)
    }

    /// # Errors
    /// [`Error::Dataset`] if it cannot be listed.
    pub async fn shards(&self, store: &Store) -> Result<Vec<Shard>, Error> {
        let mut shards: BTreeMap<String, Shard> = BTreeMap::new();
        let root = store.local_path("").unwrap_or_default();
        for key in folder::walk(&root)? {
            let path = key.rsplit_once('/').map_or("", |(folder, _)| folder);
            let meta = std::fs::metadata(root.join(&key));
            let meta = meta.map_err(|error| Error::dataset(&key, error.to_string()))?;
            let time = meta
                .modified()
                .ok()
                .and_then(|at| at.duration_since(UNIX_EPOCH).ok());
            let state = format!(
                "{key} {} {}",
                meta.len(),
                time.unwrap_or_default().as_nanos()
            );
            let shard = shards.entry(path.to_owned()).or_insert_with(|| Shard {
                path: path.to_owned(),
                bytes: 0,
                etag: Some(String::new()),
                modified_ms: 0,
            });
            shard.bytes += meta.len();
            let before = shard.etag.take().unwrap_or_default();
            let hash = blake3::hash((before + &state).as_bytes());
            shard.etag = Some(hash.to_hex().to_string());
        }
        Ok(shards.into_values().collect())
    }

    /// # Errors
    /// In words.
    pub async fn scan(&self, store: &Store, shard: &Shard) -> Result<Vec<Found>, String> {
        let root = store.local_path("").unwrap_or_default();
        let path = shard.path.clone();
        let scanned = spawn_blocking(move || {
            let keys = folder::walk(&root).map_err(|error| error.to_string())?;
            let mine = keys
                .into_iter()
                .filter(|key| key.rsplit_once('/').map_or("", |(folder, _)| folder) == path);
            let found = mine.map(|key| {
                let (bytes, size) = probe(&root.join(&key));
                let image = Span {
                    at: 0,
                    bytes: u32::try_from(bytes).unwrap_or(u32::MAX),
                };
                Found {
                    key,
                    image,
                    size,
                    parts: Vec::new(),
                }
            });
            Ok(found.collect())
        });
        scanned.await.map_err(|error| error.to_string())?
    }

    /// # Errors
    /// In words.
    pub async fn read(&self, store: &Store, _: &Shard, at: &Located<'_>) -> Result<Sample, String> {
        let path = store.local_path(at.key).unwrap_or_default();
        let expected = u64::from(at.image.bytes);
        let read = spawn_blocking(move || {
            let file = File::open(path).map_err(|error| format!("cannot open: {error}"))?;
            let mut bytes = Vec::new();
            file.take(expected + 1)
                .read_to_end(&mut bytes)
                .map_err(|error| format!("cannot read: {error}"))?;
            match bytes.len() as u64 == expected {
                true => Ok(bytes),
                false => Err(format!(
                    "has changed since it was indexed with {expected} bytes"
                )),
            }
        });
        let image = read.await.map_err(|error| error.to_string())??;
        Ok(Sample {
            image: image.into(),
            parts: Vec::new(),
        })
    }
}
