//! The first batch of every shape, again and again: what a trainer could do if data were free.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::OnceCell;

use crate::{
    batch::Batch,
    error::Error,
    prepare::{Job, Run},
};

/// Batches that can be replayed, by bucket and number of samples: no more than there are shapes.
#[derive(Debug, Default)]
pub(crate) struct Headspace(Mutex<HashMap<Shape, Arc<OnceCell<Batch>>>>);

type Shape = (usize, usize);

impl Headspace {
    /// The batch of this shape that is there, at the place of `job`; prepared if there is none.
    pub(crate) async fn replay(&self, run: &Run, job: &Job) -> Result<Batch, Error> {
        let shape = (job.planned.bucket, job.planned.positions.len());
        let cell = {
            let mut cells = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            cells.entry(shape).or_default().clone()
        };
        let kept = cell.get_or_try_init(|| run.prepare(job)).await?;
        // The latents are shared, not copied.
        let mut batch = kept.clone();
        batch.replayed = (batch.epoch, batch.step) != (job.epoch, job.step);
        (batch.epoch, batch.step) = (job.epoch, job.step);
        Ok(batch)
    }
}
