//! One source, opened.

use std::path::PathBuf;

use tempfile::TempDir;

use super::{
    Clip, Format, Index, Located, Progress, Sample, Shard, Source, Store, format::Read,
    index::Entry, on_a_runtime,
};
use crate::{config::BadSamples, error::Error};

/// One source of a [`Dataset`](super::Dataset), opened. Its ids count from 0.
#[derive(Debug)]
pub struct Opened {
    /// What the mix calls it; empty for a dataset that is none.
    name: String,
    store: Store,
    format: Format,
    index: Index,
    /// Where the index is, if nothing else could be written to.
    _folder: Option<TempDir>,
}

impl Opened {
    pub(super) fn new(
        name: &str,
        source: &Source,
        policy: BadSamples,
        progress: &(dyn Fn(Progress) + Sync),
    ) -> Result<Self, Error> {
        let (format, index, folder) = on_a_runtime(async {
            // Connections belong to the runtime that made them: those of reading are made later.
            let store = source.open_store()?;
            source.resolve(&store, progress).await
        })?;
        let opened = Self {
            name: name.to_owned(),
            store: source.open_store()?,
            format,
            index,
            _folder: folder,
        };
        if opened.index.is_empty() {
            let reason = "has no samples: none of its shards has an image";
            return Err(Error::dataset(opened.store.uri(), reason));
        }
        if policy == BadSamples::Fail
            && let Some((id, reason)) = opened.index.bad().next()
        {
            return Err(Error::BadSample {
                key: opened.index.key(id).to_owned(),
                reason: reason.to_owned(),
            });
        }
        Ok(opened)
    }

    /// What the mix calls it; empty for a dataset that is none.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it is.
    pub(super) fn uri(&self) -> &str {
        self.store.uri()
    }

    /// Whether it was opened for clips.
    pub(super) fn has_videos(&self) -> bool {
        self.format.has_videos()
    }

    /// Whether there may be files of video in it.
    pub(super) fn has_video_files(&self) -> bool {
        matches!(self.format, Format::Videos(_))
    }

    /// Its index, with keys that do not begin with its name.
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// The shard that a sample lies in.
    pub(crate) fn shard(&self, id: u64) -> Option<&Shard> {
        let shard = self.index.shard_of(id)?;
        self.index.shards().get(shard)
    }

    pub(super) fn path(&self, id: u64) -> Option<PathBuf> {
        let files = match &self.format {
            Format::Folder => true,
            Format::Videos(videos) => !videos.packed(),
            _ => false,
        };
        files
            .then(|| self.store.local_path(self.index.key(id)))
            .flatten()
    }

    pub(super) async fn read(&self, id: u64) -> Result<Sample, String> {
        let Entry {
            shard,
            key,
            image,
            parts,
        } = self.index.entry(id)?;
        let located = Located {
            key,
            image,
            parts: &parts,
        };
        self.format.read(&self.store, shard, &located).await
    }

    /// What frames of a sample are to be had from, and what travels with it.
    pub(super) async fn media(
        &self,
        id: u64,
        wanted: (Option<&Clip>, &[u32]),
    ) -> Result<Read, String> {
        let Entry {
            shard,
            key,
            image,
            parts,
        } = self.index.entry(id)?;
        let located = Located {
            key,
            image,
            parts: &parts,
        };
        self.format
            .media((&self.store, shard), &located, wanted)
            .await
    }
}

/// An error about a source of a mix, with its name.
pub(super) fn named(name: &str, error: Error) -> Error {
    match error {
        Error::Dataset { path, reason } => {
            let reason = format!("{reason} (source `{name}` of `mix`)");
            Error::Dataset { path, reason }
        }
        Error::Config { reason, .. } => {
            Error::config("mix", format!("has the source `{name}`, which {reason}"))
        }
        Error::BadSample { key, reason } => {
            let key = format!("{name}/{key}");
            Error::BadSample { key, reason }
        }
        other => other,
    }
}
