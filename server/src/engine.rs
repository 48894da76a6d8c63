//! Items in, latents out: admission → decode pool → batcher → one OS thread a device.
//!
//! Invariant: nothing in here knows gRPC or the wire. Every queue is bounded: admitted pixels and
//! bytes by [`Queue`], and the channels between the stages by the constants below.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use preheat_clips::Limits;
use preheat_models::{Encoder, Fingerprint, Posterior, Spec};
use tokio::sync::oneshot;

mod batcher;
mod catalogue;
mod clip;
mod decode;
mod finish;
mod generation;
mod item;
mod lane;
mod pace;
mod probe;
mod queue;
mod schedule;
mod trial;
mod underway;
mod video;

pub(crate) use catalogue::{Catalogue, Missing};
pub(crate) use generation::Generation;
pub(crate) use item::{Answer, Call, Fault, FaultKind, Recipe, Shape, Source};
pub(crate) use probe::probe;
pub(crate) use queue::{Queue, Ticket};
pub(crate) use trial::prove;

use crate::metrics::{DeviceMetrics, Metrics};
use batcher::Batcher;
use clip::Clip;
use finish::Plan;
use item::{Caller, Coming, Key, Outcome};
use lane::Lane;
use schedule::Event;
use underway::{Nudge, Underway};
use video::Videos;

/// Images and frames waiting for a decode thread. What does not fit waits in its call, admitted and
/// counted, and the rest of that call waits where it is sent.
const DECODE_QUEUE: usize = 256;

/// Decoded items and news on their way to the scheduling thread, which always drains it at once.
const EVENT_QUEUE: usize = 256;

/// Bounds and sizes of an engine.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Threads that decode.
    pub decode_threads: usize,
    /// Output pixels of a device batch; `None`: what was measured, or what the model prefers.
    pub batch_pixels: Option<u64>,
    /// Items of a device batch.
    pub max_batch: usize,
    /// How long an idle device waits for mates that are being decoded.
    pub linger: Duration,
    /// Output pixels inside the replica.
    pub queue_pixels: u32,
    /// Payload bytes inside the replica, not counting what is still being received.
    pub queue_bytes: usize,
    /// Pixels that a source image may declare.
    pub max_source_pixels: u64,
    /// What a video file may cost, and the process that decodes it; `None`: video files are not taken.
    pub videos: Option<Limits>,
    /// Every tensor of an answer starts at a multiple of so many bytes.
    pub align: usize,
}

/// A model on one device, ready to serve.
pub struct Opened {
    /// The model.
    pub encoder: Box<dyn Encoder>,
    /// How it does there, if that was measured.
    pub measured: Option<Measured>,
}

/// How a model does on a device.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measured {
    /// Output pixels of a batch at which more gain nothing.
    pub batch_pixels: u64,
    /// Pixels per second.
    pub rate: f64,
}

/// A model and the name it is served under.
pub struct Model {
    /// As callers ask for it.
    pub name: String,
    /// The model on each device, of the same fingerprint.
    pub opened: Vec<Opened>,
}

impl Model {
    /// A model, on one or more devices, whose speed there is not known.
    pub fn new(name: impl Into<String>, encoders: Vec<Box<dyn Encoder>>) -> Self {
        let opened = |encoder| Opened {
            encoder,
            measured: None,
        };
        Self {
            name: name.into(),
            opened: encoders.into_iter().map(opened).collect(),
        }
    }

    /// What it is, on every device.
    pub(crate) fn fingerprint(&self) -> Fingerprint {
        self.opened[0].encoder.spec().fingerprint
    }
}

/// Why a call was not served at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// No room now. An answer, not a fault.
    #[error("the queue of this replica is full: come back in {} ms", retry_after.as_millis())]
    Busy {
        /// When room is expected.
        retry_after: Duration,
    },
    /// More than will ever fit.
    #[error("{0}")]
    TooLarge(String),
    /// Wrong, and will stay wrong.
    #[error("{0}")]
    BadRequest(String),
    /// Nobody waits for it any more.
    #[error("the deadline passed before the call was served")]
    Deadline,
    /// The engine is going away, or a device is.
    #[error("the replica could not finish the call: send it again, or to another")]
    Stopped,
    /// Every device has lost this model.
    #[error("no device of this replica can encode model `{0}` any more: send the call to another")]
    NoDevice(String),
}

/// The pipeline of one replica. Its threads end when it is dropped.
#[derive(Debug)]
pub(crate) struct Engine {
    catalogue: Catalogue,
    next_id: AtomicUsize,
    queue: Arc<Queue>,
    jobs: flume::Sender<decode::Job>,
    video_jobs: flume::Sender<decode::Job>,
    videos: Arc<Videos>,
    events: flume::Sender<Event>,
    /// Items being decoded, by key. Keys without any are swept out as new ones come.
    coming: Mutex<HashMap<Key, Arc<AtomicUsize>>>,
    metrics: Arc<Metrics>,
    settings: Settings,
}

impl Engine {
    /// Starts the threads. Every model must be on every one of the `devices`.
    ///
    /// # Errors
    /// Where the system gives no more threads.
    pub(crate) fn start(
        devices: &[String],
        models: Vec<Model>,
        settings: &Settings,
        metrics: Arc<Metrics>,
    ) -> std::io::Result<Self> {
        let (pixels, bytes) = (settings.queue_pixels, settings.queue_bytes);
        let queue = Queue::new(pixels, bytes, Arc::clone(&metrics)).before(devices.len());
        let queue = Arc::new(queue);
        let (jobs, job_queue) = flume::bounded(DECODE_QUEUE);
        let (events, event_queue) = flume::bounded(EVENT_QUEUE);
        let mut lanes = Vec::with_capacity(devices.len());
        for (index, device) in devices.iter().enumerate() {
            let lane = Lane {
                index,
                events: events.downgrade(),
                queue: Arc::clone(&queue),
                metrics: Arc::new(DeviceMetrics::new(device)),
            };
            lanes.push(lane.spawn(device)?);
        }
        let batcher = Batcher::new(devices.len(), settings.linger, Instant::now());
        schedule::spawn(batcher, event_queue, lanes)?;
        let decoder = decode::Decoder {
            jobs: job_queue,
            ready: events.clone(),
            max_source_pixels: settings.max_source_pixels,
            metrics: Arc::clone(&metrics),
        };
        decoder.spawn(settings.decode_threads)?;
        let (video_jobs, video_queue) = flume::bounded(DECODE_QUEUE);
        let videos = Arc::new(Videos::new(settings.videos.clone()));
        let decoder = video::VideoDecoder {
            jobs: video_queue,
            ready: events.clone(),
            videos: Arc::clone(&videos),
            metrics: Arc::clone(&metrics),
        };
        // Most of what they do is to wait for processes of one thread each.
        decoder.spawn(settings.decode_threads)?;
        let generation = |(id, Model { name, opened })| Generation::new(id, name, opened, settings);
        let generations: Vec<_> = models.into_iter().enumerate().map(generation).collect();
        Ok(Self {
            next_id: AtomicUsize::new(generations.len()),
            catalogue: Catalogue::new(generations),
            queue,
            jobs,
            video_jobs,
            videos,
            events,
            coming: Mutex::default(),
            metrics,
            settings: settings.clone(),
        })
    }

    /// Admission.
    pub(crate) fn queue(&self) -> &Queue {
        &self.queue
    }

    /// Pixels that a source image may declare.
    pub(crate) const fn max_source_pixels(&self) -> u64 {
        self.settings.max_source_pixels
    }

    /// Video files.
    pub(crate) const fn videos(&self) -> &Arc<Videos> {
        &self.videos
    }

    /// What is served.
    pub(crate) const fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    /// What serves calls for a model: the newest weights, or those of the fingerprint that is
    /// pinned, if that is not empty.
    pub(crate) fn model(&self, name: &str, pinned: &str) -> Result<Arc<Generation>, Missing> {
        self.catalogue.find(name, pinned)
    }

    /// Serves other weights under the name of a model from now on. Until they are measured they are
    /// taken to do as those before them.
    pub(crate) fn replace(&self, model: Model) {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let Model { name, mut opened } = model;
        if let Ok(old) = self.catalogue.find(&name, "") {
            for (device, opened) in opened.iter_mut().enumerate() {
                let same = opened.encoder.spec().class == old.spec.class;
                opened.measured = opened.measured.or(old.measured(device).filter(|_| same));
            }
        }
        self.catalogue
            .install(Generation::new(id, name, opened, &self.settings));
    }

    /// Begins to serve a call for which there is a settled ticket.
    ///
    /// # Errors
    /// Why nothing in it can be served.
    pub(crate) fn begin(&self, call: Call, ticket: Ticket) -> Result<Underway<'_>, Refusal> {
        let model = Arc::clone(&call.model);
        let spec = &model.spec;
        check(&call, spec)?;
        if !model.is_served() {
            return Err(Refusal::NoDevice(model.name.clone()));
        }
        let plan = Plan {
            spec: spec.clone(),
            shape: call.shape,
            dtype: call.dtype,
            scale: call.scale,
            posteriors: call.items.iter().map(|item| item.posterior).collect(),
            align: self.settings.align,
        };
        let deadline = call.deadline;
        let expected = call.items.iter().map(|item| item.payloads).sum();
        let (clips, replies) = self.clips(call, ticket);
        Ok(Underway {
            engine: self,
            model,
            plan,
            deadline,
            clips,
            replies,
            expected,
            frame: 0,
            fed: 0,
            _nudge: Nudge(&self.events),
        })
    }

    async fn finish(&self, plan: Plan, outcomes: Vec<Outcome>) -> Result<Answer, Refusal> {
        let start = Instant::now();
        let finished = tokio::task::spawn_blocking(move || plan.finish(outcomes)).await;
        self.metrics.finish_seconds.record(start.elapsed());
        finished.map_err(|_| Refusal::Stopped)
    }

    fn clips(
        &self,
        call: Call,
        mut ticket: Ticket,
    ) -> (VecDeque<Arc<Clip>>, Vec<oneshot::Receiver<Outcome>>) {
        let key = Key {
            model: call.model.id,
            shape: call.shape,
        };
        let coming = self.coming(key);
        let since = Instant::now();
        let clip = |recipe: Recipe| {
            let (reply, receiver) = oneshot::channel();
            let caller = Caller {
                key,
                model: Arc::clone(&call.model),
                needed: call.needed,
                deadline: call.deadline,
                since,
                reply,
                ticket: ticket.share(key.shape.pixels()),
            };
            let clip = Clip::new(recipe, caller, Coming::new(&coming));
            (Arc::new(clip), receiver)
        };
        call.items.into_iter().map(clip).unzip()
    }

    fn coming(&self, key: Key) -> Arc<AtomicUsize> {
        let mut coming = self.coming.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = coming.get(&key) {
            return Arc::clone(count);
        }
        coming.retain(|_, count| Arc::strong_count(count) > 1);
        Arc::clone(coming.entry(key).or_default())
    }
}

fn check(call: &Call, spec: &Spec) -> Result<(), Refusal> {
    let multiple = u32::try_from(spec.size_multiple).unwrap_or(u32::MAX).max(1);
    let sides = [("width", call.shape.width), ("height", call.shape.height)];
    for (name, side) in sides {
        if side % multiple != 0 {
            let (below, above) = (side / multiple * multiple, side.next_multiple_of(multiple));
            let nearest = match below {
                0 => format!("the smallest is {above}"),
                _ => format!("the nearest are {below} and {above}"),
            };
            return Err(Refusal::BadRequest(format!(
                "{name} is {side}, but this model takes multiples of {multiple}: {nearest}"
            )));
        }
    }
    check_frames(call.shape.frames, spec)?;
    let mode_only = |item: &Recipe| item.posterior == Posterior::Mode;
    if !spec.has_posterior && !call.items.iter().all(mode_only) {
        return Err(Refusal::BadRequest(format!(
            "{} has no posterior to sample: ask for the posterior `mode`",
            spec.class
        )));
    }
    Ok(())
}

fn check_frames(frames: u32, spec: &Spec) -> Result<(), Refusal> {
    let step = u32::try_from(spec.frame_step).unwrap_or(u32::MAX).max(1);
    let over = frames.saturating_sub(1) % step;
    if over == 0 {
        return Ok(());
    }
    let below = frames - over;
    let above = below.saturating_add(step);
    Err(Refusal::BadRequest(format!(
        "frames is {frames}, but this model takes k * {step} + 1 of them: the nearest are {below} and \
         {above}"
    )))
}
