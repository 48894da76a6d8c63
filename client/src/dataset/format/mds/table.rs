//! `index.json`, and the table of offsets at the start of each shard.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Deserialize;

use super::{Columns, MAX_DECODED_BYTES, Raw};

/// Encodings that hold one image.
const IMAGES: [&str; 4] = ["jpeg", "png", "jpeg_array", "pil"];
/// Samples of one shard; each takes 4 bytes of the table.
const MAX_SAMPLES: usize = 64 * 1024 * 1024;

#[derive(Deserialize)]
struct IndexFile {
    version: u32,
    shards: Vec<ShardEntry>,
}

#[derive(Deserialize)]
struct ShardEntry {
    format: String,
    column_names: Vec<String>,
    column_encodings: Vec<String>,
    column_sizes: Vec<Option<u32>>,
    compression: Option<String>,
    samples: usize,
    raw_data: FileEntry,
    zip_data: Option<FileEntry>,
}

#[derive(Deserialize)]
struct FileEntry {
    basename: String,
    bytes: u64,
}

/// All shards by the path of their uncompressed form.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) shards: BTreeMap<String, ShardTable>,
    /// From the path of a compressed form.
    zipped: BTreeMap<String, String>,
}

/// What the index says of one shard.
#[derive(Clone, Debug)]
pub(super) struct ShardTable {
    columns: Vec<Column>,
    pub(super) samples: usize,
    raw_bytes: u64,
    pub(super) zip: Option<String>,
    compression: Option<String>,
}

/// One column.
#[derive(Clone, Debug)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) encoding: String,
    /// Its index among the columns.
    pub(super) at: usize,
    /// Bytes of every value, where they are the same.
    fixed: Option<u32>,
}

impl Table {
    pub(super) fn parse(json: &[u8]) -> Result<Self, String> {
        let file: IndexFile =
            serde_json::from_slice(json).map_err(|error| format!("cannot be read: {error}"))?;
        if file.version != 2 {
            let version = file.version;
            return Err(format!("is of version {version}; only version 2 is known"));
        }
        let (mut shards, mut zipped) = (BTreeMap::new(), BTreeMap::new());
        for entry in file.shards {
            let path = entry.raw_data.basename.replace('\\', "/");
            let shard = ShardTable::new(entry)
                .map_err(|reason| format!("says of `{path}` what makes no sense: {reason}"))?;
            if let Some(zip) = &shard.zip {
                zipped.insert(zip.clone(), path.clone());
            }
            if shards.insert(path.clone(), shard).is_some() {
                return Err(format!("names `{path}` twice"));
            }
        }
        Ok(Self { shards, zipped })
    }

    /// A shard by the path of either form, and whether that form is compressed.
    pub(super) fn shard(&self, path: &str) -> Result<(&ShardTable, bool), String> {
        let (raw, zipped) = match self.zipped.get(path) {
            Some(raw) => (raw.as_str(), true),
            None => (path, false),
        };
        let shard = self.shards.get(raw);
        let shard = shard.ok_or_else(|| {
            format!("`{path}` is no longer in index.json: index the dataset again")
        })?;
        Ok((shard, zipped))
    }
}

impl ShardTable {
    fn new(entry: ShardEntry) -> Result<Self, String> {
        if entry.format != "mds" {
            let format = entry.format;
            return Err(format!("its format is {format}, not mds"));
        }
        let count = entry.column_names.len();
        if count != entry.column_encodings.len() || count != entry.column_sizes.len() {
            return Err("names, encodings and sizes of columns differ in number".into());
        }
        if entry.samples > MAX_SAMPLES {
            let samples = entry.samples;
            return Err(format!("it has {samples} samples, over {MAX_SAMPLES}"));
        }
        let columns = entry.column_names.into_iter().zip(entry.column_encodings);
        let columns = columns.zip(entry.column_sizes).enumerate();
        let columns = columns.map(|(at, ((name, encoding), fixed))| Column {
            name,
            // `ndarray:float32:3` and the like: the kind, then what it holds.
            encoding,
            at,
            fixed,
        });
        Ok(Self {
            columns: columns.collect(),
            samples: entry.samples,
            raw_bytes: entry.raw_data.bytes,
            zip: entry.zip_data.map(|zip| zip.basename.replace('\\', "/")),
            compression: entry.compression,
        })
    }

    pub(super) fn column(&self, name: &str) -> Result<Column, String> {
        let found = self.columns.iter().find(|column| column.name == name);
        found.cloned().ok_or_else(|| {
            let there = self.columns.iter().map(|column| column.name.as_str());
            let there: Vec<_> = there.collect();
            format!("has no column `{name}`, only {there:?}: name one of these")
        })
    }

    /// The image and the parts that are wanted.
    pub(super) fn choose(&self, wanted: &Columns) -> Result<(Column, Vec<Column>), String> {
        let image = match &wanted.image {
            Some(name) => self.column(name)?,
            None => self.guess()?,
        };
        let known = [&IMAGES[..], &["bytes"]].concat();
        if !known.contains(&image.encoding.as_str()) {
            let Column { name, encoding, .. } = &image;
            return Err(format!(
                "column `{name}` is {encoding}, not one of {known:?}"
            ));
        }
        let mut parts = match &wanted.parts {
            Some(names) => {
                let parts = names.iter().map(|name| self.column(name));
                parts.collect::<Result<Vec<_>, _>>()?
            }
            None => {
                let parts = self.columns.iter().filter(|column| column.is_plain());
                parts.cloned().collect()
            }
        };
        parts.retain(|column| column.at != image.at);
        parts.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok((image, parts))
    }

    fn guess(&self) -> Result<Column, String> {
        for kinds in [&IMAGES[..], &["bytes"]] {
            let columns = self.columns.iter();
            let can: Vec<_> = columns
                .filter(|column| kinds.contains(&column.encoding.as_str()))
                .collect();
            let named = can.iter().find(|column| column.name == "image");
            match (named, can.as_slice()) {
                (Some(column), _) => return Ok((*column).clone()),
                (None, [column]) => return Ok((*column).clone()),
                (None, []) => {}
                (None, several) => {
                    let names: Vec<_> = several.iter().map(|column| &column.name).collect();
                    return Err(format!(
                        "several columns can be the image: name one of {names:?}"
                    ));
                }
            }
        }
        let columns = self.columns.iter();
        let there: Vec<_> = columns
            .map(|column| format!("{} ({})", column.name, column.encoding))
            .collect();
        Err(format!(
            "has no image: its columns are {}",
            there.join(", ")
        ))
    }

    pub(super) fn decompress(&self, zip: &[u8]) -> Result<Bytes, String> {
        let kind = self.compression.as_deref().unwrap_or("none");
        if kind.split(':').next() != Some("zstd") {
            return Err(format!(
                "is compressed with {kind}, of which only zstd is known: decompress it, or write \
                 it with compression `zstd`"
            ));
        }
        if self.raw_bytes > MAX_DECODED_BYTES {
            let bytes = self.raw_bytes;
            return Err(format!(
                "has {bytes} bytes decompressed, over {MAX_DECODED_BYTES}: write smaller shards"
            ));
        }
        let raw = zstd::bulk::decompress(zip, self.raw_bytes as usize);
        let raw = raw.map_err(|error| format!("is truncated or damaged: zstd says {error}"))?;
        Ok(raw.into())
    }

    /// That the shard is the one that the index speaks of.
    pub(super) fn check(&self, raw: &Raw) -> Result<(), String> {
        let (samples, expected) = (word(&raw.bytes_at(0, 4)?, 0), self.samples);
        if samples as usize != expected {
            return Err(format!(
                "has {samples} samples, but index.json says {expected}: one of the two is of \
                 another version of the dataset; upload it again"
            ));
        }
        if raw.len() > self.raw_bytes {
            let (bytes, expected) = (raw.len(), self.raw_bytes);
            return Err(format!(
                "has {bytes} bytes, but index.json says {expected}: one of the two is of another \
                 version of the dataset; upload it again"
            ));
        }
        Ok(())
    }

    /// Bytes before the first sample.
    pub(super) fn table_bytes(&self) -> u64 {
        4 * (self.samples as u64 + 2)
    }

    /// Start and end of each value of a sample.
    pub(super) fn spans(&self, raw: &Raw, row: usize) -> Result<Vec<(u64, u64)>, String> {
        if row >= self.samples {
            let samples = self.samples;
            return Err(format!("has {samples} samples, and no row {row}"));
        }
        let offsets = raw.bytes_at(4 + 4 * row as u64, 8)?;
        let (start, end) = (u64::from(word(&offsets, 0)), u64::from(word(&offsets, 4)));
        let variable = self.columns.iter().filter(|column| column.fixed.is_none());
        let head_bytes = 4 * variable.count() as u64;
        let head = raw.bytes_at(start, head_bytes)?;
        let (mut at, mut sizes) = (start + head_bytes, 0);
        let spans = self.columns.iter().map(|column| {
            let bytes = column.fixed.unwrap_or_else(|| {
                sizes += 4;
                word(&head, sizes - 4)
            });
            let from = at;
            at += u64::from(bytes);
            (from, at)
        });
        let spans: Vec<_> = spans.collect();
        if at != end {
            return Err(format!(
                "is damaged: sample {row} ends at byte {end}, but its values at {at}"
            ));
        }
        Ok(spans)
    }
}

impl Column {
    /// Text and numbers, which are small and say something to a trainer.
    fn is_plain(&self) -> bool {
        let kind = self.encoding.split(':').next().unwrap_or_default();
        let plain = ["str", "json", "int", "uint", "float"];
        plain.iter().any(|start| kind.starts_with(start))
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    let word = bytes.get(at..at + 4).and_then(|word| word.try_into().ok());
    word.map_or(0, u32::from_le_bytes)
}
