//! What travels through the engine: calls in, items along the stages, outcomes out.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use preheat_models::{DType, Moments, Posterior, Scale, image::Transform};
use tokio::sync::oneshot;

use super::{
    batcher::{self, Terms},
    generation::Generation,
    queue::Ticket,
};

/// Size of a model's input, in pixels and frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Shape {
    /// Pixels.
    pub(crate) width: u32,
    /// Pixels.
    pub(crate) height: u32,
    /// Frames; 1 for images.
    pub(crate) frames: u32,
}

impl Shape {
    /// Pixels of all frames of one item.
    pub(crate) const fn pixels(self) -> u64 {
        self.width as u64 * self.height as u64 * self.frames as u64
    }
}

/// What the payloads of an item are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// Image files, recognised by content.
    Encoded,
    /// Row-major RGB bytes.
    Rgb8,
    /// A video file, and the presentation timestamps of the frames that are wanted.
    Video(Vec<i64>),
}

/// How an item becomes pixels.
#[derive(Clone, Debug)]
pub(crate) struct Recipe {
    /// How many payloads it consumes: one a frame, or the file of a video.
    pub(crate) payloads: usize,
    /// What they are.
    pub(crate) source: Source,
    /// Width and height after EXIF orientation, as the caller planned with.
    pub(crate) source_size: [u32; 2],
    /// From there to the model's input.
    pub(crate) transform: Transform,
    /// What of the posterior to answer.
    pub(crate) posterior: Posterior,
}

/// Items of one model and one shape that are answered together.
#[derive(Debug)]
pub(crate) struct Call {
    /// From [`Engine::model`](super::Engine::model).
    pub(crate) model: Arc<Generation>,
    /// Of every item.
    pub(crate) shape: Shape,
    /// Element type of the answer.
    pub(crate) dtype: DType,
    /// Scale of the answer.
    pub(crate) scale: Scale,
    /// When the trainer needs it: the earliest goes first.
    pub(crate) needed: Instant,
    /// When nobody waits for it any more.
    pub(crate) deadline: Instant,
    /// The items.
    pub(crate) items: Vec<Recipe>,
}

/// The answer to a call.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The tensors, one after the other, each at a multiple of the alignment.
    pub(crate) latents: Vec<u8>,
    /// `[channels, frames, height, width]` of one tensor.
    pub(crate) shape: [usize; 4],
    /// One for each item of the call: where its tensor starts, or why there is none.
    pub(crate) items: Vec<Result<usize, Fault>>,
}

/// Why one item failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Fault {
    /// Which kind, and so what to do.
    pub(crate) kind: FaultKind,
    /// In words.
    pub(crate) message: String,
}

impl Fault {
    pub(crate) fn new(kind: FaultKind, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { kind, message }
    }
}

/// Kinds of [`Fault`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum FaultKind {
    /// Not an image, truncated, or damaged beyond decoding.
    BadImage,
    /// Declares more pixels than the limit.
    TooLarge,
    /// A format or feature that is not decoded here.
    Unsupported,
    /// Has another size than the call was planned with.
    Changed,
    /// The latent has a NaN or an infinity.
    NotFinite,
    /// The model cannot take the shape: the fault of the call, the same for each of its items.
    Shape,
    /// A fault of this replica.
    Internal,
}

/// Items are batched with others of the same key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    /// The id of its generation.
    pub(crate) model: usize,
    pub(crate) shape: Shape,
}

/// Where an item's answer goes, and what it holds until then.
#[derive(Debug)]
pub(crate) struct Caller {
    pub(crate) key: Key,
    pub(crate) model: Arc<Generation>,
    pub(crate) needed: Instant,
    pub(crate) deadline: Instant,
    /// When it entered the present stage.
    pub(crate) since: Instant,
    pub(crate) reply: oneshot::Sender<Outcome>,
    /// Its place in the replica; given back wherever the item dies.
    pub(crate) ticket: Ticket,
}

impl Caller {
    /// Whether somebody still wants the answer.
    pub(crate) fn waits(&self, now: Instant) -> bool {
        now < self.deadline && !self.reply.is_closed()
    }

    /// Answers. A caller that has gone meanwhile is no error.
    pub(crate) fn fail(self, fault: Fault) {
        let _ = self.reply.send(Err(fault));
    }
}

/// What became of an item.
pub(crate) type Outcome = Result<Encoded, Fault>;

/// An element of an encoded batch.
#[derive(Debug)]
pub(crate) struct Encoded {
    pub(crate) moments: Arc<Moments>,
    pub(crate) index: usize,
    /// Held until the answer is written.
    pub(crate) _ticket: Ticket,
}

/// A decoded item, on its way to a batch.
#[derive(Debug)]
pub(crate) struct Ready {
    pub(crate) caller: Caller,
    /// RGB of all frames.
    pub(crate) pixels: Vec<u8>,
    /// Items of its key that are still being decoded.
    pub(crate) mates: Arc<AtomicUsize>,
}

impl batcher::Entry for Ready {
    fn key(&self) -> Key {
        self.caller.key
    }

    fn needed(&self) -> Instant {
        self.caller.needed
    }

    fn is_wanted(&self, now: Instant) -> bool {
        self.caller.waits(now)
    }

    fn mates_coming(&self) -> bool {
        self.mates.load(Ordering::Acquire) > 0
    }

    fn terms(&self, device: usize) -> Option<Terms> {
        self.caller.model.terms(device)
    }
}

/// Counts an item as on its way to the batcher for as long as it lives. A guard, so that an item
/// that dies anywhere is counted right.
#[derive(Debug)]
pub(crate) struct Coming(Arc<AtomicUsize>);

impl Coming {
    pub(crate) fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(count))
    }

    /// The count it is part of.
    pub(crate) fn count(&self) -> &Arc<AtomicUsize> {
        &self.0
    }
}

impl Drop for Coming {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}
