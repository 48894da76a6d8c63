//! The index of a dataset: what its samples are called, where they lie, how large they are. One file,
//! mapped into memory, that opens at once however many there are.

mod build;
mod check;
mod columns;
mod duplicates;
mod file;
mod journal;
mod lock;
mod scan;
mod verify;
mod write;

#[cfg(test)]
mod tests;

use std::{
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

pub use build::{Builder, Progress};
pub use check::Changes;
pub(crate) use check::fits;
pub(crate) use file::Fault;
pub use file::VERSION;
pub use lock::MAX_LOCK_WAIT;
pub use scan::MAX_SCANS;
pub(crate) use scan::scan;
pub use write::MAX_SAMPLES;

use self::{
    columns::{Column, MAX_PARTS, PART_BYTES, number32, number64, part, unpacked},
    file::{BAD_ENDS, BAD_IDS, BAD_TEXT, SECTIONS},
};
use super::{
    map::Map,
    sample::{Shard, Span},
};
use crate::{error::Error, plan::Size};

/// The key of a sample whose entry is damaged.
const NO_KEY: &str = "(damaged index)";
/// What to do about that.
const DAMAGED: &str = "its entry in the index is damaged: delete the index and rebuild it";

/// An index, opened. Cheap to clone nothing of: it is shared by reference.
///
/// Opening reads the header and checks it; the sections are looked at one entry at a time, and every
/// look-up is checked, so that a damaged file gives wrong answers or errors, and never a panic.
#[derive(Debug)]
pub struct Index {
    path: PathBuf,
    map: Map,
    sections: [Range<usize>; SECTIONS],
    /// Of the sections, as they were written.
    hashes: [[u8; 32]; SECTIONS],
    format: String,
    samples: u64,
    fingerprint: String,
    names: Vec<Arc<str>>,
    shards: Vec<Shard>,
    /// First id of each shard.
    starts: Vec<u64>,
    /// Where what is of no fixed width begins of each shard.
    bases: Vec<Base>,
}

/// Where the keys of a shard's samples begin, in bytes, the number of their first part, and where begins
/// what is known of their videos, in bytes.
#[derive(Clone, Copy, Debug)]
struct Base {
    keys: u64,
    parts: u64,
    clips: u64,
}

/// One sample, looked up.
#[derive(Clone, Debug)]
pub struct Entry<'a> {
    /// Where it lies.
    pub shard: &'a Shard,
    /// Its key.
    pub key: &'a str,
    /// The encoded image.
    pub image: Span,
    /// What travels with it.
    pub parts: Vec<(Arc<str>, Span)>,
}

impl Index {
    /// Opens a file that a [`Builder`] has written.
    ///
    /// # Errors
    /// [`Error::Dataset`], where there is none, or it is cut off, changed, or of another version.
    pub fn open(path: &Path) -> Result<Self, Error> {
        Self::read(path)
            .map_err(|fault| Error::dataset(path.display().to_string(), fault.to_string()))
    }

    pub(crate) fn read(path: &Path) -> Result<Self, Fault> {
        let map = Map::open(path).map_err(Fault::Io)?;
        let header = file::decode(map.as_slice())?;
        let mut sections = [const { 0..0 }; SECTIONS];
        for (range, section) in sections.iter_mut().zip(&header.sections) {
            *range = file::range(section.at, section.bytes)
                .ok_or(Fault::Damaged("a section is outside of it"))?;
        }
        Ok(Self {
            path: path.to_owned(),
            map,
            sections,
            hashes: header.sections.map(|section| section.hash),
            format: header.format,
            samples: header.samples,
            fingerprint: blake3::Hash::from_bytes(header.fingerprint)
                .to_hex()
                .to_string(),
            names: header.names.into_iter().map(Arc::from).collect(),
            starts: header.shards.iter().map(|shard| shard.first).collect(),
            bases: header
                .shards
                .iter()
                .map(|shard| Base {
                    keys: shard.keys,
                    parts: shard.parts,
                    clips: shard.clips,
                })
                .collect(),
            shards: header.shards.into_iter().map(file::Entry::shard).collect(),
        })
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Number of samples, bad ones included.
    pub fn len(&self) -> u64 {
        self.samples
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.samples == 0
    }

    /// Bytes of the file.
    pub fn file_bytes(&self) -> u64 {
        self.map.as_slice().len() as u64
    }

    /// Hash, in hex, of everything that a delivered sequence depends on: of every sample in order its
    /// key, the bytes and size of its image, the timestamps of its video, and the names and lengths of
    /// its parts. Neither of where
    /// the dataset lies nor of when it was written.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// What the samples were found by.
    pub fn format(&self) -> &str {
        &self.format
    }

    /// The shards, in the order of their paths' bytes; those without samples too.
    pub fn shards(&self) -> &[Shard] {
        &self.shards
    }

    /// Id of the first sample of each shard.
    pub fn shard_starts(&self) -> &[u64] {
        &self.starts
    }

    /// Names that parts can have.
    pub fn part_names(&self) -> &[Arc<str>] {
        &self.names
    }

    /// Number of the shard that a sample lies in; `None` past the last sample.
    pub fn shard_of(&self, id: u64) -> Option<usize> {
        if id >= self.samples {
            return None;
        }
        // Of shards that begin at the same id, all but the last are empty.
        self.starts
            .partition_point(|&first| first <= id)
            .checked_sub(1)
    }

    /// A sample's key; a placeholder where its entry is damaged.
    pub fn key(&self, id: u64) -> &str {
        self.shard_of(id)
            .and_then(|shard| self.key_in(shard, id))
            .unwrap_or(NO_KEY)
    }

    /// Size of the image with its EXIF orientation applied, or of a video's frames as they are shown;
    /// `None` for a bad sample.
    pub fn size(&self, id: u64) -> Option<Size> {
        unpacked(number32(self.column(Column::Sizes), id))
    }

    /// The encoded image's place in its shard.
    pub fn image(&self, id: u64) -> Span {
        Span {
            at: number64(self.column(Column::At), id),
            bytes: number32(self.column(Column::Bytes), id),
        }
    }

    /// Bytes of a sample: of its image and of all that travels with it.
    pub fn bytes(&self, id: u64) -> u64 {
        let shard = self.shard_of(id);
        let parts = shard.and_then(|shard| self.entries(shard, id));
        let parts = parts.unwrap_or_default().iter();
        let parts: u64 = parts.map(|entry| u64::from(part(entry).0.bytes)).sum();
        u64::from(self.image(id).bytes) + parts
    }

    /// What travels with a sample, by name.
    ///
    /// # Errors
    /// In words, where its entry is damaged.
    pub fn parts(&self, id: u64) -> Result<Vec<(Arc<str>, Span)>, String> {
        let shard = self.shard_of(id).ok_or(DAMAGED)?;
        let entries = self.entries(shard, id).ok_or(DAMAGED)?;
        let named = |entry| {
            let (span, name) = part(entry);
            Some((self.names.get(name as usize)?.clone(), span))
        };
        let parts: Option<_> = entries.iter().map(named).collect();
        Ok(parts.ok_or(DAMAGED)?)
    }

    /// What is known of a video, packed; empty of an image, and where its entry is damaged.
    pub(crate) fn clip(&self, id: u64) -> &[u8] {
        let find = || {
            let shard = self.shard_of(id)?;
            let (start, end) = self.span(Column::ClipEnds, shard, id);
            let base = usize::try_from(self.bases[shard].clips).ok()?;
            self.column(Column::Clips).get(base..)?.get(start..end)
        };
        find().unwrap_or_default()
    }

    /// Everything about one sample.
    ///
    /// # Errors
    /// In words, where its entry is damaged.
    pub fn entry(&self, id: u64) -> Result<Entry<'_>, String> {
        let shard = self.shard_of(id).ok_or(DAMAGED)?;
        Ok(Entry {
            shard: &self.shards[shard],
            key: self.key_in(shard, id).ok_or(DAMAGED)?,
            image: self.image(id),
            parts: self.parts(id)?,
        })
    }

    /// The samples that turned out bad, ascending, with reasons.
    pub fn bad(&self) -> impl Iterator<Item = (u64, &str)> {
        let ids = self.section(BAD_IDS);
        (0..(ids.len() / 8) as u64).map(|at| (number64(ids, at), self.reason(at)))
    }

    fn reason(&self, at: u64) -> &str {
        let ends = self.section(BAD_ENDS);
        let start = at.checked_sub(1).map_or(0, |before| number64(ends, before));
        let range = start as usize..number64(ends, at) as usize;
        let text = self.section(BAD_TEXT).get(range).unwrap_or_default();
        str::from_utf8(text).unwrap_or("bad")
    }

    fn key_in(&self, shard: usize, id: u64) -> Option<&str> {
        let (start, end) = self.span(Column::KeyEnds, shard, id);
        let base = usize::try_from(self.bases[shard].keys).ok()?;
        let keys = self.column(Column::Keys).get(base..)?;
        str::from_utf8(keys.get(start..end)?).ok()
    }

    fn entries(&self, shard: usize, id: u64) -> Option<&[[u8; PART_BYTES]]> {
        let (start, end) = self.span(Column::PartEnds, shard, id);
        let base = usize::try_from(self.bases[shard].parts).ok()?;
        let (entries, _) = self.column(Column::Parts).as_chunks();
        let found = entries.get(base..)?.get(start..end)?;
        (found.len() <= MAX_PARTS).then_some(found)
    }

    /// Where the entry of a sample begins and ends, counted from where those of its shard begin.
    fn span(&self, ends: Column, shard: usize, id: u64) -> (usize, usize) {
        let ends = self.column(ends);
        let start = match id {
            first if first == self.starts[shard] => 0,
            _ => number32(ends, id - 1),
        };
        (start as usize, number32(ends, id) as usize)
    }

    fn column(&self, column: Column) -> &[u8] {
        self.section(column as usize)
    }

    fn section(&self, section: usize) -> &[u8] {
        let bytes = self.map.as_slice().get(self.sections[section].clone());
        bytes.unwrap_or_default()
    }
}
