//! The model of a run: chosen by name at the start, pinned by fingerprint until the end.

use std::time::Duration;

use preheat_proto::{
    Code, DType, META_VERSION, Posterior, Scale,
    dtype::{tensor_bytes, tensor_stride},
    limits,
    v1::{InfoResponse, Limits, Model as Served},
};
use tokio::time::{Instant, sleep, timeout_at};

use crate::{
    config::Config,
    endpoint::{Endpoint, Expected},
    error::Error,
    plan::Size,
};

/// Pause between attempts to find a replica at the start.
const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// Output pixels of a chunk for a model that states no preference: 8 images of 512 by 512.
const DEFAULT_CHUNK_PIXELS: u64 = 8 * 512 * 512;

/// What the run needs to know of its model and of what replicas accept.
#[derive(Clone, Debug)]
pub struct Model {
    /// Its name at the endpoint.
    pub name: String,
    /// What every answer must carry.
    pub fingerprint: String,
    /// As the replica describes it.
    pub served: Served,
    /// The most one call may carry.
    max_items: u64,
    max_payload_bytes: u64,
    max_output_pixels: u64,
    chunk_pixels: u64,
    dtype: DType,
    posterior: Posterior,
    scale: Scale,
}

impl Model {
    /// Asks the replica what it serves, again and again until the connect timeout, and picks.
    pub(crate) async fn pin(endpoint: &Endpoint, config: &Config) -> Result<Self, Error> {
        let start = Instant::now();
        let deadline = start + config.connect_timeout;
        let mut reason = "no answer".to_owned();
        loop {
            match timeout_at(deadline, endpoint.info()).await {
                Ok(Ok(info)) => return Self::choose(info, config),
                Ok(Err(error)) if error.code == Code::NotAReplica => {
                    reason = "something answers there, but it is not a preheat replica".into();
                }
                Ok(Err(error)) if error.code == Code::Unauthenticated => {
                    return Err(Error::Refused {
                        endpoint: config.endpoint.clone(),
                        reason: error.message,
                    });
                }
                Ok(Err(error)) => reason = error.message,
                Err(_) => {}
            }
            let refused = reason.contains("not a preheat replica");
            if refused || Instant::now() + LOOK_AGAIN >= deadline {
                return Err(Error::Unreachable {
                    endpoint: config.endpoint.clone(),
                    waited_ms: start.elapsed().as_millis(),
                    reason,
                });
            }
            sleep(LOOK_AGAIN).await;
        }
    }

    fn choose(info: InfoResponse, config: &Config) -> Result<Self, Error> {
        let refuse = |reason: String| Error::Model {
            model: config.model.clone(),
            reason,
        };
        if info.meta_version != META_VERSION {
            return Err(refuse(format!(
                "the replica (release {}) speaks meta version {}, this loader {META_VERSION}: use \
                 the same release of both",
                info.version, info.meta_version
            )));
        }
        let Some(served) = info.models.iter().find(|model| model.name == config.model) else {
            let names: Vec<_> = info
                .models
                .iter()
                .map(|m| format!("`{}`", m.name))
                .collect();
            return Err(Error::UnknownModel {
                endpoint: config.endpoint.clone(),
                model: config.model.clone(),
                served: if names.is_empty() {
                    "none".into()
                } else {
                    names.join(", ")
                },
            });
        };
        if !served.has_posterior && config.posterior != Posterior::Mode {
            return Err(refuse("has no posterior: set `posterior` to Mode".into()));
        }
        let numbers = [
            served.latent_channels,
            served.spatial_compression,
            served.size_multiple,
        ];
        if numbers.contains(&0) || served.fingerprint.is_empty() {
            return Err(refuse(format!(
                "the replica describes it incompletely: {served:?}"
            )));
        }
        let mut served = served.clone();
        // A run that is resumed stays with its weights for as long as replicas keep them.
        if let Some(pinned) = config.resume.as_ref().map(|s| &s.run.model_fingerprint)
            && served.older_fingerprints.contains(pinned)
        {
            served.fingerprint.clone_from(pinned);
        }
        let limits = info.limits.unwrap_or_default();
        Ok(Self::new(served, &limits, config))
    }

    fn new(served: Served, replica: &Limits, config: &Config) -> Self {
        // Zero is what protobuf reads where nothing was written.
        let or = |value: u64, ours: u64| if value == 0 { ours } else { value.min(ours) };
        let pixels = or(replica.max_output_pixels, limits::MAX_OUTPUT_PIXELS);
        let message = or(replica.max_message_bytes, limits::MAX_MESSAGE_BYTES as u64);
        let items = or(u64::from(replica.max_items), limits::MAX_ITEMS as u64);
        let liked = or(served.preferred_batch_pixels, u64::MAX);
        let liked = if liked == u64::MAX {
            DEFAULT_CHUNK_PIXELS
        } else {
            liked
        };
        Self {
            name: served.name.clone(),
            fingerprint: served.fingerprint.clone(),
            max_items: items.min(config.chunk_items.map_or(u64::MAX, u64::from)),
            // Twice the metadata: its own bytes, and the tags and lengths of everything.
            max_payload_bytes: message.saturating_sub(2 * limits::MAX_META_BYTES as u64),
            max_output_pixels: pixels,
            chunk_pixels: config.chunk_pixels.unwrap_or(liked).min(pixels),
            dtype: config.dtype,
            posterior: config.posterior,
            scale: config.scale,
            served,
        }
    }

    /// Whether every output size suits the model and the replica's limits.
    pub(crate) fn check_sizes(&self, sizes: impl Iterator<Item = Size>) -> Result<(), Error> {
        let multiple = self
            .served
            .size_multiple
            .max(self.served.spatial_compression);
        for size in sizes {
            let refuse = |reason: String| Error::Model {
                model: self.name.clone(),
                reason,
            };
            if !size.width.is_multiple_of(multiple) || !size.height.is_multiple_of(multiple) {
                return Err(refuse(format!(
                    "takes multiples of {multiple} pixels, and {size} is not: raise `bucket_step`"
                )));
            }
            if size.area() > self.max_output_pixels {
                let most = self.max_output_pixels;
                return Err(refuse(format!(
                    "the replica takes {most} pixels at once, and {size} has more: lower \
                     `target_area`"
                )));
            }
            if self
                .tensor_bytes(size)
                .is_none_or(|bytes| bytes > self.reply_bytes())
            {
                return Err(refuse(format!("a latent of {size} does not fit a message")));
            }
        }
        Ok(())
    }

    /// What answers must be for outputs of this size.
    pub(crate) fn expected(&self, size: Size) -> Expected {
        let cell = self.served.spatial_compression;
        let twice = if self.posterior == Posterior::Moments {
            2
        } else {
            1
        };
        Expected {
            shape: vec![
                twice * self.served.latent_channels,
                size.height / cell,
                size.width / cell,
            ],
            dtype: self.dtype,
            posterior: self.posterior,
            scale: self.scale,
        }
    }

    /// Bytes of one latent as it travels.
    pub(crate) fn tensor_bytes(&self, size: Size) -> Option<usize> {
        tensor_bytes(&self.expected(size).shape, self.dtype).and_then(tensor_stride)
    }

    /// Most items of one chunk of this size.
    pub(crate) fn chunk_items(&self, size: Size) -> usize {
        let by_pixels = self.chunk_pixels / size.area().max(1);
        let one = self.tensor_bytes(size).unwrap_or(usize::MAX).max(1);
        let by_reply = (self.reply_bytes() / one) as u64;
        by_pixels.min(by_reply).clamp(1, self.max_items) as usize
    }

    /// Most payload bytes of one chunk.
    pub(crate) fn chunk_bytes(&self) -> u64 {
        self.max_payload_bytes
    }

    fn reply_bytes(&self) -> usize {
        limits::MAX_MESSAGE_BYTES - 2 * limits::MAX_META_BYTES
    }
}
