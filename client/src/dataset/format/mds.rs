//! Mosaic streaming's shards: an `index.json` that names them, samples behind a table of offsets.

mod table;
mod value;

use std::{
    collections::BTreeMap,
    io::Cursor,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use tokio::{runtime::Handle, task::spawn_blocking};

use self::table::{Column, ShardTable, Table};
use super::{
    Columns, Found, Located, MAX_DECODED_BYTES, Part, Sample, Shard, Span, Store, Version,
    recent::Recent,
};
use crate::{
    dataset::{probe, store::Window},
    error::Error,
    plan::Size,
};

/// Where the index is, below the dataset's place.
pub(super) const INDEX: &str = "index.json";
/// Bytes of an index: 100,000 shards of 50 columns.
const MAX_INDEX_BYTES: u64 = 256 * 1024 * 1024;
/// What is fetched at once while scanning.
const STEP_BYTES: u64 = 1024 * 1024;
/// Shards asked for at once, of a store that cannot list them.
const HEADS: usize = 32;

/// MDS shards, with what was read of their index.
#[derive(Clone, Debug, Default)]
pub struct Mds(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    columns: Columns,
    /// And the store whose it is.
    table: Mutex<Option<(String, Arc<Table>)>>,
    /// Shards that were compressed.
    raw: Recent<Version, Bytes>,
}

impl Default for Inner {
    fn default() -> Self {
        Self {
            columns: Columns::default(),
            table: Mutex::default(),
            raw: Recent::new(MAX_DECODED_BYTES),
        }
    }
}

impl Mds {
    pub(super) fn new(columns: Columns) -> Self {
        Self(Arc::new(Inner {
            columns,
            ..Inner::default()
        }))
    }

    pub(super) fn columns(&self) -> &Columns {
        &self.0.columns
    }

    pub(super) async fn shards(&self, store: &Store) -> Result<Vec<Shard>, Error> {
        let table = self.load(store).await;
        let table = table.map_err(|reason| Error::dataset(store.uri(), reason))?;
        let listed: Option<BTreeMap<String, Shard>> = match store.list().await {
            Ok(all) => Some(all.into_iter().map(|at| (at.path.clone(), at)).collect()),
            Err(_) => None,
        };
        let wanted: Vec<_> = table.shards.iter().collect();
        // By number: a closure over borrowed items makes futures that cannot change threads.
        let shards = stream::iter(0..wanted.len())
            .map(|at| find(store, listed.as_ref(), wanted[at].0, wanted[at].1))
            .buffer_unordered(HEADS)
            .try_collect();
        let shards: Result<Vec<_>, _> = shards.await;
        let mut shards = shards.map_err(|reason| Error::dataset(store.uri(), reason))?;
        if shards.is_empty() {
            let reason = format!("its {INDEX} names no shards: write the dataset again");
            return Err(Error::dataset(store.uri(), reason));
        }
        shards.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        Ok(shards)
    }

    async fn load(&self, store: &Store) -> Result<Arc<Table>, String> {
        let index = store.get(INDEX, MAX_INDEX_BYTES).await?;
        let table = Table::parse(&index).map_err(|reason| format!("its {INDEX} {reason}"))?;
        let table = Arc::new(table);
        *self.lock() = Some((store.uri().to_owned(), table.clone()));
        Ok(table)
    }

    async fn table(&self, store: &Store) -> Result<Arc<Table>, String> {
        let held = self.lock().clone();
        match held {
            Some((uri, table)) if uri == store.uri() => Ok(table),
            _ => self.load(store).await,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<(String, Arc<Table>)>> {
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) async fn scan(&self, store: &Store, shard: &Shard) -> Result<Vec<Found>, String> {
        let table = self.table(store).await?;
        let (about, zipped) = table.shard(&shard.path)?;
        let name = store.name(&shard.path);
        let wanted = about.choose(&self.0.columns);
        let (image, parts) = wanted.map_err(|reason| format!("{name}: {reason}"))?;
        let raw = if zipped {
            Some(self.raw(store, shard, about).await?)
        } else {
            None
        };
        let (store, shard, handle) = (store.clone(), shard.clone(), Handle::current());
        let about = about.clone();
        let scanned = spawn_blocking(move || {
            let raw = match raw {
                Some(raw) => Raw::Held(raw),
                None => {
                    let window = Window::new(&store, &shard, STEP_BYTES, &handle)?;
                    let table = window.bytes_at(0, about.table_bytes().min(shard.bytes));
                    let table = table.map_err(|error| error.to_string())?;
                    Raw::Object(window, table)
                }
            };
            let scan = Scan {
                raw,
                about,
                image,
                parts,
                shard,
            };
            let found = scan.run();
            match scan.raw.failure() {
                Some(failure) => Err(failure),
                None => found.map_err(|reason| format!("{name}: {reason}")),
            }
        });
        scanned.await.map_err(|error| error.to_string())?
    }

    /// A compressed shard, decompressed.
    async fn raw(&self, store: &Store, shard: &Shard, about: &ShardTable) -> Result<Bytes, String> {
        let key = store.version(shard);
        let load = async {
            let zip = store.range(shard, 0..shard.bytes).await?;
            let (name, about) = (store.name(&shard.path), about.clone());
            let raw = spawn_blocking(move || about.decompress(&zip)).await;
            let raw = raw.map_err(|error| error.to_string())?;
            let raw = raw.map_err(|reason| format!("{name}: {reason}"))?;
            let bytes = raw.len() as u64;
            Ok((raw, bytes))
        };
        self.0.raw.get(key, load).await
    }

    pub(super) async fn read(
        &self,
        store: &Store,
        shard: &Shard,
        found: &Located<'_>,
    ) -> Result<Sample, String> {
        let table = self.table(store).await?;
        let (about, zipped) = table.shard(&shard.path)?;
        let (image, _) = about.choose(&self.0.columns)?;
        let columns: Result<Vec<_>, String> = found
            .parts
            .iter()
            .map(|(name, _)| about.column(name))
            .collect();
        let columns = columns?;
        let mut values = if zipped {
            let raw = self.raw(store, shard, about).await?;
            let spans = about.spans(&Raw::Held(raw.clone()), found.image.at as usize)?;
            let wanted = std::iter::once(image.at).chain(columns.iter().map(|column| column.at));
            let cut = wanted.map(|at| raw.slice(spans[at].0 as usize..spans[at].1 as usize));
            cut.collect()
        } else {
            let spans = found.parts.iter().map(|(_, span)| span);
            let spans = std::iter::once(&found.image).chain(spans);
            let ranges = spans.map(|span| span.at..span.at + u64::from(span.bytes));
            store.ranges(shard, &ranges.collect::<Vec<_>>()).await?
        }
        .into_iter();
        let stored = values.next().unwrap_or_default();
        let parts = found.parts.iter().zip(&columns).zip(values);
        let parts = parts
            .map(|(((name, _), column), bytes)| Ok((name.clone(), value::text(column, bytes)?)));
        let parts = parts.collect::<Result<_, String>>()?;
        let image = if image.encoding == "pil" {
            let encoded = spawn_blocking(move || value::png(&stored)).await;
            encoded.map_err(|error| error.to_string())??
        } else {
            stored
        };
        Ok(Sample { image, parts })
    }
}

/// The object of a shard: as it is, else compressed.
async fn find(
    store: &Store,
    listed: Option<&BTreeMap<String, Shard>>,
    raw: &str,
    about: &ShardTable,
) -> Result<Shard, String> {
    for path in [Some(raw), about.zip.as_deref()].into_iter().flatten() {
        match listed {
            Some(listed) => {
                if let Some(shard) = listed.get(path) {
                    return Ok(shard.clone());
                }
            }
            None if store.has(path).await? => return store.head(path).await,
            None => {}
        }
    }
    Err(format!(
        "`{raw}` is not there, but its {INDEX} names it: upload it, or write the dataset again"
    ))
}

/// A shard's bytes, decompressed where they have to be.
enum Raw {
    /// And its table of offsets, because the window moves on.
    Object(Window, Bytes),
    Held(Bytes),
}

impl Raw {
    fn len(&self) -> u64 {
        match self {
            Self::Object(window, _) => window.len(),
            Self::Held(bytes) => bytes.len() as u64,
        }
    }

    fn bytes_at(&self, at: u64, bytes: u64) -> Result<Bytes, String> {
        let end = at.saturating_add(bytes);
        if end > self.len() {
            let len = self.len();
            return Err(format!("is truncated: has {len} bytes, too few for {end}"));
        }
        match self {
            Self::Object(_, table) if end <= table.len() as u64 => {
                Ok(table.slice(at as usize..end as usize))
            }
            Self::Object(window, _) => window.bytes_at(at, bytes).map_err(|e| e.to_string()),
            Self::Held(held) => Ok(held.slice(at as usize..end as usize)),
        }
    }

    fn size(&self, at: u64, bytes: u64) -> Result<Size, String> {
        match self {
            Self::Object(window, _) => probe::size(window.part(at, bytes), bytes),
            Self::Held(_) => probe::size(Cursor::new(self.bytes_at(at, bytes)?), bytes),
        }
    }

    fn failure(&self) -> Option<String> {
        match self {
            Self::Object(window, _) => window.failure(),
            Self::Held(_) => None,
        }
    }
}

struct Scan {
    raw: Raw,
    about: ShardTable,
    image: Column,
    parts: Vec<Column>,
    shard: Shard,
}

impl Scan {
    fn run(&self) -> Result<Vec<Found>, String> {
        self.about.check(&self.raw)?;
        let rows = 0..self.about.samples;
        let found = rows.map(|row| {
            let key = format!("{}#{row}", self.shard.path);
            self.sample(row, &key).unwrap_or_else(|reason| {
                let name = &self.shard.path;
                super::bad(key, format!("shard `{name}`: {reason}"))
            })
        });
        Ok(found.collect())
    }

    fn sample(&self, row: usize, key: &str) -> Result<Found, String> {
        let spans = self.about.spans(&self.raw, row)?;
        let held = matches!(self.raw, Raw::Held(_));
        let span = |column: &Column, bytes: u32| Span {
            at: if held { row as u64 } else { spans[column.at].0 },
            bytes,
        };
        let (start, end) = spans[self.image.at];
        let size = if self.image.encoding == "pil" {
            let head = self.raw.bytes_at(start, value::PIL_HEAD.min(end - start))?;
            value::pil_size(&head)
        } else {
            // A part that is cut off is a bad sample, not one of fewer bytes.
            self.raw.bytes_at(end, 0)?;
            self.raw.size(start, end - start)
        };
        let image = super::image_bytes(end - start)?;
        let parts = self.parts.iter().map(|column| {
            let (start, end) = spans[column.at];
            self.raw.bytes_at(end, 0)?;
            let bytes = super::part_bytes(&column.name, end - start)?;
            Ok(Part {
                name: column.name.clone(),
                span: span(column, bytes),
            })
        });
        Ok(Found {
            key: key.to_owned(),
            image: span(&self.image, image),
            size: Ok(size?),
            parts: parts.collect::<Result<_, String>>()?,
            clip: Vec::new(),
        })
    }
}
