//! One chunk of images or clips in, latents out.

use std::sync::Arc;

use bytes::Bytes;
use preheat_proto::{
    Error as CallError, Filter, ItemCode, ItemMeta, META_VERSION, RequestMeta, Source,
    batch::archive, v1::EncodeRequest,
};
use tokio::time::Instant;
use tower::ServiceExt;

use crate::{
    batch::Tensor,
    config::Config,
    endpoint::EncodeCall,
    model::Model,
    plan::{Size, Transform},
    stack::EncodeStack,
    stats::{Recorder, Stage, Track},
};

/// One image or clip on its way.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    pub(crate) id: u64,
    pub(crate) seed: u64,
    pub(crate) transform: Transform,
    /// What the payloads are.
    pub(crate) source: Source,
    /// One a frame, or a whole video.
    pub(crate) payloads: Vec<Bytes>,
    /// The frames that are wanted of a video, by timestamp; else empty.
    pub(crate) times: Vec<i64>,
    /// Where the latent cache was asked before there were payloads.
    pub(crate) named: Option<Named>,
}

/// What the latent cache calls payloads before they are made.
#[derive(Clone, Debug)]
pub(crate) struct Named {
    pub(crate) name: blake3::Hash,
    /// What the cache has under it. Then there are no payloads.
    pub(crate) latent: Option<Tensor>,
}

/// An encoded chunk.
#[derive(Debug)]
pub(crate) struct Chunk {
    /// Each item's tensor, or why the item is bad.
    pub(crate) tensors: Vec<Result<Tensor, String>>,
}

/// Turns chunks into calls of the stack.
#[derive(Clone)]
pub(crate) struct Embedder {
    stack: EncodeStack,
    model: Arc<Model>,
    recorder: Recorder,
    filter: Filter,
}

impl Embedder {
    pub(crate) fn new(
        stack: EncodeStack,
        model: Arc<Model>,
        config: &Config,
        recorder: Recorder,
    ) -> Self {
        Self {
            stack,
            model,
            recorder,
            filter: config.filter,
        }
    }

    /// Encodes items that share an output size. Bad items fail one by one, in the chunk.
    pub(crate) async fn embed(
        &self,
        size: Size,
        items: Vec<Item>,
        (needed_at, track): (Instant, &Track),
    ) -> Result<Chunk, CallError> {
        if items.is_empty() {
            let tensors = Vec::new();
            return Ok(Chunk { tensors });
        }
        let start = Instant::now();
        let call = self.call(size, items, (needed_at, track))?;
        track.enter(Stage::Queue);
        let reply = self.stack.clone().oneshot(call).await?;
        let metrics = &self.recorder.metrics;
        metrics.times.call.record(start.elapsed().as_secs_f64());
        let tensors = reply.meta.view().items.iter();
        let tensors = tensors.map(|item| match ItemCode::from(item.code) {
            ItemCode::Ok => Ok(Tensor {
                buffer: reply.latents.clone(),
                // It was checked against the latents, so it fits.
                offset: item.offset.to_native() as usize,
            }),
            code if item.message.is_empty() => Err(format!("{code:?}")),
            _ => Err(item.message.as_str().to_owned()),
        });
        Ok(Chunk {
            tensors: tensors.collect(),
        })
    }

    fn call(
        &self,
        size: Size,
        items: Vec<Item>,
        (needed_at, track): (Instant, &Track),
    ) -> Result<EncodeCall, CallError> {
        let ids = items.iter().map(|item| item.id).collect();
        let meta = archive(&RequestMeta {
            width: size.width,
            height: size.height,
            frames: size.frames,
            dtype: self.model.sent.dtype,
            posterior: self.model.sent.posterior,
            scale: self.model.sent.scale,
            items: items.iter().map(|item| self.item(item)).collect(),
        })?;
        Ok(EncodeCall {
            cost_pixels: size.pixels() * items.len() as u64,
            request: EncodeRequest {
                meta_version: META_VERSION,
                model: self.model.name.clone(),
                fingerprint: self.model.fingerprint.clone(),
                meta,
                payloads: items.into_iter().flat_map(|item| item.payloads).collect(),
            },
            ids,
            expected: Arc::new(self.model.expected_sent(size)),
            needed_at,
            track: track.clone(),
            first_sent: Arc::default(),
        })
    }

    fn item(&self, item: &Item) -> ItemMeta {
        let Transform {
            source,
            resize,
            crop_x,
            crop_y,
            flip,
        } = item.transform;
        ItemMeta {
            id: item.id,
            seed: item.seed,
            source_width: source.width,
            source_height: source.height,
            resize_width: resize.width,
            resize_height: resize.height,
            crop_x,
            crop_y,
            payloads: item.payloads.len() as u32,
            source: item.source,
            filter: self.filter,
            flip,
            times: item.times.clone(),
        }
    }
}
