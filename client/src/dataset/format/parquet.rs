//! Parquet files whose rows hold encoded images, as Hugging Face `datasets` writes them.

mod columns;
mod rows;
mod value;

use std::{io::Cursor, sync::Arc};

use bytes::Bytes;
use parquet::{
    errors::ParquetError,
    file::{
        metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader},
        reader::{ChunkReader, Length},
    },
};
use tokio::{runtime::Handle, task::spawn_blocking};

use self::{columns::Chosen, rows::Rows};
use super::{
    Columns, Found, Located, MAX_DECODED_BYTES, Part, Sample, Shard, Span, Store, Version,
    recent::Recent,
};
use crate::dataset::{probe, store::Window};

/// What is fetched at once while scanning: pages are about 1 MiB.
const SCAN_BYTES: u64 = 4 * 1024 * 1024;
/// What is fetched at once for one sample: its page's length is known where there is a page index,
/// and else pages before it are walked.
const READ_BYTES: u64 = 64 * 1024;
/// What is fetched of a file's end at first: the footer of most.
const FOOTER_BYTES: u64 = 64 * 1024;
/// Footers that are held.
const MAX_FOOTER_BYTES: u64 = 128 * 1024 * 1024;

/// Parquet files, with what was decoded of them last.
#[derive(Clone, Debug)]
pub struct Parquet(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    columns: Columns,
    footers: Recent<Version, Arc<ParquetMetaData>>,
    /// Values of the image column: of a page, or of a row group without page index.
    images: Recent<(Version, usize, usize), Arc<Rows>>,
    /// All parts of a row group.
    parts: Recent<(Version, usize), Arc<Vec<Rows>>>,
}

impl Default for Parquet {
    fn default() -> Self {
        Self::new(Columns::default())
    }
}

impl Parquet {
    pub(super) fn new(columns: Columns) -> Self {
        Self(Arc::new(Inner {
            columns,
            footers: Recent::new(MAX_FOOTER_BYTES),
            images: Recent::new(MAX_DECODED_BYTES),
            parts: Recent::new(MAX_DECODED_BYTES / 4),
        }))
    }

    pub(super) fn columns(&self) -> &Columns {
        &self.0.columns
    }

    pub(super) async fn scan(&self, store: &Store, shard: &Shard) -> Result<Vec<Found>, String> {
        let footer = self.footer(store, shard).await?;
        let (columns, name) = (self.0.columns.clone(), store.name(&shard.path));
        let scanned = blocking(store, shard, SCAN_BYTES, move |file, shard| {
            let chosen = Chosen::new(&footer, &columns)?;
            let mut found = Vec::new();
            for group in 0..footer.num_row_groups() {
                let damaged = scan_group(&file, &footer, &chosen, group, |row| {
                    let key = format!("{}#{}", shard.path, found.len());
                    let at = found.len() as u64;
                    found.push(row.found(key, at));
                });
                damaged.map_err(|reason| format!("row group {group}: {reason}"))?;
            }
            Ok(found)
        });
        scanned.await.map_err(|reason| format!("{name}: {reason}"))
    }

    async fn footer(&self, store: &Store, shard: &Shard) -> Result<Arc<ParquetMetaData>, String> {
        let load = async {
            let read = |file: File, _: Shard| {
                // Held by the window for the parser, which would ask for it piece by piece.
                let end = file.0.len().min(FOOTER_BYTES);
                let held = file.0.bytes_at(file.0.len() - end, end);
                held.map_err(|error| error.to_string())?;
                let reader = ParquetMetaDataReader::new()
                    .with_column_index_policy(PageIndexPolicy::Skip)
                    .with_offset_index_policy(PageIndexPolicy::Optional);
                reader.parse_and_finish(&file).map_err(damaged)
            };
            let footer = blocking(store, shard, READ_BYTES, read).await;
            let name = store.name(&shard.path);
            let footer = footer.map_err(|reason| {
                format!("{name} is truncated, or no Parquet file ({reason}): write it again")
            })?;
            let bytes = footer.memory_size() as u64;
            Ok((Arc::new(footer), bytes))
        };
        self.0.footers.get(store.version(shard), load).await
    }

    pub(super) async fn read(
        &self,
        store: &Store,
        shard: &Shard,
        found: &Located<'_>,
    ) -> Result<Sample, String> {
        let footer = self.footer(store, shard).await?;
        let name = store.name(&shard.path);
        let chosen = Chosen::new(&footer, &self.0.columns);
        let chosen = Arc::new(chosen.map_err(|reason| format!("{name}: {reason}"))?);
        let (group, row) = locate(&footer, found.image.at).ok_or_else(|| {
            let (at, rows) = (found.image.at, footer.file_metadata().num_rows());
            format!("{name} has {rows} rows, and no row {at}: index the dataset again")
        })?;
        let image = self
            .image(store, shard, (&footer, &chosen), (group, row))
            .await?;
        if image.len() as u64 != u64::from(found.image.bytes) {
            let (bytes, expected) = (image.len(), found.image.bytes);
            return Err(format!(
                "{name} has {bytes} bytes where {expected} were indexed: index the dataset again"
            ));
        }
        if found.parts.is_empty() {
            let parts = Vec::new();
            return Ok(Sample { image, parts });
        }
        let columns = self.parts(store, shard, (&footer, &chosen), group).await?;
        let parts = found.parts.iter().map(|(part, _)| {
            let at = chosen.parts.iter().position(|column| column.name == **part);
            let at = at.ok_or_else(|| {
                format!("{name}: column `{part}` was indexed, but is not chosen: index again")
            })?;
            let value = columns[at].value(row)?;
            Ok((part.clone(), value.unwrap_or_default()))
        });
        let parts = parts.collect::<Result<_, String>>()?;
        Ok(Sample { image, parts })
    }

    /// One image, with those of its page.
    async fn image(
        &self,
        store: &Store,
        shard: &Shard,
        (footer, chosen): (&Arc<ParquetMetaData>, &Arc<Chosen>),
        (group, row): (usize, usize),
    ) -> Result<Bytes, String> {
        let leaf = chosen.image;
        let rows = rows::unit(footer, group, leaf, row);
        let key = (store.version(shard), group, rows.start);
        let footer = footer.clone();
        let load = async {
            let name = store.name(&shard.path);
            let read = blocking(store, shard, READ_BYTES, move |file, _| {
                rows::bytes(&file, &footer, (group, leaf), rows)
            });
            let read = read.await.map_err(|reason| format!("{name}: {reason}"))?;
            let bytes = read.held_bytes();
            Ok((Arc::new(read), bytes))
        };
        let rows = self.0.images.get(key, load).await?;
        let image = rows.value(row)?;
        image.ok_or_else(|| "has no image: its value is null".into())
    }

    async fn parts(
        &self,
        store: &Store,
        shard: &Shard,
        (footer, chosen): (&Arc<ParquetMetaData>, &Arc<Chosen>),
        group: usize,
    ) -> Result<Arc<Vec<Rows>>, String> {
        let (footer, chosen) = (footer.clone(), chosen.clone());
        let load = async {
            let name = store.name(&shard.path);
            let read = blocking(store, shard, SCAN_BYTES, move |file, _| {
                value::parts(&file, &footer, &chosen, group)
            });
            let read = read.await.map_err(|reason| format!("{name}: {reason}"))?;
            let bytes = read.iter().map(Rows::held_bytes).sum();
            Ok((Arc::new(read), bytes))
        };
        self.0.parts.get((store.version(shard), group), load).await
    }
}

/// What the scan sees of one row.
struct Row<'a> {
    image: Option<Bytes>,
    parts: Vec<(&'a str, Result<Option<Bytes>, String>)>,
}

impl Row<'_> {
    fn found(self, key: String, at: u64) -> Found {
        self.whole(&key, at)
            .unwrap_or_else(|reason| super::bad(key, reason))
    }

    fn whole(self, key: &str, at: u64) -> Result<Found, String> {
        let image = self.image.ok_or("has no image: its value is null")?;
        let bytes = super::image_bytes(image.len() as u64)?;
        let size = probe::size(Cursor::new(&image), u64::from(bytes))?;
        let mut parts = Vec::new();
        for (name, value) in self.parts {
            // What is null is not there.
            if let Some(value) = value? {
                let bytes = super::part_bytes(name, value.len() as u64)?;
                let (name, span) = (name.to_owned(), Span { at, bytes });
                parts.push(Part { name, span });
            }
        }
        Ok(Found {
            key: key.to_owned(),
            image: Span { at, bytes },
            size: Ok(size),
            parts,
            clip: Vec::new(),
        })
    }
}

fn scan_group(
    file: &File,
    footer: &ParquetMetaData,
    chosen: &Chosen,
    group: usize,
    mut each: impl FnMut(Row<'_>),
) -> Result<(), String> {
    let columns = value::parts(file, footer, chosen, group)?;
    rows::each(file, footer, (group, chosen.image), |row, image| {
        let parts = chosen.parts.iter().zip(&columns);
        let parts = parts.map(|(column, rows)| (column.name.as_str(), rows.value(row)));
        let parts = parts.collect();
        each(Row { image, parts });
    })
}

/// Row group of a row, and its place in it.
fn locate(footer: &ParquetMetaData, row: u64) -> Option<(usize, usize)> {
    let mut left = row;
    for (at, group) in footer.row_groups().iter().enumerate() {
        let rows = u64::try_from(group.num_rows()).ok()?;
        if left < rows {
            return Some((at, usize::try_from(left).ok()?));
        }
        left -= rows;
    }
    None
}

fn damaged(error: ParquetError) -> String {
    format!("damaged: {error}")
}

/// Runs a parser, which reads as it goes, where it may block; a store's failure is told as such.
async fn blocking<T: Send + 'static>(
    store: &Store,
    shard: &Shard,
    step: u64,
    parse: impl FnOnce(File, Shard) -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    let (store, shard, handle) = (store.clone(), shard.clone(), Handle::current());
    let parsed = spawn_blocking(move || {
        let window = Window::new(&store, &shard, step, &handle)?;
        let parsed = parse(File(window.clone()), shard);
        window.failure().map_or(parsed, Err)
    });
    // A panic of the parser is a damaged file.
    parsed
        .await
        .unwrap_or_else(|error| Err(format!("damaged: the parser gave up: {error}")))
}

/// A window as the parser wants it.
struct File(Window);

impl Length for File {
    fn len(&self) -> u64 {
        self.0.len()
    }
}

impl ChunkReader for File {
    type T = Window;

    fn get_read(&self, start: u64) -> parquet::errors::Result<Window> {
        Ok(self.0.part(start, self.0.len().saturating_sub(start)))
    }

    fn get_bytes(&self, start: u64, length: usize) -> parquet::errors::Result<Bytes> {
        Ok(self.0.bytes_at(start, length as u64)?)
    }
}
