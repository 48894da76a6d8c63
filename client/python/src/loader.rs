//! The loader, for one process.

use std::{
    mem, process,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use preheat_client::{DataLoader, Error, State, dataset::Opened};
use pyo3::{
    prelude::*,
    types::{PyDict, PyTuple},
};

use crate::{
    batch::Batch,
    error::{config, make, raise},
    options, stats,
    wait::{SLICE, aside, caught, detached, sliced},
};

type Shared = Arc<Mutex<Option<DataLoader>>>;

/// A loader at work. `preheat.DataLoader` is made of it.
#[pyclass(module = "preheat._core", frozen)]
pub(crate) struct Loader {
    inner: Shared,
    /// The process that its threads are in.
    process: u32,
    /// What the datasets are called, in their order; an empty name for one that is alone.
    #[pyo3(get)]
    sources: Py<PyTuple>,
}

impl Drop for Loader {
    fn drop(&mut self) {
        if self.process != process::id() {
            // A child of `fork` has none of the threads that would be waited for, and may have locks
            // that they held.
            mem::forget(mem::take(&mut self.inner));
            return;
        }
        // What the latent cache has not written yet may take a moment.
        let inner = mem::take(&mut self.inner);
        Python::attach(|py| py.detach(|| drop(inner)));
    }
}

fn lock(shared: &Shared) -> MutexGuard<'_, Option<DataLoader>> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Loader {
    fn check_process(&self, py: Python<'_>) -> PyResult<()> {
        check_process(py, self.process, "loader")
    }

    /// Does something with the loader, without the GIL: another thread may be waiting in it, for a
    /// slice.
    fn with<T: Send>(
        &self,
        py: Python<'_>,
        run: impl FnOnce(&mut DataLoader) -> Result<T, Error> + Send,
    ) -> PyResult<T> {
        self.check_process(py)?;
        let done = detached(py, || lock(&self.inner).as_mut().map(run).transpose())?;
        done.ok_or_else(|| closed(py))
    }

    /// The next batch, if it is there now. Without giving the GIL away: to get it back may take longer
    /// than all the rest.
    fn ready(&self, py: Python<'_>) -> Option<PyResult<Option<preheat_client::Batch>>> {
        let mut guard = self.inner.try_lock().ok()?;
        let loader = guard.as_mut()?;
        if !loader.wait(Duration::ZERO) {
            return None;
        }
        let batch = caught(|| loader.next_batch());
        Some(batch.map_err(|error| raise(py, &error)))
    }
}

/// Refuses what was started in another process.
pub(crate) fn check_process(py: Python<'_>, started_in: u32, what: &str) -> PyResult<()> {
    if started_in == process::id() {
        return Ok(());
    }
    let text = format!(
        "this {what} was started before the process was forked, and its threads are in the parent: \
         make it in the child, or with start=False before the fork"
    );
    Err(make(py, "ForkError", &text, None))
}

fn closed(py: Python<'_>) -> PyErr {
    let text = "the loader is closed: make another one, with this one's state to go on";
    make(py, "ClosedError", text, None)
}

#[pymethods]
impl Loader {
    /// Indexes the dataset, finds the model, and starts to work ahead.
    #[new]
    fn new(py: Python<'_>, options: &Bound<'_, PyDict>) -> PyResult<Self> {
        let config = options::parse(options)?;
        let loader = aside(py, || DataLoader::new(config))?;
        let sources = loader.dataset().sources().iter();
        let sources = PyTuple::new(py, sources.map(Opened::name).collect::<Vec<_>>())?;
        Ok(Self {
            sources: sources.unbind(),
            inner: Arc::new(Mutex::new(Some(loader))),
            process: process::id(),
        })
    }

    /// The next batch; `None` once at the end of each epoch, and for ever after the last.
    fn next(&self, py: Python<'_>) -> PyResult<Option<Batch>> {
        self.check_process(py)?;
        let batch = match self.ready(py) {
            Some(batch) => batch?,
            None => {
                let next = || match lock(&self.inner).as_mut() {
                    None => Ok(Some(None)),
                    Some(loader) => {
                        let there = loader.wait(SLICE);
                        there
                            .then(|| loader.next_batch())
                            .transpose()
                            .map(|next| next.map(Some))
                    }
                };
                sliced(py, next)?.ok_or_else(|| closed(py))?
            }
        };
        batch
            .map(|batch| Batch::new(py, batch, &self.sources))
            .transpose()
    }

    /// Takes so many batches without making anything of them, for measurements; seconds for each.
    fn take(&self, py: Python<'_>, batches: u64) -> PyResult<Vec<f64>> {
        self.with(py, |loader| {
            let mut before = Instant::now();
            let times = (0..batches).map(|_| {
                drop(loader.next_batch()?);
                let start = before;
                before = Instant::now();
                Ok((before - start).as_secs_f64())
            });
            times.collect()
        })
    }

    /// Whether the next batch, or the end of the epoch, is there now.
    fn is_ready(&self, py: Python<'_>) -> PyResult<bool> {
        self.with(py, |loader| Ok(loader.wait(Duration::ZERO)))
    }

    /// Epoch and step of the next batch.
    fn position(&self, py: Python<'_>) -> PyResult<(u64, u64)> {
        let state = self.with(py, |loader| Ok(loader.state()))?;
        Ok((state.epoch, state.step))
    }

    /// The state as it is, or was, with the next batch at this place; JSON.
    fn state(&self, py: Python<'_>, epoch: u64, step: u64) -> PyResult<String> {
        let state = self.with(py, |loader| Ok(loader.state()))?;
        let state = State {
            epoch,
            step,
            ..state
        };
        Ok(state.to_json())
    }

    /// Goes to a saved place.
    fn load_state(&self, py: Python<'_>, json: &str) -> PyResult<()> {
        self.with(py, |loader| loader.load_state(&State::from_json(json)?))
    }

    /// Goes to any place.
    fn seek(&self, py: Python<'_>, epoch: u64, step: u64) -> PyResult<()> {
        self.with(py, |loader| {
            let state = State {
                epoch,
                step,
                ..loader.state()
            };
            loader.load_state(&state)
        })
    }

    /// Steps of one epoch.
    fn steps(&self, py: Python<'_>) -> PyResult<u64> {
        self.with(py, |loader| Ok(loader.steps()))
    }

    /// Ids of the samples of a step, over all ranks, in order.
    fn planned(&self, py: Python<'_>, epoch: u64, step: u64) -> PyResult<Vec<u64>> {
        let planned = self.with(py, |loader| {
            let plan = loader.plan();
            let there = step < plan.steps();
            Ok(there.then(|| plan.global_batch(epoch, step).positions))
        })?;
        let planned = planned.ok_or_else(|| {
            let reason = format!("is {step}: an epoch has fewer steps, see len()");
            config(py, "step", &reason)
        })?;
        Ok(planned.iter().map(|place| place.sample).collect())
    }

    /// Samples of the dataset, bad ones included.
    fn samples(&self, py: Python<'_>) -> PyResult<u64> {
        self.with(py, |loader| Ok(loader.dataset().len()))
    }

    /// What a sample is called.
    fn key(&self, py: Python<'_>, id: u64) -> PyResult<String> {
        let key = self.with(py, |loader| {
            let dataset = loader.dataset();
            let there = id < dataset.len();
            let key = || dataset.key(id).into_owned();
            Ok(if there { Ok(key()) } else { Err(dataset.len()) })
        })?;
        key.map_err(|samples| {
            let reason = format!(
                "is {id}, and the dataset has {samples} samples: ids are 0..={}",
                samples - 1
            );
            config(py, "id", &reason)
        })
    }

    /// The model, as its replica describes it.
    fn model<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let model = self.with(py, |loader| Ok(loader.model().clone()))?;
        stats::model(py, &model)
    }

    /// What becomes of the samples.
    fn report<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let report = self.with(py, |loader| Ok(loader.report()))?;
        stats::report(py, &report)
    }

    /// What has been done so far.
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let now = self.with(py, |loader| Ok(loader.stats()))?;
        stats::stats(py, &now)
    }

    /// One line for a terminal.
    fn progress(&self, py: Python<'_>) -> PyResult<String> {
        self.with(py, |loader| Ok(loader.stats().progress_line()))
    }

    /// What the run was bound by, in a few lines.
    fn summary(&self, py: Python<'_>) -> PyResult<String> {
        self.with(py, |loader| Ok(loader.stats().summary()))
    }

    /// Cancels everything under way. A second time it does nothing.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        if self.process != process::id() {
            return Ok(());
        }
        detached(py, || {
            let loader = lock(&self.inner).take();
            drop(loader);
            Ok(())
        })
    }
}
