//! The file: a prefix, sections, a header.
//!
//! ```text
//! prefix   64 bytes: magic, version, where the header is, its BLAKE3 hash
//! sections the columns of all shards end to end, then the bad samples: plain little-endian numbers
//!          and text, each section at a multiple of 64 bytes
//! header   an rkyv archive: shards, names, where the sections are
//! ```
//!
//! The sections are outside of the archive because its pointers are relative and have 32 bits: an
//! archive ends at 2 GiB, and a hundred million samples are more. The header is small, comes last
//! because it is known last, and is all that opening reads.

mod first;

use std::{io, ops::Range};

use rkyv::{Archive, Deserialize, Serialize, rancor, util::AlignedVec};

use super::columns::{COLUMNS, Column, PART_BYTES};
use crate::dataset::sample::Shard;

/// First bytes of an index.
pub(super) const MAGIC: [u8; 8] = *b"PREHEATI";
/// Version of the file's layout, and of what its fingerprint is made of.
pub const VERSION: u32 = 2;
/// Sections begin at multiples of this: a cache line.
pub(super) const ALIGN: u64 = 64;
/// Bytes before the first section.
pub(super) const PREFIX: usize = 64;
/// The columns, and three that list the bad samples: ids, ends of the reasons, reasons.
pub(super) const SECTIONS: usize = COLUMNS + 3;
/// 64 bits each, ascending.
pub(super) const BAD_IDS: usize = COLUMNS;
/// 64 bits each.
pub(super) const BAD_ENDS: usize = COLUMNS + 1;
/// UTF-8.
pub(super) const BAD_TEXT: usize = COLUMNS + 2;

/// Everything that is not counted in samples.
#[derive(Clone, Debug, Archive, Serialize, Deserialize)]
pub(super) struct Header {
    /// What the samples were found by.
    pub(super) format: String,
    pub(super) samples: u64,
    pub(super) fingerprint: [u8; 32],
    /// Names of parts.
    pub(super) names: Vec<String>,
    pub(super) shards: Vec<Entry>,
    pub(super) sections: [Section; SECTIONS],
}

/// A shard, and where its samples begin.
#[derive(Clone, Debug, Archive, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) path: String,
    pub(super) bytes: u64,
    pub(super) etag: Option<String>,
    pub(super) modified_ms: i64,
    /// Id of its first sample.
    pub(super) first: u64,
    /// Where its keys begin, in bytes.
    pub(super) keys: u64,
    /// Number of its first part.
    pub(super) parts: u64,
    /// Where what is known of its videos begins, in bytes.
    pub(super) clips: u64,
}

/// Where a section is.
#[derive(Clone, Debug, Default, Archive, Serialize, Deserialize)]
pub(super) struct Section {
    pub(super) at: u64,
    pub(super) bytes: u64,
    /// BLAKE3; checked by `verify` alone.
    pub(super) hash: [u8; 32],
}

/// Why a file cannot be used as an index.
#[derive(Debug)]
pub(crate) enum Fault {
    /// There is none, or it cannot be read.
    Io(io::Error),
    /// A file of somebody else, which nobody wants overwritten.
    Foreign,
    /// Of another release.
    Version(u32),
    /// Cut off or changed.
    Damaged(&'static str),
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Io(error) => write!(f, "cannot be opened: {error}"),
            Self::Foreign => f.write_str("is not an index: name another file"),
            Self::Version(version) => write!(
                f,
                "has version {version}, this release reads {VERSION}: delete and rebuild it"
            ),
            Self::Damaged(what) => write!(f, "is damaged ({what}): delete and rebuild it"),
        }
    }
}

impl Entry {
    pub(super) fn shard(self) -> Shard {
        Shard {
            path: self.path,
            bytes: self.bytes,
            etag: self.etag,
            modified_ms: self.modified_ms,
        }
    }
}

/// The prefix and the header, as they are stored. `at` is where the header will be.
pub(super) fn encode(header: &Header, at: u64) -> Result<([u8; PREFIX], AlignedVec), String> {
    let archive = rkyv::to_bytes::<rancor::Error>(header).map_err(|error| error.to_string())?;
    let mut prefix = [0; PREFIX];
    prefix[..8].copy_from_slice(&MAGIC);
    prefix[8..12].copy_from_slice(&VERSION.to_le_bytes());
    let bytes = u32::try_from(archive.len()).map_err(|_| "more shards than an index can hold")?;
    prefix[12..16].copy_from_slice(&bytes.to_le_bytes());
    prefix[16..24].copy_from_slice(&at.to_le_bytes());
    prefix[24..56].copy_from_slice(blake3::hash(&archive).as_bytes());
    Ok((prefix, archive))
}

/// The header of a file, with all that it says checked against the file and against itself. The
/// sections are not looked at.
pub(super) fn decode(file: &[u8]) -> Result<Header, Fault> {
    let Some((prefix, _)) = file.split_first_chunk::<PREFIX>() else {
        return Err(match file.starts_with(&MAGIC) {
            true => Fault::Damaged("it is cut off"),
            false => Fault::Foreign,
        });
    };
    if prefix[..8] != MAGIC {
        return Err(Fault::Foreign);
    }
    let number = |range: Range<usize>| super::columns::number32(&prefix[range], 0);
    let version = number(8..12);
    if version != VERSION && version != first::VERSION {
        return Err(Fault::Version(version));
    }
    let (at, bytes) = (super::columns::number64(&prefix[16..24], 0), number(12..16));
    let header = range(at, bytes.into()).and_then(|range| file.get(range));
    let header = header.ok_or(Fault::Damaged("it is cut off"))?;
    if !at.is_multiple_of(ALIGN) || blake3::hash(header) != prefix[24..56] {
        return Err(Fault::Damaged("its header has changed"));
    }
    let read = match version {
        first::VERSION => first::decode(header),
        _ => rkyv::from_bytes::<Header, rancor::Error>(header),
    };
    let header = read.map_err(|_| Fault::Damaged("its header makes no sense"))?;
    check(&header, at).map_err(Fault::Damaged)?;
    Ok(header)
}

/// The bytes from `at` on.
pub(super) fn range(at: u64, bytes: u64) -> Option<Range<usize>> {
    let end = at.checked_add(bytes)?;
    Some(usize::try_from(at).ok()?..usize::try_from(end).ok()?)
}

fn check(header: &Header, end: u64) -> Result<(), &'static str> {
    for Section { at, bytes, .. } in &header.sections {
        let within = at.checked_add(*bytes).is_some_and(|last| last <= end);
        if !within || *at < PREFIX as u64 || !at.is_multiple_of(ALIGN) {
            return Err("a section is outside of it");
        }
    }
    let bytes = |section: usize| header.sections[section].bytes;
    for column in Column::ALL {
        let full = |width| header.samples.checked_mul(width as u64);
        let len = bytes(column as usize);
        if column
            .width()
            .is_some_and(|width| len != 0 && Some(len) != full(width))
        {
            return Err("a section of another length");
        }
    }
    if !bytes(BAD_IDS).is_multiple_of(8) || bytes(BAD_IDS) != bytes(BAD_ENDS) {
        return Err("a section of another length");
    }
    let most = (
        header.samples,
        bytes(Column::Keys as usize),
        bytes(Column::Parts as usize) / PART_BYTES as u64,
        bytes(Column::Clips as usize),
    );
    let mut last = (0, 0, 0, 0);
    for (at, shard) in header.shards.iter().enumerate() {
        let begins = (shard.first, shard.keys, shard.parts, shard.clips);
        let (first, keys, parts, clips) = begins;
        let ascending = first >= last.0 && keys >= last.1 && parts >= last.2 && clips >= last.3;
        let within = first <= most.0 && keys <= most.1 && parts <= most.2 && clips <= most.3;
        if !ascending || !within || (at == 0 && begins != (0, 0, 0, 0)) {
            return Err("its shards are out of order");
        }
        last = begins;
    }
    if header.shards.is_empty() && header.samples > 0 {
        return Err("samples of no shard");
    }
    Ok(())
}
