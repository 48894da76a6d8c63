//! Optional: latents of earlier epochs and runs, on the trainer's own disk.
//!
//! One file an entry, named by the hash of everything that its content depends on. So an entry is
//! never outdated, only unused; processes share a folder without locks, since a name appears whole or
//! not at all; and a crash leaves nothing but a temporary file. Segments of many entries would save
//! inodes, but need an index that all processes agree on.

mod config;
mod counts;
mod draw;
mod embedder;
mod entry;
mod evict;
mod key;
mod noise;
mod space;
mod store;
mod writer;

use std::sync::Arc;

use bytes::Bytes;
use tokio::task::spawn_blocking;

pub use self::{
    config::{CacheConfig, CacheMode, CacheWhat, DEFAULT_KEEP, MAX_CACHE_BYTES, MIN_CACHE_BYTES},
    counts::CacheStats,
};
pub(crate) use self::{counts::Counts, embedder::CachedEmbedder, key::Recipe};
use self::{
    entry::HEADER_BYTES,
    key::Key,
    store::{Found, Store},
    writer::Writer,
};
use crate::{batch::Tensor, embed::Item, error::Error, plan::Size};

/// The cache of one run. Clones are the same one.
#[derive(Clone)]
pub(crate) struct Cache {
    inner: Arc<Inner>,
}

struct Inner {
    recipe: Recipe,
    store: Store,
    reads: bool,
    writer: Option<Writer>,
    counts: Arc<Counts>,
}

/// An item as it was looked up.
struct Looked {
    item: Item,
    key: Key,
    tensor: Option<Tensor>,
}

impl Cache {
    /// # Errors
    /// [`Error::Config`] if the folder cannot be used.
    pub(crate) fn open(
        config: &CacheConfig,
        recipe: Recipe,
        counts: Arc<Counts>,
    ) -> Result<Self, Error> {
        let store = Store::open(config, &recipe.folder())?;
        let writer = config
            .mode
            .writes()
            .then(|| Writer::start(config, &store, counts.clone()))
            .transpose()?;
        let reads = config.mode.reads();
        let inner = Inner {
            recipe,
            store,
            reads,
            writer,
            counts,
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Looks items up, on a thread that may block. `bytes`: of one tensor. `None` if the runtime ends.
    async fn look_up(&self, size: Size, items: Vec<Item>, bytes: usize) -> Option<Vec<Looked>> {
        let cache = self.inner.clone();
        let look = move |mut item: Item| {
            let key = cache.recipe.key(size, &item);
            let tensor = match &mut item.named {
                // It was looked up before it was made.
                Some(named) => named.latent.take(),
                None => cache.get(&key, bytes),
            };
            Looked { item, key, tensor }
        };
        spawn_blocking(move || items.into_iter().map(look).collect())
            .await
            .ok()
    }

    /// Looks up what has a name, on a thread that may block. `bytes`: of one tensor.
    async fn known(&self, name: blake3::Hash, seed: u64, bytes: usize) -> Option<Tensor> {
        let cache = self.inner.clone();
        let look = move || cache.get(&cache.recipe.key_of(&name, seed), bytes);
        spawn_blocking(look).await.ok().flatten()
    }

    /// Keeps a tensor, soon.
    fn put(&self, key: Key, tensor: Bytes) {
        if let Some(writer) = &self.inner.writer {
            writer.put(key, tensor);
        }
    }

    /// Waits, for a while, until all that was put is on disk.
    pub(crate) fn flush(&self) {
        if let Some(writer) = &self.inner.writer {
            writer.flush();
        }
    }
}

impl Inner {
    fn get(&self, key: &Key, bytes: usize) -> Option<Tensor> {
        if !self.reads {
            return None;
        }
        if let Some(buffer) = self.writer.as_ref().and_then(|writer| writer.waiting(key)) {
            self.counts.hits.add(1);
            return Some(Tensor { buffer, offset: 0 });
        }
        match self.store.read(key, bytes) {
            Found::Whole(buffer) => {
                self.counts.hits.add(1);
                self.counts.read_bytes.add(buffer.len() as u64);
                Some(Tensor {
                    buffer,
                    offset: HEADER_BYTES,
                })
            }
            Found::Nothing => {
                self.counts.misses.add(1);
                None
            }
            Found::Damaged(damage) => {
                self.counts.misses.add(1);
                self.counts.corrupt.add(1);
                if self.counts.first(damage.word()) {
                    let path = self.store.path(key);
                    tracing::warn!(
                        path = %path.display(),
                        "cache: an entry {damage}; it is encoded again (said once, then counted)"
                    );
                }
                None
            }
        }
    }
}

/// Flushes the cache of a loader that ends: what it has encoded is not lost to the next.
pub(crate) struct FlushOnDrop(pub(crate) Option<Cache>);

impl Drop for FlushOnDrop {
    fn drop(&mut self) {
        if let Some(cache) = &self.0 {
            cache.flush();
        }
    }
}
