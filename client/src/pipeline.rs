//! Work ahead of the trainer: one task admits batches in order, one task each prepares them, and
//! the trainer takes them in order.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::runtime::Handle;
use tokio_util::task::AbortOnDropHandle;

use crate::{
    batch::Batch,
    error::Error,
    prepare::{Job, Run},
    stats::{Ready, Stage, Track},
    window::{Admission, Window},
};

/// Where a run is: the next batch to deliver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cursor {
    pub(crate) epoch: u64,
    pub(crate) step: u64,
}

/// A batch that waits to be taken, or why there is none, with the room it takes up.
pub(crate) struct Prepared {
    pub(crate) batch: Result<Batch, Error>,
    pub(crate) admission: Admission,
    pub(crate) ready: Ready,
    /// The chunk that was complete last: what the batch waited for. None for one that is replayed.
    pub(crate) last: Option<Track>,
}

/// The next thing to deliver.
pub(crate) enum Slot {
    /// A batch, ready or not. Dropping the slot cancels it.
    Batch {
        result: flume::Receiver<Prepared>,
        /// Held only.
        _task: AbortOnDropHandle<()>,
    },
    /// The end of an epoch.
    EpochEnd,
}

/// Dropping it cancels everything under way.
pub(crate) struct Pipeline {
    pub(crate) slots: flume::Receiver<Slot>,
    pub(crate) window: Window,
    driver: AbortOnDropHandle<()>,
}

impl Pipeline {
    pub(crate) fn start(runtime: &Handle, run: Arc<Run>, from: Cursor, window: Window) -> Self {
        // The window bounds batches; this bounds the ends of epochs between them.
        let (sender, slots) = flume::bounded(window.slots() as usize + 1);
        let driver = drive(runtime.clone(), run, from, (window.clone(), sender));
        Self {
            slots,
            window,
            driver: AbortOnDropHandle::new(runtime.spawn(driver)),
        }
    }

    /// Cancels everything under way: nobody will take it.
    pub(crate) fn stop(&self) {
        self.driver.abort();
        drop(self.slots.drain());
    }
}

async fn drive(
    runtime: Handle,
    run: Arc<Run>,
    from: Cursor,
    (window, sender): (Window, flume::Sender<Slot>),
) {
    let Cursor {
        mut epoch,
        mut step,
    } = from;
    while run.epochs.is_none_or(|epochs| epoch < epochs) {
        let slot = if step == run.plan.steps() {
            (epoch, step) = (epoch + 1, 0);
            Slot::EpochEnd
        } else {
            let planned = run.plan.rank_slice(epoch, step, run.ranks);
            let admission = window.admit(run.cost_bytes(&planned)).await;
            run.recorder.admitted(&window);
            let job = Job {
                epoch,
                step,
                planned,
                needed_at: window.needed_at(),
                last: Mutex::new(None),
            };
            step += 1;
            prepare(&runtime, run.clone(), job, admission)
        };
        if sender.send_async(slot).await.is_err() {
            return;
        }
    }
}

fn prepare(runtime: &Handle, run: Arc<Run>, job: Job, mut admission: Admission) -> Slot {
    let (sender, result) = flume::bounded(1);
    let task = runtime.spawn(async move {
        let batch = match &run.headspace {
            Some(headspace) => headspace.replay(&run, &job).await,
            None => run.prepare(&job).await,
        };
        let last = job
            .last
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        let queued = last.as_ref().map(|last| last.spent()[Stage::Queue]);
        let bytes = batch.as_ref().map_or(0, Batch::held_bytes);
        admission.complete(bytes, queued.unwrap_or_default());
        let prepared = Prepared {
            last,
            ready: run.recorder.ready(),
            admission,
            batch,
        };
        // Fails only if nobody wants it any more.
        let _ = sender.send(prepared);
    });
    Slot::Batch {
        result,
        _task: AbortOnDropHandle::new(task),
    }
}
