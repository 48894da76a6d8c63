//! The thread that asks the batcher what to do, and does it.

use std::{thread, time::Instant};

use super::{
    batcher::{Batcher, Next},
    item::{Coming, Ready},
};

/// What the thread wakes up for.
#[derive(Debug)]
pub(crate) enum Event {
    /// An item is decoded. The guard goes with it, so that at no moment it is neither counted as
    /// coming nor there.
    Ready((Ready, Coming)),
    /// A device has finished a batch.
    Done(usize),
    /// Something has died: look again.
    Nudge,
}

/// Starts the thread. It ends when all strong senders of events are gone, or when one of the
/// `devices` is.
pub(crate) fn spawn(
    batcher: Batcher<Ready>,
    events: flume::Receiver<Event>,
    devices: Vec<flume::Sender<Vec<Ready>>>,
) -> std::io::Result<()> {
    thread::Builder::new()
        .name("schedule".to_owned())
        .spawn(move || run(batcher, &events, &devices))?;
    Ok(())
}

fn run(
    mut batcher: Batcher<Ready>,
    events: &flume::Receiver<Event>,
    devices: &[flume::Sender<Vec<Ready>>],
) {
    let mut event = None;
    loop {
        let now = Instant::now();
        for event in event.take().into_iter().chain(events.try_iter()) {
            match event {
                Event::Ready((item, coming)) => {
                    batcher.push(item, now);
                    drop(coming);
                }
                Event::Done(device) => batcher.done(device, now),
                Event::Nudge => {}
            }
        }
        event = match batcher.next(now) {
            Next::Batch(device, items) => {
                if devices[device].send(items).is_err() {
                    return;
                }
                continue;
            }
            Next::Orphans(items) => {
                // Dropped without an answer, their calls are told to try again elsewhere.
                tracing::warn!(items = items.len(), "no device is left for these");
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
