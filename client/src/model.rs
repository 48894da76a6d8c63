//! The model of a run: chosen by name at the start, pinned by fingerprint until the end.

mod check;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use preheat_proto::{
    Code, DType, Error as CallError, META_VERSION, Posterior, Scale,
    dtype::{tensor_bytes, tensor_stride},
    limits,
    v1::{InfoResponse, Limits, Model as Served},
};
use tokio::time::{Instant, timeout_at};

use crate::{
    balance::{
        Trouble,
        drive::{Balancer, Known},
    },
    cache::CacheWhat,
    config::Config,
    endpoint::Expected,
    error::Error,
    plan::Size,
};

/// How long the first replica that serves the model waits for the others, whose weights may be newer
/// or older.
const SETTLE: Duration = Duration::from_millis(500);
/// Replicas that an error speaks of; the others are like them.
const MAX_NAMED: usize = 3;
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
    max_call_bytes: u64,
    /// And one payload of it.
    max_payload_bytes: u64,
    /// Whether replicas decode video files.
    video_files: bool,
    max_output_pixels: u64,
    chunk_pixels: u64,
    delivered: Ask,
    /// What replicas are asked for.
    pub(crate) sent: Ask,
}

/// What of a posterior, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ask {
    pub(crate) posterior: Posterior,
    pub(crate) scale: Scale,
    pub(crate) dtype: DType,
}

impl Ask {
    /// What the trainer gets.
    pub(crate) fn delivered(config: &Config) -> Self {
        Self {
            posterior: config.posterior,
            scale: config.scale,
            dtype: config.dtype,
        }
    }

    /// What replicas are asked for: something else where the loader draws for itself.
    fn sent(config: &Config) -> Self {
        match config.cache.as_ref().map(|cache| cache.what) {
            Some(CacheWhat::Moments) => Self {
                posterior: Posterior::Moments,
                scale: Scale::Raw,
                dtype: DType::F32,
            },
            Some(CacheWhat::Latents) | None => Self::delivered(config),
        }
    }
}

/// What the replicas say at one moment.
struct Found {
    /// The model, as each replica describes it that serves it as the run needs it.
    models: Vec<Model>,
    /// Whether the first of them has the weights of the run that is resumed.
    resumes: bool,
    /// Why others do not.
    unfit: Vec<Error>,
    /// Why others cannot be called: name, kind and words.
    away: Vec<(Arc<str>, CallError)>,
    /// Not reached yet.
    undecided: usize,
}

impl Found {
    fn look(known: &[Known], config: &Config) -> Self {
        let mut found = Self {
            models: Vec::new(),
            resumes: false,
            unfit: Vec::new(),
            away: Vec::new(),
            undecided: 0,
        };
        let pinned = config
            .resume
            .as_ref()
            .map(|state| &state.run.model_fingerprint);
        for replica in known {
            match (&replica.trouble, &replica.info) {
                (Some(trouble), _) => found.away.push((replica.name.clone(), trouble.clone())),
                (None, None) => found.undecided += 1,
                (None, Some(info)) => match Model::choose(info, config) {
                    Ok(model) if Some(&model.fingerprint) == pinned && !found.resumes => {
                        found.resumes = true;
                        found.models.insert(0, model);
                    }
                    Ok(model) => found.models.push(model),
                    Err(error) => found.unfit.push(error),
                },
            }
        }
        found
    }

    /// The model of the run: within the limits of every replica that has the same weights.
    fn pick(self) -> Model {
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        for model in &self.models {
            *votes.entry(&model.fingerprint).or_default() += 1;
        }
        let most = votes.iter().max_by_key(|&(_, votes)| *votes);
        let wanted = match most {
            Some((fingerprint, _)) if !self.resumes => (*fingerprint).to_owned(),
            _ => self.models[0].fingerprint.clone(),
        };
        let alike = self
            .models
            .into_iter()
            .filter(|one| one.fingerprint == wanted);
        let strictest = |mut one: Model, other: Model| {
            one.max_items = one.max_items.min(other.max_items);
            one.max_call_bytes = one.max_call_bytes.min(other.max_call_bytes);
            one.max_payload_bytes = one.max_payload_bytes.min(other.max_payload_bytes);
            one.video_files &= other.video_files;
            one.max_output_pixels = one.max_output_pixels.min(other.max_output_pixels);
            // Chunks that suit the smallest device keep all of them busy.
            one.chunk_pixels = one.chunk_pixels.min(other.chunk_pixels);
            one
        };
        alike.reduce(strictest).expect("there is at least one")
    }

    /// Why waiting is no use: every replica has answered, and none will serve the run.
    fn hopeless(&self, config: &Config, start: Instant) -> Option<Error> {
        let wrong =
            |error: &CallError| matches!(error.code, Code::NotAReplica | Code::Unauthenticated);
        let nobody = self.unfit.is_empty() && self.away.is_empty();
        if self.undecided > 0 || nobody || !self.away.iter().all(|(_, error)| wrong(error)) {
            return None;
        }
        let refusal = self
            .away
            .iter()
            .find(|(_, error)| error.code == Code::Unauthenticated);
        Some(match (self.unfit.first(), refusal) {
            (Some(error), _) => error.clone(),
            (None, Some((name, error))) => Error::Refused {
                endpoint: name.to_string(),
                reason: error.message.clone(),
            },
            (None, None) => self.unreachable(config, start, &[]),
        })
    }

    fn unreachable(&self, config: &Config, start: Instant, troubles: &[Trouble]) -> Error {
        if let Some(error) = self.unfit.first() {
            return error.clone();
        }
        let mut reasons: Vec<String> = match &self.away[..] {
            [(_, only)] => vec![only.message.clone()],
            several => several
                .iter()
                .map(|(name, error)| format!("{name}: {}", error.message))
                .collect(),
        };
        let troubles = troubles
            .iter()
            .map(|one| format!("{}: {}", one.entry, one.reason));
        reasons.extend(troubles);
        reasons.truncate(MAX_NAMED);
        if reasons.is_empty() {
            reasons.push("no answer".to_owned());
        }
        Error::Unreachable {
            endpoint: config.endpoint.clone(),
            waited_ms: start.elapsed().as_millis(),
            reason: reasons.join("; "),
        }
    }
}

impl Model {
    /// Waits for replicas that serve the model, until the connect timeout, and picks: the weights of
    /// the run that is resumed, or those that most replicas have.
    pub(crate) async fn pin(balancer: &Balancer, config: &Config) -> Result<Self, Error> {
        let start = Instant::now();
        let deadline = start + config.connect_timeout;
        let mut changes = balancer.changes();
        // The first to answer need not be like most.
        let mut settled: Option<Instant> = None;
        loop {
            changes.borrow_and_update();
            let found = Found::look(&balancer.known(), config);
            let now = Instant::now();
            if !found.models.is_empty() {
                let settles = *settled.get_or_insert(deadline.min(now + SETTLE));
                if found.undecided == 0 || found.resumes || now >= settles {
                    return Ok(found.pick());
                }
            } else if let Some(error) = found.hopeless(config, start) {
                return Err(error);
            }
            let until = settled.unwrap_or(deadline);
            if timeout_at(until, changes.changed()).await.is_err() && settled.is_none() {
                let troubles = balancer.view().1;
                return Err(found.unreachable(config, start, &troubles));
            }
        }
    }

    fn choose(info: &InfoResponse, config: &Config) -> Result<Self, Error> {
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
        if !served.has_posterior && Ask::sent(config).posterior != Posterior::Mode {
            let reason = "has no posterior, and so no moments: set `cache.what` to Latents";
            return Err(refuse(reason.into()));
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
            // Described are the newest ones.
            served.normalization = None;
        }
        let limits = info.limits.unwrap_or_default();
        Ok(Self::new(served, &limits, config))
    }

    fn new(served: Served, replica: &Limits, config: &Config) -> Self {
        // Zero is what protobuf reads where nothing was written.
        let or = |value: u64, ours: u64| if value == 0 { ours } else { value.min(ours) };
        let pixels = or(replica.max_output_pixels, limits::MAX_OUTPUT_PIXELS);
        let message = or(replica.max_message_bytes, limits::MAX_MESSAGE_BYTES as u64);
        // Clips are decoded as they come, and may so be longer than what is held in one piece.
        let call = match replica.max_request_bytes {
            long if long > message && !config.frames.is_empty() => {
                long.min(limits::MAX_REQUEST_BYTES as u64)
            }
            _ => message,
        };
        // Twice the metadata: its own bytes, and the tags and lengths of everything.
        let payloads = |bytes: u64| bytes.saturating_sub(2 * limits::MAX_META_BYTES as u64);
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
            max_call_bytes: payloads(call),
            max_payload_bytes: payloads(message),
            video_files: replica.video_files,
            max_output_pixels: pixels,
            chunk_pixels: config.chunk_pixels.unwrap_or(liked).min(pixels),
            delivered: Ask::delivered(config),
            sent: Ask::sent(config),
            served,
        }
    }

    /// What is delivered for outputs of this size.
    pub(crate) fn expected(&self, size: Size) -> Expected {
        self.shaped(self.delivered, size)
    }

    /// What answers must be for outputs of this size.
    pub(crate) fn expected_sent(&self, size: Size) -> Expected {
        self.shaped(self.sent, size)
    }

    fn shaped(&self, ask: Ask, size: Size) -> Expected {
        let cell = self.served.spatial_compression;
        let twice = if ask.posterior == Posterior::Moments {
            2
        } else {
            1
        };
        Expected {
            shape: {
                let time = (size.frames > 1).then(|| self.latent_frames(size));
                let channels = std::iter::once(twice * self.served.latent_channels);
                let sides = [size.height / cell, size.width / cell];
                channels.chain(time).chain(sides).collect()
            },
            dtype: ask.dtype,
            posterior: ask.posterior,
            scale: ask.scale,
        }
    }

    /// Frames of the latent of a clip.
    pub(crate) fn latent_frames(&self, size: Size) -> u32 {
        (size.frames - 1) / self.served.temporal_compression.max(1) + 1
    }

    /// Bytes of one latent as it travels.
    pub(crate) fn tensor_bytes(&self, size: Size) -> Option<usize> {
        tensor_bytes(&self.expected_sent(size).shape, self.sent.dtype).and_then(tensor_stride)
    }

    /// Most items of one chunk of this size.
    pub(crate) fn chunk_items(&self, size: Size) -> usize {
        let by_pixels = self.chunk_pixels / size.pixels().max(1);
        let by_frames = limits::MAX_PAYLOADS as u64 / u64::from(size.frames);
        let one = self.tensor_bytes(size).unwrap_or(usize::MAX).max(1);
        let by_reply = (self.reply_bytes() / one) as u64;
        by_pixels
            .min(by_reply)
            .min(by_frames)
            .clamp(1, self.max_items) as usize
    }

    /// Most payload bytes of one chunk.
    pub(crate) fn chunk_bytes(&self) -> u64 {
        self.max_call_bytes
    }

    /// Most bytes of one payload.
    pub(crate) fn payload_bytes(&self) -> u64 {
        self.max_payload_bytes
    }

    fn reply_bytes(&self) -> usize {
        limits::MAX_MESSAGE_BYTES - 2 * limits::MAX_META_BYTES
    }
}
