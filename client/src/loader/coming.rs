//! The next batch, on its way to the trainer: it may be waited for in several goes.

use std::time::Duration;

use tokio::time::Instant;

use super::crashed;
use crate::{
    error::Error,
    pipeline::{Pipeline, Prepared, Slot},
    stats::Recorder,
};

/// What was asked for, and has not been taken yet.
#[derive(Default)]
pub(super) struct Coming {
    asked: Option<Instant>,
    slot: Option<Slot>,
    prepared: Option<Prepared>,
}

impl Coming {
    /// When the trainer asked for it first.
    pub(super) fn asked(&mut self) -> Instant {
        *self.asked.get_or_insert_with(Instant::now)
    }

    /// Waits until it is there, at most so long (`None`: for ever); whether it is.
    pub(super) fn wait(
        &mut self,
        (pipeline, recorder): (&Pipeline, &Recorder),
        most: Option<Duration>,
    ) -> Result<bool, Error> {
        let asked = self.asked();
        let until = most.map(|most| std::time::Instant::now() + most);
        if self.slot.is_none() {
            let Some(slot) = receive(&pipeline.slots, until)? else {
                return Ok(false);
            };
            if matches!(slot, Slot::Batch { .. })
                && let Some(step) = pipeline.window.asked(asked)
            {
                recorder.stepped(step);
            }
            self.slot = Some(slot);
        }
        if let (Some(Slot::Batch { result, .. }), None) = (&self.slot, &self.prepared) {
            self.prepared = receive(result, until)?;
            return Ok(self.prepared.is_some());
        }
        Ok(true)
    }

    /// Takes it, after [`Self::wait`] has said that it is there; `None` for the end of an epoch.
    pub(super) fn take(&mut self) -> Result<Option<Prepared>, Error> {
        let Self { slot, prepared, .. } = std::mem::take(self);
        match (slot, prepared) {
            (Some(Slot::EpochEnd), _) => Ok(None),
            (Some(Slot::Batch { .. }), Some(prepared)) => Ok(Some(prepared)),
            _ => Err(Error::Internal("a batch that is not there".into())),
        }
    }
}

/// The next message; `None` if it does not come in time.
fn receive<T>(
    from: &flume::Receiver<T>,
    until: Option<std::time::Instant>,
) -> Result<Option<T>, Error> {
    let Some(until) = until else {
        return from.recv().map(Some).map_err(crashed);
    };
    match from.recv_deadline(until) {
        Ok(message) => Ok(Some(message)),
        Err(flume::RecvTimeoutError::Timeout) => Ok(None),
        Err(error @ flume::RecvTimeoutError::Disconnected) => Err(crashed(error)),
    }
}
