//! One batch: read its files, have them encoded, replace bad samples, join the latents.

mod bad;
mod clip;

use std::{
    borrow::Cow,
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use futures::future::{join_all, try_join_all};
use preheat_proto::{Error as CallError, Source};
use tokio::time::Instant;

use self::clip::Ready;
use crate::{
    bad::Report,
    batch::{Batch, ClipInfo, Latents, SampleInfo, Tensor, join},
    cache::CachedEmbedder,
    config::BadSamples,
    dataset::{Dataset, Sample},
    decode::Decoders,
    embed::Item,
    error::Error,
    headspace::Headspace,
    model::Model,
    plan::{Plan, PlannedBatch, Position, Transform},
    stats::{Recorder, Stage, Track},
};

/// Samples tried in place of a bad one.
pub const MAX_SUBSTITUTES: u32 = 16;

/// Everything that stays the same through a run.
pub(crate) struct Run {
    pub(crate) dataset: Arc<Dataset>,
    pub(crate) plan: Plan,
    pub(crate) model: Arc<Model>,
    pub(crate) embedder: CachedEmbedder,
    pub(crate) recorder: Recorder,
    pub(crate) policy: BadSamples,
    /// Where bad samples are written down, if anywhere.
    pub(crate) report: Option<Report>,
    /// The samples that are known not to be worth sending, with reasons.
    pub(crate) unusable: BTreeMap<u64, String>,
    /// Batches that are replayed, where data are to cost nothing.
    pub(crate) headspace: Option<Headspace>,
    pub(crate) ranks: (u32, u32),
    pub(crate) epochs: Option<u64>,
    pub(crate) caption_dropout: f32,
    /// Of a run of clips.
    pub(crate) decoders: Option<Arc<Decoders>>,
}

/// A batch to prepare.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) epoch: u64,
    pub(crate) step: u64,
    pub(crate) planned: PlannedBatch,
    pub(crate) needed_at: Instant,
    /// The chunk that was complete last.
    pub(crate) last: Mutex<Option<Track>>,
}

/// A place of the batch and the sample that currently fills it.
#[derive(Clone, Copy, Debug)]
struct Place {
    position: Position,
    sample: u64,
    transform: Transform,
    /// Samples tried before this one.
    tries: u32,
    /// Whether it will be filled.
    valid: bool,
}

/// What travels with a sample.
type Parts = Vec<(Arc<str>, Bytes)>;
/// A sample's latent, its parts, and which clip it is.
struct Encoded {
    tensor: Tensor,
    parts: Parts,
    clip: Option<ClipInfo>,
}
type Filled = Result<(Place, Encoded), Error>;

impl Run {
    /// Bytes that a batch holds at most: its files, its latents, and what is said of its samples.
    pub(crate) fn cost_bytes(&self, planned: &PlannedBatch) -> u64 {
        let latent = self.model.tensor_bytes(planned.size).unwrap_or(usize::MAX);
        let each = latent.saturating_add(size_of::<SampleInfo>()) as u64;
        let cost = |one: &Position| {
            let key = self.dataset.key_bytes(one.sample);
            // Captions are counted beside the payloads.
            let (all, file) = (
                self.dataset.bytes(one.sample),
                self.dataset.file_bytes(one.sample),
            );
            let payloads = self.payload_bytes(one.sample, planned.size);
            let read = all.saturating_sub(file).saturating_add(payloads);
            each.saturating_add(key).saturating_add(read)
        };
        let costs = planned.positions.iter().map(cost);
        costs.fold(0, u64::saturating_add)
    }

    /// The failure that comes first in the order of the batch is the one reported, so that errors
    /// do not depend on timing either.
    pub(crate) async fn prepare(&self, job: &Job) -> Result<Batch, Error> {
        let places = job.planned.positions.iter();
        let places: Vec<Place> = places
            .map(|&position| self.first_choice(job, position))
            .collect::<Result<_, _>>()?;
        let chunks = self.split(job, places);
        let filled = join_all(chunks.into_iter().map(|chunk| self.fill(job, chunk))).await;
        let filled = filled
            .into_iter()
            .flatten()
            .collect::<Result<Vec<_>, _>>()?;

        let expected = self.model.expected(job.planned.size);
        let (samples, tensors): (Vec<_>, Vec<_>) = filled
            .into_iter()
            .map(
                |(
                    place,
                    Encoded {
                        tensor,
                        parts,
                        clip,
                    },
                )| { (self.describe(job, place, (parts, clip)), tensor) },
            )
            .unzip();
        let bytes = preheat_proto::dtype::tensor_bytes(&expected.shape, expected.dtype);
        Ok(Batch {
            epoch: job.epoch,
            step: job.step,
            bucket: job.planned.size,
            latents: Latents {
                dtype: expected.dtype,
                shape: self.batch_shape(samples.len(), &expected.shape),
                data: join(tensors, bytes.unwrap_or(0)),
            },
            samples,
            replayed: false,
        })
    }

    fn place(&self, job: &Job, position: Position, sample: u64, tries: u32) -> Option<Place> {
        if self.unusable.contains_key(&sample) {
            return None;
        }
        let source = self.dataset.size(sample)?;
        let transform = self
            .plan
            .transform(job.epoch, sample, source, job.planned.size)?;
        Some(Place {
            position,
            sample,
            transform,
            tries,
            valid: true,
        })
    }

    /// Cuts a batch into what one call may carry.
    fn split(&self, job: &Job, places: Vec<Place>) -> Vec<Vec<Place>> {
        let (items, bytes) = (
            self.model.chunk_items(job.planned.size),
            self.model.chunk_bytes(),
        );
        let mut chunks: Vec<Vec<Place>> = Vec::new();
        let mut room = 0;
        for place in places {
            let file = self.payload_bytes(place.sample, job.planned.size);
            match chunks.last_mut() {
                Some(chunk) if chunk.len() < items && file <= room => {
                    room -= file;
                    chunk.push(place);
                }
                _ => {
                    room = bytes.saturating_sub(file);
                    chunks.push(vec![place]);
                }
            }
        }
        chunks
    }

    async fn fill(&self, job: &Job, places: Vec<Place>) -> Vec<Filled> {
        let track = Track::begin();
        let mut filled = Vec::with_capacity(places.len());
        match self.attempt(job, &places, &track).await {
            Err(error) => filled.push(Err(self.call_failed(job, &places, error))),
            Ok(tensors) => {
                for (place, tensor) in places.into_iter().zip(tensors) {
                    filled.push(match tensor {
                        Ok(tensor) => Ok((place, tensor)),
                        Err(reason) => self.replace(job, place, reason, &track).await,
                    });
                }
            }
        }
        self.recorder.encoded(&track);
        *job.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(track);
        filled
    }

    /// Reads and encodes; what is bad about a sample comes back in its place.
    async fn attempt(
        &self,
        job: &Job,
        places: &[Place],
        track: &Track,
    ) -> Result<Vec<Result<Encoded, String>>, CallError> {
        track.enter(Stage::Store);
        let read = try_join_all(places.iter().map(|place| self.ready(job, place))).await?;
        let mut items = Vec::with_capacity(places.len());
        let mut others = Vec::with_capacity(places.len());
        for (place, read) in places.iter().zip(read) {
            others.push(read.map(|ready| {
                items.push(Item {
                    id: place.sample,
                    seed: self.plan.posterior_seed(job.epoch, place.sample),
                    transform: ready.transform,
                    source: ready.source,
                    payloads: ready.payloads,
                    times: ready.times,
                    named: ready.named,
                });
                (ready.parts, ready.info)
            }));
        }
        let mut encoded = self.embed(job, items, track).await?.into_iter();
        Ok(others
            .into_iter()
            .map(|others| {
                let (parts, clip) = others?;
                let tensor = encoded.next();
                let tensor = tensor.unwrap_or_else(|| Err("not answered".into()))?;
                Ok(Encoded {
                    tensor,
                    parts,
                    clip,
                })
            })
            .collect())
    }

    /// In one call; in several, side by side, where frames turned out larger than was expected.
    async fn embed(
        &self,
        job: &Job,
        items: Vec<Item>,
        track: &Track,
    ) -> Result<Vec<Result<Tensor, String>>, CallError> {
        let most = self.model.chunk_bytes();
        let mut calls: Vec<Vec<Item>> = Vec::new();
        let mut room = 0;
        for item in items {
            let bytes = clip::total(&item.payloads);
            match calls.last_mut() {
                Some(call) if bytes <= room => {
                    room -= bytes;
                    call.push(item);
                }
                _ => {
                    room = most.saturating_sub(bytes);
                    calls.push(vec![item]);
                }
            }
        }
        let when = (job.needed_at, track);
        let calls = calls.into_iter();
        let calls = calls.map(|items| self.embedder.embed(job.planned.size, items, when));
        let chunks = try_join_all(calls).await?;
        Ok(chunks.into_iter().flat_map(|chunk| chunk.tensors).collect())
    }

    /// Reads a sample, as it is sent. The inner error is about the sample.
    async fn ready(&self, job: &Job, place: &Place) -> Result<Result<Ready, String>, CallError> {
        if let Some(decoders) = &self.decoders {
            return self.read_clip(job, place, decoders).await;
        }
        let read = self.read(place.sample).await;
        Ok(read.map(|Sample { image, parts }| Ready {
            source: Source::Encoded,
            payloads: vec![image],
            times: Vec::new(),
            named: None,
            transform: place.transform,
            parts,
            info: None,
        }))
    }

    /// With an axis for time in a run of clips, where single frames are clips of one.
    fn batch_shape(&self, samples: usize, one: &[u32]) -> Vec<u32> {
        let mut shape = vec![samples as u32];
        shape.extend(one);
        if self.decoders.is_some() && one.len() == 3 {
            shape.insert(2, 1);
        }
        shape
    }

    async fn read(&self, sample: u64) -> Result<Sample, String> {
        if let Some(known) = self.unusable.get(&sample) {
            return Err(known.clone());
        }
        let (bytes, most) = (self.dataset.file_bytes(sample), self.model.chunk_bytes());
        if bytes > most {
            return Err(format!("has {bytes} bytes, and the replica takes {most}"));
        }
        self.dataset.read(sample).await
    }

    fn call_failed(&self, job: &Job, places: &[Place], error: CallError) -> Error {
        let first = places
            .first()
            .map_or(Cow::from(""), |place| self.dataset.key(place.sample));
        let (count, epoch, step) = (places.len(), job.epoch, job.step);
        Error::Call {
            what: format!("{count} samples from `{first}` on, epoch {epoch}, step {step}"),
            code: error.code,
            message: error.message,
        }
    }

    fn describe(
        &self,
        job: &Job,
        place: Place,
        (parts, clip): (Parts, Option<ClipInfo>),
    ) -> SampleInfo {
        let replaced = place.position.sample;
        let substitute_of = (place.tries > 0).then_some(replaced);
        if substitute_of.is_some() {
            self.recorder.substituted();
        }
        SampleInfo {
            id: place.sample,
            key: self.dataset.key(place.sample).into_owned(),
            source: self.dataset.source_of(place.sample),
            padding: place.position.padding,
            substitute_of,
            valid: place.valid,
            transform: place.transform,
            micro_conditioning: place.transform.micro_conditioning(job.planned.size),
            caption_dropped: {
                let at = (job.epoch, place.sample);
                self.plan.caption_dropped(at, self.caption_dropout)
            },
            seed: self.plan.posterior_seed(job.epoch, place.sample),
            parts,
            clip,
        }
    }
}
