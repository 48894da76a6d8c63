//! The embedder with the cache before it: what is there is not asked for.

use std::sync::Arc;

use bytes::Bytes;
use preheat_proto::{Code, Error as CallError};
use tokio::{task::spawn_blocking, time::Instant};

use super::{Cache, CacheWhat, Looked, draw::Draw};
use crate::{
    batch::Tensor,
    config::Config,
    embed::{Chunk, Embedder, Item},
    error::Error,
    model::{Ask, Model},
    plan::Size,
    stats::Track,
};

/// An [`Embedder`], and a cache where the run has one.
#[derive(Clone)]
pub(crate) struct CachedEmbedder {
    embedder: Embedder,
    cache: Option<Cache>,
    model: Arc<Model>,
    /// Where the cache has moments.
    draw: Option<Arc<Draw>>,
}

/// A tensor or why there is none, and the seed to draw with.
type Answered = (u64, Result<Tensor, String>);

impl CachedEmbedder {
    /// # Errors
    /// [`Error::Model`] if the loader cannot draw for itself as it should.
    pub(crate) fn new(
        embedder: Embedder,
        cache: Option<Cache>,
        model: Arc<Model>,
        config: &Config,
    ) -> Result<Self, Error> {
        let what = config.cache.as_ref().map(|cache| cache.what);
        let draws = what == Some(CacheWhat::Moments);
        let draw = draws.then(|| Draw::new(&model.served, Ask::delivered(config)));
        let draw = draw.transpose().map_err(|reason| Error::Model {
            model: model.name.clone(),
            reason,
        })?;
        Ok(Self {
            embedder,
            cache,
            model,
            draw: draw.map(Arc::new),
        })
    }

    /// As [`Embedder::embed`]. Only what the cache does not have is sent, in one call.
    pub(crate) async fn embed(
        &self,
        size: Size,
        items: Vec<Item>,
        when: (Instant, &Track),
    ) -> Result<Chunk, CallError> {
        let Some(cache) = &self.cache else {
            return self.embedder.embed(size, items, when).await;
        };
        let bytes = self.bytes(size)?;
        let looked = cache.look_up(size, items, bytes).await;
        let looked = looked.ok_or_else(|| internal("a look into the cache panicked"))?;
        let missing = looked.iter().filter(|looked| looked.tensor.is_none());
        let missing = missing.map(|looked| looked.item.clone()).collect();
        let encoded = self.embedder.embed(size, missing, when).await?;
        let mut encoded = encoded.tensors.into_iter();
        let mut fresh = |key| {
            let encoded = encoded.next();
            let fresh = encoded.unwrap_or_else(|| Err("not answered".into()))?;
            cache.put(key, slice(&fresh, bytes));
            Ok(fresh)
        };
        let answered = looked.into_iter().map(|Looked { item, key, tensor }| {
            let tensor = tensor.map_or_else(|| fresh(key), Ok);
            (item.seed, tensor)
        });
        self.deliver(size, answered.collect(), bytes).await
    }

    /// Whether there is a cache.
    pub(crate) const fn caches(&self) -> bool {
        self.cache.is_some()
    }

    /// What the cache has of an item with a name, before it is made.
    pub(crate) async fn known(
        &self,
        size: Size,
        name: blake3::Hash,
        seed: u64,
    ) -> Result<Option<Tensor>, CallError> {
        let Some(cache) = &self.cache else {
            return Ok(None);
        };
        Ok(cache.known(name, seed, self.bytes(size)?).await)
    }

    /// Makes of tensors what is delivered, on a thread that may block where there is something to do.
    async fn deliver(
        &self,
        size: Size,
        answered: Vec<Answered>,
        bytes: usize,
    ) -> Result<Chunk, CallError> {
        let Some(draw) = self.draw.clone() else {
            let tensors = answered.into_iter().map(|(_, tensor)| tensor).collect();
            return Ok(Chunk { tensors });
        };
        let cell = self.model.served.spatial_compression;
        let [height, width] = [size.height, size.width].map(|side| (side / cell) as usize);
        // Channels are contiguous over all frames, and are drawn and normalised as one tall image's.
        let cells = [self.model.latent_frames(size) as usize * height, width];
        let drawn = move |(seed, tensor): Answered| {
            let buffer = draw.latent(&slice(&tensor?, bytes), cells, seed)?;
            Ok(Tensor { buffer, offset: 0 })
        };
        let tensors = spawn_blocking(move || answered.into_iter().map(drawn).collect()).await;
        let tensors = tensors.map_err(|_| internal("a draw from moments panicked"))?;
        Ok(Chunk { tensors })
    }

    /// Bytes of one tensor, without what aligns the next.
    fn bytes(&self, size: Size) -> Result<usize, CallError> {
        let expected = self.model.expected_sent(size);
        preheat_proto::dtype::tensor_bytes(&expected.shape, expected.dtype)
            .ok_or_else(|| internal("a tensor without a size"))
    }
}

/// Shares the buffer: the answer is held until the last of its tensors is written.
fn slice(tensor: &Tensor, bytes: usize) -> Bytes {
    tensor.buffer.slice(tensor.offset..tensor.offset + bytes)
}

fn internal(what: &str) -> CallError {
    CallError::new(Code::Internal, what)
}
