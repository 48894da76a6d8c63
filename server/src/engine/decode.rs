//! The decode pool: payloads → pixels, on OS threads beside the async runtime, because one photo
//! keeps a core busy for milliseconds.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread,
    time::Instant,
};

use bytes::Bytes;
use preheat_models::image::{self, ImageError, Rgb};
use tokio::sync::OwnedSemaphorePermit;

use super::{
    clip::{Clip, Placed},
    item::{Fault, FaultKind, Recipe, Source},
    schedule::Event,
};
use crate::metrics::Metrics;

/// A payload that has come, on its way to the decode pool.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) clip: Arc<Clip>,
    /// Which frame of it this is.
    pub(crate) frame: usize,
    pub(crate) payload: Bytes,
    /// Its place among the payloads of the replica, given back once it is decoded.
    pub(crate) bytes: OwnedSemaphorePermit,
    /// When it came.
    pub(crate) since: Instant,
}

/// What a decode thread needs.
#[derive(Clone, Debug)]
pub(crate) struct Decoder {
    pub(crate) jobs: flume::Receiver<Job>,
    pub(crate) ready: flume::Sender<Event>,
    pub(crate) max_source_pixels: u64,
    pub(crate) metrics: Arc<Metrics>,
}

impl Decoder {
    /// Starts `threads` threads. They end when all senders of jobs are gone.
    pub(crate) fn spawn(&self, threads: usize) -> std::io::Result<()> {
        for index in 0..threads {
            let decoder = self.clone();
            thread::Builder::new()
                .name(format!("decode-{index}"))
                .spawn(move || decoder.run())?;
        }
        Ok(())
    }

    fn run(&self) {
        while let Ok(job) = self.jobs.recv() {
            if let Some(event) = self.decode(job)
                && self.ready.send(event).is_err()
            {
                return;
            }
        }
    }

    /// What there is to tell about it.
    fn decode(&self, job: Job) -> Option<Event> {
        let Job {
            clip,
            frame,
            payload,
            bytes,
            since,
        } = job;
        let start = Instant::now();
        self.metrics.queue_seconds.record(start - since);
        if !clip.is_wanted(start) {
            // So that its mates do not linger for it.
            return Some(Event::Nudge);
        }
        clip.begins(start);
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            if clip.reads_pixels {
                pixels(&clip, &payload, self.max_source_pixels)
            } else {
                Ok(Vec::new())
            }
        }));
        drop((payload, bytes));
        self.metrics.decode_seconds.record(start.elapsed());
        let outcome = outcome.unwrap_or_else(|_| {
            Err(Fault::new(
                FaultKind::BadImage,
                "the decoder panicked on this image: please report it with the file",
            ))
        });
        match outcome {
            Ok(pixels) => {
                self.metrics.frames_decoded.increment(1);
                self.whole(clip.place(frame, pixels))
            }
            Err(fault) => clip
                .fail(of_frame(fault, frame, clip.frames))
                .then_some(Event::Nudge),
        }
    }

    fn whole(&self, placed: Placed) -> Option<Event> {
        let Placed::Whole(event, began) = placed else {
            return None;
        };
        self.metrics.clip_decode_seconds.record(began.elapsed());
        Some(event)
    }
}

/// Says which frame of a clip is meant.
fn of_frame(fault: Fault, frame: usize, frames: usize) -> Fault {
    match frames {
        0 | 1 => fault,
        _ => Fault::new(fault.kind, format!("frame {frame} of {frames}: {fault}")),
    }
}

/// RGB of one frame.
fn pixels(clip: &Clip, payload: &[u8], max_source_pixels: u64) -> Result<Vec<u8>, Fault> {
    let Clip {
        recipe,
        frame_bytes,
        ..
    } = clip;
    let picture = open(recipe, payload, max_source_pixels)?;
    let picture = image::apply(picture, &recipe.transform)?;
    if picture.data.len() != *frame_bytes {
        let (seen, message) = (picture.data.len(), "bytes of RGB after the transform");
        return Err(Fault::new(
            FaultKind::Internal,
            format!("{seen} {message}, expected {frame_bytes}"),
        ));
    }
    Ok(picture.data)
}

fn open(recipe: &Recipe, payload: &[u8], max_source_pixels: u64) -> Result<Rgb, Fault> {
    let [width, height] = recipe.source_size;
    match recipe.source {
        Source::Encoded => {
            let picture = image::decode(payload, max_source_pixels)?;
            sized(
                "decodes to",
                [picture.width, picture.height],
                recipe.source_size,
            )?;
            Ok(picture)
        }
        Source::Video(_) => Err(Fault::new(
            FaultKind::Internal,
            "a video came to a thread that decodes images",
        )),
        Source::Rgb8 => {
            let wanted = width as usize * height as usize * 3;
            if payload.len() != wanted {
                return Err(Fault::new(
                    FaultKind::BadImage,
                    format!(
                        "{} bytes of raw pixels, but {width}x{height} RGB needs {wanted}",
                        payload.len()
                    ),
                ));
            }
            let data = payload.to_vec();
            Ok(Rgb {
                width,
                height,
                data,
            })
        }
    }
}

/// Refuses what has not the size that the call was planned with.
pub(super) fn sized(is: &str, seen: [u32; 2], planned: [u32; 2]) -> Result<(), Fault> {
    if seen == planned {
        return Ok(());
    }
    let ([w, h], [width, height]) = (seen, planned);
    Err(Fault::new(
        FaultKind::Changed,
        format!(
            "{is} {w}x{h}, but the call was planned with {width}x{height}: the file has changed, \
             build the index again"
        ),
    ))
}

impl From<ImageError> for Fault {
    fn from(error: ImageError) -> Self {
        let kind = match error {
            ImageError::Bad(_) => FaultKind::BadImage,
            ImageError::TooLarge { .. } => FaultKind::TooLarge,
            ImageError::Unsupported(_) => FaultKind::Unsupported,
        };
        Self::new(kind, error.to_string())
    }
}
