//! The embedder with the cache before it: what is there is not asked for.

use std::sync::Arc;

use bytes::Bytes;
use preheat_proto::{Code, Error as CallError};
use tokio::time::Instant;

use super::{Cache, Looked};
use crate::{
    batch::Tensor,
    embed::{Chunk, Embedder, Item},
    model::Model,
    plan::Size,
};

/// An [`Embedder`], and a cache where the run has one.
#[derive(Clone)]
pub(crate) struct CachedEmbedder {
    embedder: Embedder,
    cache: Option<Cache>,
    model: Arc<Model>,
}

impl CachedEmbedder {
    pub(crate) fn new(embedder: Embedder, cache: Option<Cache>, model: Arc<Model>) -> Self {
        Self {
            embedder,
            cache,
            model,
        }
    }

    /// As [`Embedder::embed`]. Only what the cache does not have is sent, in one call.
    pub(crate) async fn embed(
        &self,
        size: Size,
        items: Vec<Item>,
        needed_at: Instant,
    ) -> Result<Chunk, CallError> {
        let Some(cache) = &self.cache else {
            return self.embedder.embed(size, items, needed_at).await;
        };
        let bytes = self.bytes(size)?;
        let looked = cache.look_up(size, items, bytes).await;
        let looked = looked.ok_or_else(|| internal("a look into the cache panicked"))?;
        let missing = looked.iter().filter(|looked| looked.tensor.is_none());
        let missing = missing.map(|looked| looked.item.clone()).collect();
        let encoded = self.embedder.embed(size, missing, needed_at).await?;
        let mut encoded = encoded.tensors.into_iter();
        let tensors = looked.into_iter().map(|Looked { key, tensor, .. }| {
            if let Some(tensor) = tensor {
                return Ok(tensor);
            }
            let fresh = encoded
                .next()
                .unwrap_or_else(|| Err("not answered".into()))?;
            cache.put(key, slice(&fresh, bytes));
            Ok(fresh)
        });
        Ok(Chunk {
            tensors: tensors.collect(),
        })
    }

    /// Bytes of one tensor, without what aligns the next.
    fn bytes(&self, size: Size) -> Result<usize, CallError> {
        let expected = self.model.expected(size);
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
