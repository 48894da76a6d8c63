//! Items in, latents out: admission → decode pool → batcher → one OS thread a device.
//!
//! Invariant: nothing in here knows gRPC or the wire. Every queue is bounded: admitted pixels and
//! bytes by [`Queue`], and the channels between the stages by the constants below.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, atomic::AtomicUsize},
    time::{Duration, Instant},
};

use preheat_models::{Encoder, Posterior, Spec};
use tokio::sync::oneshot;

mod batcher;
mod decode;
mod finish;
mod item;
mod queue;
mod worker;

pub(crate) use item::{Answer, Call, Fault, FaultKind, Recipe, Shape, Source};
pub(crate) use queue::{Queue, Ticket};

use crate::metrics::Metrics;
use batcher::{Batcher, Budget};
use finish::Plan;
use item::{Caller, Coming, Item, Key, Outcome};
use worker::{Event, Lane};

/// Items waiting for a decode thread. What does not fit waits in its call, admitted and counted.
const DECODE_QUEUE: usize = 256;

/// Decoded items and news on their way to the batching thread, which always drains it at once.
const EVENT_QUEUE: usize = 256;

/// Bounds and sizes of an engine.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Threads that decode.
    pub decode_threads: usize,
    /// Output pixels of a device batch; `None`: what the model prefers.
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
    /// Every tensor of an answer starts at a multiple of so many bytes.
    pub align: usize,
}

/// A model and the name it is served under.
pub struct Model {
    /// As callers ask for it.
    pub name: String,
    /// On its device.
    pub encoder: Box<dyn Encoder>,
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
    /// The engine is going away.
    #[error("the replica stopped before the call was served: send it to another")]
    Stopped,
}

/// The pipeline of one replica. Its threads end when it is dropped.
#[derive(Debug)]
pub(crate) struct Engine {
    models: Vec<(String, Spec)>,
    queue: Arc<Queue>,
    items: flume::Sender<Item>,
    events: flume::Sender<Event>,
    /// Items being decoded, by key. Keys without any are swept out as new ones come.
    coming: Mutex<HashMap<Key, Arc<AtomicUsize>>>,
    metrics: Arc<Metrics>,
    settings: Settings,
}

impl Engine {
    /// Starts the threads.
    ///
    /// # Errors
    /// Where the system gives no more threads.
    pub(crate) fn start(
        models: Vec<Model>,
        settings: &Settings,
        metrics: Arc<Metrics>,
    ) -> std::io::Result<Self> {
        let queue = Queue::new(
            settings.queue_pixels,
            settings.queue_bytes,
            Arc::clone(&metrics),
        );
        let queue = Arc::new(queue);
        let (items, item_queue) = flume::bounded(DECODE_QUEUE);
        let (events, event_queue) = flume::bounded(EVENT_QUEUE);
        let (names, encoders): (Vec<_>, Vec<_>) = models
            .into_iter()
            .map(|model| ((model.name, model.encoder.spec().clone()), model.encoder))
            .unzip();
        let budget = |(_, spec): &(String, Spec)| Budget {
            pixels: settings.batch_pixels.unwrap_or(spec.preferred_batch_pixels),
            items: settings.max_batch,
        };
        let lane = Lane {
            encoders,
            batcher: Batcher::new(names.iter().map(budget).collect(), settings.linger),
            events: event_queue,
            done: events.downgrade(),
            queue: Arc::clone(&queue),
            metrics: Arc::clone(&metrics),
        };
        lane.spawn("0")?;
        let decoder = decode::Decoder {
            items: item_queue,
            ready: events.clone(),
            max_source_pixels: settings.max_source_pixels,
            metrics: Arc::clone(&metrics),
        };
        decoder.spawn(settings.decode_threads)?;
        Ok(Self {
            models: names,
            queue,
            items,
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

    /// The models, in the order in which [`Call::model`] counts them.
    pub(crate) fn models(&self) -> impl Iterator<Item = (&str, &Spec)> {
        self.models.iter().map(|(name, spec)| (name.as_str(), spec))
    }

    /// The index and spec of a model.
    pub(crate) fn model(&self, name: &str) -> Option<(usize, &Spec)> {
        let index = self.models.iter().position(|(known, _)| known == name)?;
        Some((index, &self.models[index].1))
    }

    /// Serves a call for which there is a settled ticket. Dropping the future gives its place back.
    ///
    /// # Errors
    /// Why nothing in it can be served. Items that fail alone are in the [`Answer`].
    pub(crate) async fn submit(&self, call: Call, ticket: Ticket) -> Result<Answer, Refusal> {
        let spec = &self.models[call.model].1;
        check(&call, spec)?;
        let deadline = call.deadline;
        let plan = Plan {
            spec: spec.clone(),
            shape: call.shape,
            dtype: call.dtype,
            scale: call.scale,
            posteriors: call.items.iter().map(|item| item.posterior).collect(),
            align: self.settings.align,
        };
        // Whichever way this future ends, the batcher then looks for items that lost their caller.
        let _nudge = Nudge(&self.events);
        let (items, replies) = self.items(call, ticket);
        for item in items {
            let sent = self.items.send_async(item).await;
            sent.map_err(|_| Refusal::Stopped)?;
        }
        let mut outcomes = Vec::with_capacity(replies.len());
        for reply in replies {
            // An item vanishes without an answer when its deadline passes or the engine ends.
            let outcome = reply.await.map_err(|_| match Instant::now() < deadline {
                true => Refusal::Stopped,
                false => Refusal::Deadline,
            })?;
            if let Err(Fault {
                kind: FaultKind::Shape,
                message,
            }) = outcome
            {
                return Err(Refusal::BadRequest(message));
            }
            outcomes.push(outcome);
        }
        self.finish(plan, outcomes).await
    }

    async fn finish(&self, plan: Plan, outcomes: Vec<Outcome>) -> Result<Answer, Refusal> {
        let start = Instant::now();
        let finished = tokio::task::spawn_blocking(move || plan.finish(outcomes)).await;
        self.metrics.finish_seconds.record(start.elapsed());
        finished.map_err(|_| Refusal::Stopped)
    }

    fn items(
        &self,
        call: Call,
        mut ticket: Ticket,
    ) -> (Vec<Item>, Vec<oneshot::Receiver<Outcome>>) {
        let key = Key {
            model: call.model,
            shape: call.shape,
        };
        let coming = self.coming(key);
        let since = Instant::now();
        let item = |recipe: Recipe| {
            let bytes = recipe.payloads.iter().map(bytes::Bytes::len).sum();
            let (reply, receiver) = oneshot::channel();
            let caller = Caller {
                key,
                needed: call.needed,
                deadline: call.deadline,
                since,
                reply,
                ticket: ticket.share(key.shape.pixels(), bytes),
            };
            let item = Item {
                caller,
                recipe,
                coming: Coming::new(&coming),
            };
            (item, receiver)
        };
        call.items.into_iter().map(item).unzip()
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

/// Wakes the batching thread on drop.
struct Nudge<'a>(&'a flume::Sender<Event>);

impl Drop for Nudge<'_> {
    fn drop(&mut self) {
        // If the queue is full the thread is awake anyway.
        let _ = self.0.try_send(Event::Nudge);
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
    let mode_only = |item: &Recipe| item.posterior == Posterior::Mode;
    if !spec.has_posterior && !call.items.iter().all(mode_only) {
        return Err(Refusal::BadRequest(format!(
            "{} has no posterior to sample: ask for the posterior `mode`",
            spec.class
        )));
    }
    Ok(())
}
