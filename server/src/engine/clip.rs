//! An item while its frames are decoded, by several threads and in any order. An image is a clip of one
//! frame.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::{
    item::{Caller, Coming, Fault, Ready, Recipe},
    queue::Work,
    schedule::Event,
};

/// An admitted item that is not decoded yet.
pub(crate) struct Clip {
    pub(crate) recipe: Recipe,
    /// Frames that it has when it is whole.
    pub(crate) frames: usize,
    /// Bytes of RGB of one of them.
    pub(crate) frame_bytes: usize,
    /// Whether the model looks at its input at all.
    pub(crate) reads_pixels: bool,
    /// Nothing once it is whole, has failed, or nobody wants it any more.
    open: Mutex<Option<Open>>,
}

/// What a clip holds while frames are missing.
struct Open {
    caller: Caller,
    coming: Coming,
    /// RGB of all frames, one after the other; empty before the first one has come.
    pixels: Vec<u8>,
    /// Which frames are there.
    placed: Vec<bool>,
    missing: usize,
    /// When the first frame came to a decode thread.
    began: Option<Instant>,
}

/// What a frame has made of its clip.
#[derive(Debug)]
pub(crate) enum Placed {
    /// Others are missing, or the clip was closed before.
    Waiting,
    /// The clip is whole, and was in decoding since then.
    Whole(Event, Instant),
}

impl fmt::Debug for Clip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clip")
            .field("recipe", &self.recipe)
            .finish_non_exhaustive()
    }
}

impl Clip {
    /// A clip of which no frame is there yet.
    pub(crate) fn new(recipe: Recipe, caller: Caller, coming: Coming) -> Self {
        let shape = caller.key.shape;
        let frames = shape.frames as usize;
        Self {
            recipe,
            frames,
            frame_bytes: shape.width as usize * shape.height as usize * 3,
            reads_pixels: caller.model.spec.reads_pixels,
            open: Mutex::new(Some(Open {
                caller,
                coming,
                pixels: Vec::new(),
                placed: vec![false; frames],
                missing: frames,
                began: None,
            })),
        }
    }

    /// Whether frames of it are still of use. Once they are not, it gives up what it holds.
    pub(crate) fn is_wanted(&self, now: Instant) -> bool {
        let mut open = self.open();
        let wanted = open.as_ref().is_some_and(|open| open.caller.waits(now));
        if !wanted {
            // Dropped after the lock.
            let _gone = open.take();
            drop(open);
        }
        wanted
    }

    /// How long somebody still waits for it, if anybody does. If not, it gives up what it holds.
    pub(crate) fn patience(&self, now: Instant) -> Option<Duration> {
        if !self.is_wanted(now) {
            return None;
        }
        let open = self.open();
        let deadline = open.as_ref().map(|open| open.caller.deadline)?;
        Some(deadline.saturating_duration_since(now))
    }

    /// All of its payloads have come: from now on it is this replica that its caller waits for.
    pub(crate) fn arrived(&self, work: Work) {
        if let Some(open) = self.open().as_mut() {
            open.caller.ticket.works(work);
        }
    }

    /// A frame has come to a decode thread.
    pub(crate) fn begins(&self, now: Instant) {
        if let Some(open) = self.open().as_mut() {
            open.began.get_or_insert(now);
        }
    }

    /// Takes a decoded frame in.
    pub(crate) fn place(&self, index: usize, pixels: Vec<u8>) -> Placed {
        let mut guard = self.open();
        let Some(open) = guard.as_mut() else {
            return Placed::Waiting;
        };
        let Some(placed @ false) = open.placed.get_mut(index) else {
            return Placed::Waiting;
        };
        *placed = true;
        if self.frames == 1 {
            open.pixels = pixels;
        } else if !pixels.is_empty() {
            // Copied, which costs a tenth of a decode: frames that stay apart would be put together
            // for the device, and then all of them would be in memory twice.
            if open.pixels.is_empty() {
                open.pixels = vec![0; self.frames * self.frame_bytes];
            }
            let start = index * self.frame_bytes;
            open.pixels[start..start + self.frame_bytes].copy_from_slice(&pixels);
        }
        open.missing -= 1;
        if open.missing > 0 {
            return Placed::Waiting;
        }
        let Some(open) = guard.take() else {
            return Placed::Waiting;
        };
        drop(guard);
        let now = Instant::now();
        let Open {
            mut caller,
            coming,
            pixels,
            began,
            ..
        } = open;
        caller.since = now;
        let ready = Ready {
            caller,
            pixels,
            mates: Arc::clone(coming.count()),
        };
        Placed::Whole(Event::Ready((ready, coming)), began.unwrap_or(now))
    }

    /// Answers with a fault, unless it was answered before. Whether it was not.
    pub(crate) fn fail(&self, fault: Fault) -> bool {
        let open = self.open().take();
        open.is_some_and(|open| {
            open.caller.fail(fault);
            true
        })
    }

    fn open(&self) -> MutexGuard<'_, Option<Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
