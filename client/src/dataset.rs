//! Where bytes come from: an index of all samples, small enough to hold for millions of them.

mod folder;
pub mod format;
mod probe;
pub mod sample;
pub mod store;

use std::{
    collections::BTreeMap,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use preheat_proto::limits;

pub use self::{
    format::{Columns, Format},
    sample::{Found, Located, Part, Sample, Shard, Span},
    store::{Store, StoreOptions},
};
use crate::{config::BadSamples, error::Error, plan::Size};

/// Bytes of one file: what fits a message beside its metadata.
pub const MAX_FILE_BYTES: u64 = (limits::MAX_MESSAGE_BYTES - 2 * limits::MAX_META_BYTES) as u64;
/// Samples of one dataset.
pub const MAX_SAMPLES: usize = u32::MAX as usize;

/// How far indexing has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Headers read.
    pub done: u64,
    /// Files found.
    pub total: u64,
}

/// What the index knows of one file: its bytes and its size in pixels, or why it is bad.
type Probed = (u64, Result<Size, String>);

/// A folder of images. A sample's id is its index in the order of the paths.
#[derive(Clone, Debug)]
pub struct Dataset {
    root: PathBuf,
    /// All keys, one after the other: a million small strings would cost more than their text.
    keys: String,
    /// Where each key ends.
    ends: Vec<u64>,
    bytes: Vec<u64>,
    /// 0x0 for a bad one.
    sizes: Vec<Size>,
    bad: BTreeMap<u64, String>,
    fingerprint: String,
}

impl Dataset {
    /// Finds all images below `root` and reads their headers, on several threads. `progress` is
    /// called now and then from any of them.
    ///
    /// # Errors
    /// [`Error::Dataset`] if the folder is missing, unreadable or has no images;
    /// [`Error::BadSample`] under [`BadSamples::Fail`] for the first file that is no usable image.
    pub fn open(
        root: &Path,
        policy: BadSamples,
        progress: &(dyn Fn(Progress) + Sync),
    ) -> Result<Self, Error> {
        let keys = folder::walk(root)?;
        if keys.len() > MAX_SAMPLES {
            let reason = format!("has {} images, over {MAX_SAMPLES}", keys.len());
            return Err(Error::dataset(root.display().to_string(), reason));
        }
        let probed = folder::probe_all(root, &keys, progress);
        let dataset = Self::collect(root, &keys, probed);
        if policy == BadSamples::Fail
            && let Some((&id, reason)) = dataset.bad.first_key_value()
        {
            return Err(Error::BadSample {
                key: dataset.key(id).to_owned(),
                reason: reason.clone(),
            });
        }
        Ok(dataset)
    }

    fn collect(root: &Path, keys: &[String], probed: Vec<Probed>) -> Self {
        let mut dataset = Self {
            root: root.to_owned(),
            keys: String::with_capacity(keys.iter().map(String::len).sum()),
            ends: Vec::with_capacity(keys.len()),
            bytes: Vec::with_capacity(keys.len()),
            sizes: Vec::with_capacity(keys.len()),
            bad: BTreeMap::new(),
            fingerprint: String::new(),
        };
        let mut hasher = blake3::Hasher::new();
        for (id, (key, (bytes, probed))) in (0_u64..).zip(keys.iter().zip(probed)) {
            let size = probed.unwrap_or_else(|reason| {
                dataset.bad.insert(id, reason);
                Size::new(0, 0)
            });
            dataset.keys.push_str(key);
            dataset.ends.push(dataset.keys.len() as u64);
            dataset.bytes.push(bytes);
            dataset.sizes.push(size);
            // Lengths first, so that no two lists of samples are the same bytes.
            hasher.update(&(key.len() as u64).to_le_bytes());
            hasher.update(key.as_bytes());
            hasher.update(&bytes.to_le_bytes());
            hasher.update(&size.width.to_le_bytes());
            hasher.update(&size.height.to_le_bytes());
        }
        dataset.fingerprint = hasher.finalize().to_hex().to_string();
        dataset
    }

    /// Number of samples, bad ones included.
    pub fn len(&self) -> u64 {
        self.sizes.len() as u64
    }

    /// Never: a folder without images cannot be opened.
    pub fn is_empty(&self) -> bool {
        self.sizes.is_empty()
    }

    /// Hash of the paths, file sizes and image sizes of all samples.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// Path of a sample, relative to the folder, with `/` between its parts.
    pub fn key(&self, id: u64) -> &str {
        let at = id as usize;
        let start = at.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.keys[start as usize..self.ends[at] as usize]
    }

    /// Where a sample's file is.
    pub fn path(&self, id: u64) -> PathBuf {
        self.root.join(self.key(id))
    }

    /// Bytes of its file, when it was indexed.
    pub fn file_bytes(&self, id: u64) -> u64 {
        self.bytes[id as usize]
    }

    /// Size of the image with its EXIF orientation applied; `None` for a bad sample.
    pub fn size(&self, id: u64) -> Option<Size> {
        Some(self.sizes[id as usize]).filter(|size| size.area() > 0)
    }

    /// The sizes of all samples, in order.
    pub fn sizes(&self) -> impl Iterator<Item = Option<Size>> + Clone {
        (0..self.len()).map(|id| self.size(id))
    }

    /// The samples that turned out bad while indexing, with reasons.
    pub fn bad(&self) -> &BTreeMap<u64, String> {
        &self.bad
    }

    /// Reads a sample's file.
    ///
    /// # Errors
    /// In words, if it cannot be read or is not as long as it was.
    pub fn read(&self, id: u64) -> Result<Bytes, String> {
        let expected = self.file_bytes(id);
        let file = File::open(self.path(id)).map_err(|error| format!("cannot open: {error}"))?;
        let mut bytes = Vec::with_capacity(usize::try_from(expected).unwrap_or(0) + 1);
        // One byte more than expected tells a file that has grown, whatever it has grown to.
        file.take(expected + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| format!("cannot read: {error}"))?;
        if bytes.len() as u64 != expected {
            return Err(format!(
                "has changed since it was indexed with {expected} bytes"
            ));
        }
        Ok(bytes.into())
    }
}
