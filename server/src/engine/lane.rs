//! A device's two threads: one puts batches together, the other owns the device and computes.
//! While one batch is computed the next is already there.

use std::{sync::Arc, thread, time::Instant};

use preheat_models::{Moments, PixelData, Pixels};

use super::{
    batcher::AHEAD,
    generation::Failure,
    item::{Caller, Encoded, Ready},
    queue::Queue,
    schedule::Event,
};
use crate::metrics::DeviceMetrics;

/// A batch on its way to the device.
#[derive(Debug)]
struct Batch {
    pixels: Pixels,
    callers: Vec<Caller>,
}

/// What a device's threads need.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) index: usize,
    /// Weak, so that the threads end when the engine and the decode pool are gone.
    pub(crate) events: flume::WeakSender<Event>,
    pub(crate) queue: Arc<Queue>,
    pub(crate) metrics: DeviceMetrics,
}

impl Lane {
    /// Starts the threads. They end when the sender does. With at most `1 + AHEAD` batches sent
    /// and not reported done, sending never blocks.
    pub(crate) fn spawn(self, device: &str) -> std::io::Result<flume::Sender<Vec<Ready>>> {
        let (groups, chosen) = flume::bounded::<Vec<Ready>>(1 + AHEAD);
        let (batches, assembled) = flume::bounded(AHEAD);
        thread::Builder::new()
            .name(format!("batch-{device}"))
            .spawn(move || {
                while let Ok(items) = chosen.recv() {
                    if batches.send(assemble(items)).is_err() {
                        return;
                    }
                }
            })?;
        thread::Builder::new()
            .name(format!("device-{device}"))
            .spawn(move || {
                while let Ok(batch) = assembled.recv() {
                    self.encode(batch);
                    let Some(events) = self.events.upgrade() else {
                        return;
                    };
                    if events.send(Event::Done(self.index)).is_err() {
                        return;
                    }
                }
            })?;
        Ok(groups)
    }

    fn encode(&self, batch: Batch) {
        let Batch { pixels, callers } = batch;
        let start = Instant::now();
        // The batch may have waited for the device; spare it work that nobody wants any more.
        if !callers.iter().any(|caller| caller.waits(start)) {
            return;
        }
        for caller in &callers {
            self.metrics.batch_wait_seconds.record(start - caller.since);
        }
        let model = Arc::clone(&callers[0].model);
        let outcome = model.encode(self.index, &pixels);
        let took = start.elapsed();
        self.metrics.encode_seconds.record(took);
        self.metrics.batch_items.record(pixels.batch as f64);
        let values = (pixels.len() / 3) as u64;
        self.metrics.batch_pixels.record(values as f64);
        match outcome {
            Ok(moments) => {
                self.queue.measured(values, took);
                if let Some(bytes) = model.device_memory(self.index) {
                    self.metrics.memory(bytes);
                }
                answer(callers, moments);
            }
            Err(failure) => self.fail(callers, failure),
        }
    }

    fn fail(&self, callers: Vec<Caller>, failure: Failure) {
        let items = callers.len();
        match failure {
            Failure::Batch(fault) => {
                tracing::warn!(items, %fault, "a batch failed");
                for caller in callers {
                    caller.fail(fault.clone());
                }
            }
            // Dropped without an answer, their calls are told to try again elsewhere.
            Failure::Device(fault) => {
                self.metrics.faults.increment(1);
                tracing::warn!(items, %fault, "a batch was lost to a fault of the device");
            }
        }
    }
}

fn assemble(mut items: Vec<Ready>) -> Batch {
    let shape = items[0].caller.key.shape;
    let batch = items.len();
    let data = if batch == 1 {
        std::mem::take(&mut items[0].pixels)
    } else {
        let mut data = Vec::with_capacity(batch * items[0].pixels.len());
        for item in &mut items {
            data.extend_from_slice(&std::mem::take(&mut item.pixels));
        }
        data
    };
    Batch {
        pixels: Pixels {
            batch,
            frames: shape.frames as usize,
            height: shape.height as usize,
            width: shape.width as usize,
            data: PixelData::Rgb8(data),
        },
        callers: items.into_iter().map(|item| item.caller).collect(),
    }
}

fn answer(callers: Vec<Caller>, moments: Moments) {
    let moments = Arc::new(moments);
    for (index, caller) in callers.into_iter().enumerate() {
        let encoded = Encoded {
            moments: Arc::clone(&moments),
            index,
            _ticket: caller.ticket,
        };
        // A caller that has gone meanwhile is no error.
        let _ = caller.reply.send(Ok(encoded));
    }
}
