//! A device's two threads: one makes batches, the other owns the encoders and computes. While one
//! batch is computed the next is already put together.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread,
    time::Instant,
};

use preheat_models::{Encoder, Error, Moments, PixelData, Pixels};

use super::{
    batcher::{Batcher, Device, Next},
    item::{Caller, Coming, Encoded, Fault, FaultKind, Ready},
    queue::Queue,
};
use crate::metrics::Metrics;

/// Batches put together ahead of the device. One is enough to hide the copying; more would only
/// take the choice of mates too early.
const AHEAD: usize = 1;

/// What the batching thread wakes up for.
#[derive(Debug)]
pub(crate) enum Event {
    /// An item is decoded. The guard goes with it, so that at no moment it is neither counted as
    /// coming nor there.
    Ready((Ready, Coming)),
    /// The device has finished a batch.
    Done,
    /// Something has died: look again.
    Nudge,
}

/// A batch on its way to the device.
#[derive(Debug)]
struct Batch {
    pixels: Pixels,
    callers: Vec<Caller>,
}

/// What a device's threads need.
pub(crate) struct Lane {
    pub(crate) encoders: Vec<Box<dyn Encoder>>,
    pub(crate) batcher: Batcher<Ready>,
    pub(crate) events: flume::Receiver<Event>,
    /// Weak, so that the threads end when the engine and the decode pool are gone.
    pub(crate) done: flume::WeakSender<Event>,
    pub(crate) queue: Arc<Queue>,
    pub(crate) metrics: Arc<Metrics>,
}

impl Lane {
    /// Starts the threads. They end when all strong senders of events are gone.
    pub(crate) fn spawn(self, device: &str) -> std::io::Result<()> {
        let (batches, taken) = flume::bounded(AHEAD);
        let (events, batcher) = (self.events, self.batcher);
        thread::Builder::new()
            .name(format!("batch-{device}"))
            .spawn(move || make_batches(batcher, &events, &batches))?;
        let mut worker = Worker {
            encoders: self.encoders,
            queue: self.queue,
            metrics: self.metrics,
        };
        let done = self.done;
        thread::Builder::new()
            .name(format!("device-{device}"))
            .spawn(move || {
                while let Ok(batch) = taken.recv() {
                    worker.encode(batch);
                    if done
                        .upgrade()
                        .is_none_or(|tx| tx.send(Event::Done).is_err())
                    {
                        return;
                    }
                }
            })?;
        Ok(())
    }
}

fn make_batches(
    mut batcher: Batcher<Ready>,
    events: &flume::Receiver<Event>,
    batches: &flume::Sender<Batch>,
) {
    // Batches sent and not reported done. The device computes one; `AHEAD` wait in the channel,
    // so a send below never blocks.
    let mut running = 0;
    let mut event = None;
    loop {
        let now = Instant::now();
        for event in event.take().into_iter().chain(events.try_iter()) {
            match event {
                Event::Ready((item, coming)) => {
                    batcher.push(item, now);
                    drop(coming);
                }
                Event::Done => running -= 1,
                Event::Nudge => {}
            }
        }
        let next = match running {
            0 => batcher.next(now, Device::Idle),
            n if n <= AHEAD => batcher.next(now, Device::Busy),
            _ => {
                // Nothing can be launched, but the places of callers that left are wanted back.
                batcher.sweep(now);
                Next::Nothing
            }
        };
        event = match next {
            Next::Batch(items) => {
                running += 1;
                if batches.send(assemble(items)).is_err() {
                    return;
                }
                continue;
            }
            Next::At(at) => match events.recv_deadline(at) {
                Err(flume::RecvTimeoutError::Disconnected) => return,
                other => other.ok(),
            },
            Next::Nothing => match events.recv() {
                Err(_) => return,
                Ok(event) => Some(event),
            },
        };
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

struct Worker {
    encoders: Vec<Box<dyn Encoder>>,
    queue: Arc<Queue>,
    metrics: Arc<Metrics>,
}

impl Worker {
    fn encode(&mut self, batch: Batch) {
        let Batch { pixels, callers } = batch;
        let start = Instant::now();
        // The batch may have waited for the device; spare it work that nobody wants any more.
        if !callers.iter().any(|caller| caller.waits(start)) {
            return;
        }
        for caller in &callers {
            self.metrics.batch_wait_seconds.record(start - caller.since);
        }
        let encoder = &mut self.encoders[callers[0].key.model];
        let outcome = catch_unwind(AssertUnwindSafe(|| encoder.encode(&pixels)));
        let took = start.elapsed();
        self.metrics.encode_seconds.record(took);
        self.metrics.batch_items.record(pixels.batch as f64);
        let values = (pixels.len() / 3) as u64;
        self.metrics.batch_pixels.record(values as f64);
        drop(pixels);
        match outcome.map_or_else(|_| Err(panicked()), |result| check(result, callers.len())) {
            Ok(moments) => {
                self.queue.measured(values, took);
                answer(callers, moments);
            }
            Err(fault) => {
                tracing::warn!(items = callers.len(), %fault, "a batch failed");
                for caller in callers {
                    caller.fail(fault.clone());
                }
            }
        }
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

fn check(result: Result<Moments, Error>, batch: usize) -> Result<Moments, Fault> {
    let moments = result.map_err(|error| match error {
        Error::Size { .. } => Fault::new(FaultKind::Shape, error.to_string()),
        other => Fault::new(FaultKind::Internal, other.to_string()),
    })?;
    let values = batch * moments.element_len();
    let logvar_fits = moments.logvar.as_ref().is_none_or(|v| v.len() == values);
    if moments.shape[0] != batch || moments.mean.len() != values || !logvar_fits {
        let shape = moments.shape;
        return Err(Fault::new(
            FaultKind::Internal,
            format!("the model answered a batch of {batch} with shape {shape:?}"),
        ));
    }
    Ok(moments)
}

fn panicked() -> Fault {
    Fault::new(
        FaultKind::Internal,
        "the model panicked on this batch: see the log of the replica",
    )
}
