//! All shards into one file, in one pass, a shard at a time.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufWriter, Seek, SeekFrom, Write},
    path::Path,
};

use super::{
    columns::{COLUMNS, Column, Columns, PART_BYTES, number32, part, part_entry, unpacked},
    file::{ALIGN, BAD_ENDS, BAD_IDS, BAD_TEXT, Entry, Header, PREFIX, SECTIONS, Section, encode},
    journal::Volume,
};
use crate::{dataset::sample::Shard, plan::Size};

/// Samples of one dataset: plans number them with 32 bits.
pub const MAX_SAMPLES: u64 = u32::MAX as u64;
/// Buffered for each section: few, large writes to ten places of one file.
const BUFFER_BYTES: usize = 1 << 20;

/// A file being written.
pub(super) struct Writer {
    sections: Vec<Out>,
    /// Where the header will be.
    end: u64,
    header: Header,
    fingerprint: blake3::Hasher,
}

/// One section being written.
struct Out {
    file: BufWriter<File>,
    hasher: blake3::Hasher,
    at: u64,
    bytes: u64,
    written: u64,
}

impl Writer {
    /// Begins a file for shards that take so much.
    pub(super) fn begin<'a>(
        path: &Path,
        format: &str,
        volumes: impl Iterator<Item = &'a Volume>,
    ) -> io::Result<Self> {
        let (total, mut present) = sum(volumes);
        // One that every shard leaves out is left out; else those that do so are filled up.
        for column in Column::ALL {
            if let Some(width) = column.width()
                && present[column as usize] > 0
            {
                present[column as usize] = total.samples * width as u64;
            }
        }
        let bad = [total.bad * 8, total.bad * 8, total.bad_text];
        File::create(path)?;
        let mut end = PREFIX as u64;
        let mut sections = Vec::with_capacity(SECTIONS);
        for bytes in present.into_iter().chain(bad) {
            let mut file = OpenOptions::new().write(true).open(path)?;
            file.seek(SeekFrom::Start(end))?;
            sections.push(Out {
                file: BufWriter::with_capacity(BUFFER_BYTES, file),
                hasher: blake3::Hasher::new(),
                at: end,
                bytes,
                written: 0,
            });
            end = (end + bytes).next_multiple_of(ALIGN);
        }
        Ok(Self {
            sections,
            end,
            header: Header {
                format: format.to_owned(),
                samples: 0,
                fingerprint: [0; 32],
                names: Vec::new(),
                shards: Vec::new(),
                sections: Default::default(),
            },
            fingerprint: blake3::Hasher::new(),
        })
    }

    /// Adds the next shard.
    pub(super) fn add(&mut self, shard: &Shard, columns: &Columns<'_>) -> io::Result<()> {
        let shard = shard.clone();
        self.header.shards.push(Entry {
            path: shard.path,
            bytes: shard.bytes,
            etag: shard.etag,
            modified_ms: shard.modified_ms,
            first: self.header.samples,
            keys: self.sections[Column::Keys as usize].written,
            parts: self.sections[Column::Parts as usize].written / PART_BYTES as u64,
            clips: self.sections[Column::Clips as usize].written,
        });
        self.identify(columns);
        let names: Vec<u32> = columns.names.iter().map(|name| self.name(name)).collect();
        for column in Column::ALL {
            let out = &mut self.sections[column as usize];
            let bytes = columns.column(column);
            match column.width() {
                Some(width) if bytes.is_empty() && out.bytes > 0 => {
                    out.fill(columns.samples * width as u64)?;
                }
                None if column == Column::Parts => {
                    for entry in bytes.as_chunks().0 {
                        let (span, name) = part(entry);
                        let name = names.get(name as usize).copied().unwrap_or(u32::MAX);
                        out.put(&part_entry(span, name))?;
                    }
                }
                _ => out.put(bytes)?,
            }
        }
        for (at, reason) in &columns.bad {
            self.sections[BAD_IDS].put(&(self.header.samples + at).to_le_bytes())?;
            self.sections[BAD_TEXT].put(reason.as_bytes())?;
            let end = self.sections[BAD_TEXT].written;
            self.sections[BAD_ENDS].put(&end.to_le_bytes())?;
        }
        self.header.samples += columns.samples;
        Ok(())
    }

    /// Writes header and prefix, and waits for the disk.
    pub(super) fn finish(mut self, path: &Path) -> io::Result<()> {
        for (section, out) in self.header.sections.iter_mut().zip(self.sections) {
            if out.written != out.bytes {
                return Err(io::Error::other("a section of another length than planned"));
            }
            // Errors that a drop would swallow.
            out.file
                .into_inner()
                .map_err(io::IntoInnerError::into_error)?;
            *section = Section {
                at: out.at,
                bytes: out.bytes,
                hash: *out.hasher.finalize().as_bytes(),
            };
        }
        self.header.fingerprint = *self.fingerprint.finalize().as_bytes();
        let (prefix, header) = encode(&self.header, self.end).map_err(io::Error::other)?;
        let mut file = OpenOptions::new().write(true).open(path)?;
        file.seek(SeekFrom::Start(self.end))?;
        file.write_all(&header)?;
        file.rewind()?;
        file.write_all(&prefix)?;
        file.sync_all()
    }

    /// The number of a part's name.
    fn name(&mut self, name: &str) -> u32 {
        let names = &mut self.header.names;
        let at = names.iter().position(|known| known == name);
        at.unwrap_or_else(|| {
            names.push(name.to_owned());
            names.len() - 1
        }) as u32
    }

    fn identify(&mut self, columns: &Columns<'_>) {
        let hasher = &mut self.fingerprint;
        // Lengths first, so that no two lists of samples are the same bytes.
        let text = |hasher: &mut blake3::Hasher, text: &str| {
            hasher.update(&(text.len() as u64).to_le_bytes());
            hasher.update(text.as_bytes());
        };
        for at in 0..columns.samples {
            text(hasher, columns.key(at));
            let bytes = number32(columns.column(Column::Bytes), at);
            let size = unpacked(number32(columns.column(Column::Sizes), at));
            let Size { width, height, .. } = size.unwrap_or(Size::new(0, 0));
            let parts = columns.parts(at);
            hasher.update(&u64::from(bytes).to_le_bytes());
            hasher.update(&width.to_le_bytes());
            hasher.update(&height.to_le_bytes());
            hasher.update(&(parts.len() as u64).to_le_bytes());
            for entry in parts {
                let (span, name) = part(entry);
                let name = columns.names.get(name as usize);
                text(hasher, name.map_or("", String::as_str));
                hasher.update(&u64::from(span.bytes).to_le_bytes());
            }
            // Nothing of an image: its fingerprint is that of before there were videos.
            let clip = columns.clip(at);
            if !clip.is_empty() {
                hasher.update(&(clip.len() as u64).to_le_bytes());
                hasher.update(clip);
            }
        }
    }
}

impl Out {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.update(bytes);
        self.written += bytes.len() as u64;
        self.file.write_all(bytes)
    }

    fn fill(&mut self, mut zeros: u64) -> io::Result<()> {
        let block = [0; 4096];
        while zeros > 0 {
            let some = zeros.min(block.len() as u64);
            self.put(&block[..some as usize])?;
            zeros -= some;
        }
        Ok(())
    }
}

/// What the shards take together.
fn sum<'a>(volumes: impl Iterator<Item = &'a Volume>) -> (Volume, [u64; COLUMNS]) {
    let (mut total, mut columns) = (Volume::default(), [0; COLUMNS]);
    for volume in volumes {
        total.samples += volume.samples;
        total.bad += volume.bad;
        total.bad_text += volume.bad_text;
        for (sum, bytes) in columns.iter_mut().zip(volume.columns) {
            *sum += bytes;
        }
    }
    (total, columns)
}
