//! The decode pool: payloads → pixels, on OS threads beside the async runtime, because one photo
//! keeps a core busy for milliseconds.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread,
    time::Instant,
};

use preheat_models::image::{self, ImageError, Rgb};

use super::{
    item::{Fault, FaultKind, Item, Ready, Recipe, Source},
    schedule::Event,
};
use crate::metrics::Metrics;

/// What a decode thread needs.
#[derive(Clone, Debug)]
pub(crate) struct Decoder {
    pub(crate) items: flume::Receiver<Item>,
    pub(crate) ready: flume::Sender<Event>,
    pub(crate) max_source_pixels: u64,
    pub(crate) metrics: Arc<Metrics>,
}

impl Decoder {
    /// Starts `threads` threads. They end when all senders of items are gone.
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
        while let Ok(item) = self.items.recv() {
            // Sent even for an item that died, so that its mates do not linger for it.
            let event = self.decode(item).map_or(Event::Nudge, Event::Ready);
            if self.ready.send(event).is_err() {
                return;
            }
        }
    }

    fn decode(&self, item: Item) -> Option<(Ready, super::item::Coming)> {
        let Item {
            mut caller,
            recipe,
            coming,
        } = item;
        let start = Instant::now();
        self.metrics.queue_seconds.record(start - caller.since);
        if !caller.waits(start) {
            return None;
        }
        let frame = caller.key.shape.width as usize * caller.key.shape.height as usize * 3;
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            if caller.model.spec.reads_pixels {
                pixels(&recipe, frame, self.max_source_pixels)
            } else {
                Ok(Vec::new())
            }
        }));
        drop(recipe);
        caller.ticket.release_bytes();
        caller.since = Instant::now();
        self.metrics.decode_seconds.record(caller.since - start);
        let fault = match outcome {
            Ok(Ok(pixels)) => {
                let mates = Arc::clone(coming.count());
                let ready = Ready {
                    caller,
                    pixels,
                    mates,
                };
                return Some((ready, coming));
            }
            Ok(Err(fault)) => fault,
            Err(_) => Fault::new(
                FaultKind::BadImage,
                "the decoder panicked on this image: please report it with the file",
            ),
        };
        caller.fail(fault);
        None
    }
}

/// RGB of all frames, one after the other, `frame` bytes each.
fn pixels(recipe: &Recipe, frame: usize, max_source_pixels: u64) -> Result<Vec<u8>, Fault> {
    let mut all = Vec::new();
    for (index, payload) in recipe.payloads.iter().enumerate() {
        let picture = open(recipe, payload, max_source_pixels)?;
        let picture = image::apply(picture, &recipe.transform)?;
        if picture.data.len() != frame {
            let (seen, message) = (picture.data.len(), "bytes of RGB after the transform");
            return Err(Fault::new(
                FaultKind::Internal,
                format!("frame {index} has {seen} {message}, expected {frame}"),
            ));
        }
        if recipe.payloads.len() == 1 {
            return Ok(picture.data);
        }
        all.extend_from_slice(&picture.data);
    }
    Ok(all)
}

fn open(recipe: &Recipe, payload: &[u8], max_source_pixels: u64) -> Result<Rgb, Fault> {
    let [width, height] = recipe.source_size;
    match recipe.source {
        Source::Encoded => {
            let picture = image::decode(payload, max_source_pixels)?;
            if [picture.width, picture.height] != recipe.source_size {
                return Err(Fault::new(
                    FaultKind::Changed,
                    format!(
                        "decodes to {}x{}, but the call was planned with {width}x{height}: the \
                         file has changed, build the index again",
                        picture.width, picture.height
                    ),
                ));
            }
            Ok(picture)
        }
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
