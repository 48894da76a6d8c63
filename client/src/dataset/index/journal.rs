//! Shards that have been scanned, kept until the index is whole: a build that is killed goes on where
//! it stopped.
//!
//! A file that only grows. Each record carries its length and hash, so what a crash or a full disk
//! left half written is cut off. It is not synced: it outlives a process, and what a machine that
//! fails loses of it is scanned again.

use std::{
    borrow::Cow,
    collections::HashMap,
    fs::{File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    path::Path,
};

use rkyv::{Archive, Deserialize, Serialize, rancor, util::AlignedVec};

use super::{
    check::same,
    columns::{COLUMNS, Column, Columns, number32, number64},
    file::VERSION,
};
use crate::dataset::sample::Shard;

const MAGIC: [u8; 8] = *b"PREHEATJ";
/// Magic, version, padding, what the records belong to.
const PREFIX: usize = 48;
/// Length and hash before each record.
const RECORD_PREFIX: usize = 40;

/// Everything of a record but the columns, which follow it.
#[derive(Archive, Serialize, Deserialize)]
struct Head {
    path: String,
    bytes: u64,
    etag: Option<String>,
    modified_ms: i64,
    samples: u64,
    names: Vec<String>,
    bad: Vec<(u64, String)>,
    columns: [u64; COLUMNS],
}

/// Where a shard's record is, and what it takes in an index.
#[derive(Clone, Debug)]
pub(super) struct Record {
    shard: Shard,
    at: u64,
    bytes: u64,
    pub(super) volume: Volume,
}

/// What a shard takes in an index.
#[derive(Clone, Debug, Default)]
pub(super) struct Volume {
    pub(super) samples: u64,
    pub(super) columns: [u64; COLUMNS],
    pub(super) bad: u64,
    pub(super) bad_text: u64,
}

impl Volume {
    pub(super) fn of(columns: &Columns<'_>) -> Self {
        Self {
            samples: columns.samples,
            columns: Column::ALL.map(|column| columns.column(column).len() as u64),
            bad: columns.bad.len() as u64,
            bad_text: columns.bad.iter().map(|(_, why)| why.len() as u64).sum(),
        }
    }
}

pub(super) struct Journal {
    file: File,
    records: HashMap<String, Record>,
    end: u64,
}

impl Journal {
    /// Opens or begins a journal. One of something else than `owner` is begun anew.
    pub(super) fn open(path: &Path, owner: &[u8; 32]) -> io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        let mut journal = Self {
            file,
            records: HashMap::new(),
            end: PREFIX as u64,
        };
        let mut expected = [0; PREFIX];
        expected[..8].copy_from_slice(&MAGIC);
        expected[8..12].copy_from_slice(&VERSION.to_le_bytes());
        expected[16..].copy_from_slice(owner);
        let mut prefix = [0; PREFIX];
        let bytes = journal.file.metadata()?.len();
        if bytes >= PREFIX as u64 {
            journal.file.read_exact(&mut prefix)?;
        }
        if prefix == expected {
            journal.replay(bytes)?;
        } else {
            journal.file.rewind()?;
            journal.file.write_all(&expected)?;
        }
        journal.file.set_len(journal.end)?;
        Ok(journal)
    }

    /// Takes up every record that is whole; later ones of the same shard replace earlier ones.
    fn replay(&mut self, bytes: u64) -> io::Result<()> {
        while let Some((shard, columns, end)) = self.record(self.end, bytes)? {
            let record = Record {
                volume: Volume::of(&columns),
                at: self.end,
                bytes: end - self.end,
                shard,
            };
            self.records.insert(record.shard.path.clone(), record);
            self.end = end;
        }
        Ok(())
    }

    /// The record at `at`, and where it ends; `None` where nothing whole is.
    fn record(&mut self, at: u64, file: u64) -> io::Result<Option<(Shard, Columns<'static>, u64)>> {
        let Some(most) = file.checked_sub(at + RECORD_PREFIX as u64) else {
            return Ok(None);
        };
        let mut prefix = [0; RECORD_PREFIX];
        self.file.seek(SeekFrom::Start(at))?;
        self.file.read_exact(&mut prefix)?;
        let bytes = number64(&prefix[..8], 0);
        if bytes > most {
            return Ok(None);
        }
        let mut body = vec![0; bytes as usize];
        self.file.read_exact(&mut body)?;
        if blake3::hash(&body) != prefix[8..] {
            return Ok(None);
        }
        let end = at + RECORD_PREFIX as u64 + bytes;
        Ok(parse(&body).map(|(shard, columns)| (shard, columns, end)))
    }

    pub(super) fn append(&mut self, shard: &Shard, columns: &Columns<'_>) -> io::Result<()> {
        let volume = Volume::of(columns);
        let head = Head {
            path: shard.path.clone(),
            bytes: shard.bytes,
            etag: shard.etag.clone(),
            modified_ms: shard.modified_ms,
            samples: columns.samples,
            names: columns.names.clone(),
            bad: columns.bad.clone(),
            columns: volume.columns,
        };
        let head = rkyv::to_bytes::<rancor::Error>(&head).map_err(io::Error::other)?;
        let head_bytes = (head.len() as u32).to_le_bytes();
        let columns = Column::ALL.map(|column| columns.column(column));
        let mut hasher = blake3::Hasher::new();
        let mut bytes = 0;
        for part in [&head_bytes[..], &head].into_iter().chain(columns) {
            hasher.update(part);
            bytes += part.len() as u64;
        }
        self.file.seek(SeekFrom::Start(self.end))?;
        self.file.write_all(&bytes.to_le_bytes())?;
        self.file.write_all(hasher.finalize().as_bytes())?;
        for part in [&head_bytes[..], &head].into_iter().chain(columns) {
            self.file.write_all(part)?;
        }
        let record = Record {
            shard: shard.clone(),
            at: self.end,
            bytes: RECORD_PREFIX as u64 + bytes,
            volume,
        };
        self.end += record.bytes;
        self.records.insert(shard.path.clone(), record);
        Ok(())
    }

    /// The record of a shard as it is now.
    pub(super) fn find(&self, shard: &Shard) -> Option<&Record> {
        let record = self.records.get(&shard.path)?;
        same(&record.shard, shard).then_some(record)
    }

    /// What a record holds.
    pub(super) fn read(&mut self, record: &Record) -> io::Result<Columns<'static>> {
        let read = self.record(record.at, record.at + record.bytes)?;
        let gone = || io::Error::other("a record has changed while the index was built");
        Ok(read.ok_or_else(gone)?.1)
    }
}

fn parse(body: &[u8]) -> Option<(Shard, Columns<'static>)> {
    let (prefix, rest) = body.split_first_chunk::<4>()?;
    let (head, mut rest) = rest.split_at_checked(number32(prefix, 0) as usize)?;
    let mut aligned = AlignedVec::<16>::with_capacity(head.len());
    aligned.extend_from_slice(head);
    let head = rkyv::from_bytes::<Head, rancor::Error>(&aligned).ok()?;
    let mut data: [Cow<'static, [u8]>; COLUMNS] = Default::default();
    for (column, bytes) in data.iter_mut().zip(head.columns) {
        let taken;
        (taken, rest) = rest.split_at_checked(usize::try_from(bytes).ok()?)?;
        *column = Cow::Owned(taken.to_vec());
    }
    let columns = Columns {
        samples: head.samples,
        data,
        names: head.names,
        bad: head.bad,
    };
    columns.check().ok()?;
    let shard = Shard {
        path: head.path,
        bytes: head.bytes,
        etag: head.etag,
        modified_ms: head.modified_ms,
    };
    Some((shard, columns))
}
