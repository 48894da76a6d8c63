//! A device's three threads: one puts batches together, one owns the device and hands them over, and
//! one waits for what the device makes of them, reads it back and answers. So while a batch is
//! computed the next is already on the device, if the device takes work ahead, or else ready in
//! memory.

use std::{sync::Arc, thread, time::Instant};

use preheat_models::{Moments, Pending, PixelData, Pixels};

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

/// A batch that the device has.
#[derive(Debug)]
struct Begun {
    at: Instant,
    outcome: Result<Pending, Failure>,
    /// Output pixels.
    pixels: u64,
    callers: Vec<Caller>,
}

/// What a device's threads need.
#[derive(Clone, Debug)]
pub(crate) struct Lane {
    pub(crate) index: usize,
    /// Weak, so that the threads end when the engine and the decode pool are gone.
    pub(crate) events: flume::WeakSender<Event>,
    pub(crate) queue: Arc<Queue>,
    pub(crate) metrics: Arc<DeviceMetrics>,
}

impl Lane {
    /// Starts the threads. They end when the sender does. With at most `1 + AHEAD` batches sent
    /// and not reported done, sending never blocks.
    pub(crate) fn spawn(self, device: &str) -> std::io::Result<flume::Sender<Vec<Ready>>> {
        let (groups, chosen) = flume::bounded::<Vec<Ready>>(1 + AHEAD);
        let (batches, assembled) = flume::bounded(AHEAD);
        let (handed, begun) = flume::bounded(AHEAD);
        let spawn = |task: &str, work: Box<dyn FnOnce() + Send>| {
            let name = format!("{task}-{device}");
            thread::Builder::new().name(name).spawn(work)
        };
        spawn(
            "batch",
            Box::new(move || {
                while let Ok(items) = chosen.recv() {
                    if batches.send(assemble(items)).is_err() {
                        return;
                    }
                }
            }),
        )?;
        let owner = self.clone();
        spawn(
            "device",
            Box::new(move || {
                while let Ok(batch) = assembled.recv() {
                    if handed.send(owner.begin(batch)).is_err() {
                        return;
                    }
                }
            }),
        )?;
        spawn("answer", Box::new(move || self.answer(&begun)))?;
        Ok(groups)
    }

    /// Nothing where nobody wants the batch any more.
    fn begin(&self, batch: Batch) -> Option<Begun> {
        let Batch { pixels, callers } = batch;
        let at = Instant::now();
        // The batch may have waited for the device; spare it work that nobody wants any more.
        if !callers.iter().any(|caller| caller.waits(at)) {
            return None;
        }
        for caller in &callers {
            self.metrics.batch_wait_seconds.record(at - caller.since);
        }
        let model = &callers[0].model;
        let outcome = model.begin(self.index, &pixels);
        if let Some(bytes) = model.device_memory(self.index) {
            self.metrics.memory(bytes);
        }
        let values = (pixels.len() / 3) as u64;
        self.metrics.batch_items.record(pixels.batch as f64);
        self.metrics.batch_pixels.record(values as f64);
        Some(Begun {
            at,
            outcome,
            pixels: values,
            callers,
        })
    }

    fn answer(&self, begun: &flume::Receiver<Option<Begun>>) {
        // Since when the device has had nothing else to do.
        let mut free = Instant::now();
        while let Ok(begun) = begun.recv() {
            if let Some(begun) = begun {
                self.finish(begun, &mut free);
            }
            let Some(events) = self.events.upgrade() else {
                return;
            };
            if events.send(Event::Done(self.index)).is_err() {
                return;
            }
        }
    }

    fn finish(&self, begun: Begun, free: &mut Instant) {
        let Begun {
            at,
            outcome,
            pixels,
            callers,
        } = begun;
        let model = Arc::clone(&callers[0].model);
        let computed = outcome.and_then(|mut pending| {
            model.computed(self.index, &mut pending)?;
            Ok(pending)
        });
        let now = Instant::now();
        let took = now - at.max(*free);
        *free = now;
        self.metrics.encode_seconds.record(took);
        let moments = computed.and_then(|pending| {
            self.metrics.upload_seconds.record(pending.upload());
            let moments = model.read_back(self.index, pending, (callers.len(), pixels, took))?;
            self.metrics.read_back_seconds.record(now.elapsed());
            Ok(moments)
        });
        match moments {
            Ok(moments) => {
                self.queue.measured(pixels, took);
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
