//! One batch: read its files, have them encoded, replace bad samples, join the latents.

mod bad;

use std::{
    borrow::Cow,
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use futures::future::join_all;
use preheat_proto::{Error as CallError, Source};
use tokio::time::Instant;

use crate::{
    bad::Report,
    batch::{Batch, Latents, SampleInfo, Tensor, join},
    cache::CachedEmbedder,
    config::BadSamples,
    dataset::{Dataset, Sample},
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
/// A sample's latent, and its parts.
type Encoded = (Tensor, Parts);
type Filled = Result<(Place, Encoded), Error>;

impl Run {
    /// Bytes that a batch holds at most: its files, its latents, and what is said of its samples.
    pub(crate) fn cost_bytes(&self, planned: &PlannedBatch) -> u64 {
        let latent = self.model.tensor_bytes(planned.size).unwrap_or(usize::MAX);
        let each = latent.saturating_add(size_of::<SampleInfo>()) as u64;
        let cost = |one: &Position| {
            let key = self.dataset.key_bytes(one.sample);
            each.saturating_add(key + self.dataset.bytes(one.sample))
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
            .map(|(place, (tensor, parts))| (self.describe(job, place, parts), tensor))
            .unzip();
        let bytes = preheat_proto::dtype::tensor_bytes(&expected.shape, expected.dtype);
        let [channels, height, width] = expected.shape[..] else {
            return Err(Error::Internal("a latent of another rank than 3".into()));
        };
        Ok(Batch {
            epoch: job.epoch,
            step: job.step,
            bucket: job.planned.size,
            latents: Latents {
                dtype: expected.dtype,
                shape: [samples.len() as u32, channels, height, width],
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
            let file = self.dataset.file_bytes(place.sample);
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
        let read = join_all(places.iter().map(|place| self.read(place.sample))).await;
        let mut items = Vec::with_capacity(places.len());
        let mut parts = Vec::with_capacity(places.len());
        for (place, read) in places.iter().zip(read) {
            parts.push(read.map(|Sample { image, parts }| {
                items.push(Item {
                    id: place.sample,
                    seed: self.plan.posterior_seed(job.epoch, place.sample),
                    transform: place.transform,
                    source: Source::Encoded,
                    payload: image,
                });
                parts
            }));
        }
        let chunk = self
            .embedder
            .embed(job.planned.size, items, (job.needed_at, track))
            .await?;
        let mut encoded = chunk.tensors.into_iter();
        Ok(parts
            .into_iter()
            .map(|parts| {
                let parts = parts?;
                let tensor = encoded.next();
                let tensor = tensor.unwrap_or_else(|| Err("not answered".into()))?;
                Ok((tensor, parts))
            })
            .collect())
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

    fn describe(&self, job: &Job, place: Place, parts: Parts) -> SampleInfo {
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
        }
    }
}
