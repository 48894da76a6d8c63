//! Waiting without the GIL, with an eye on Ctrl-C.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    thread,
    time::Duration,
};

use preheat_client::Error;
use pyo3::prelude::*;

use crate::error::raise;

/// How long is waited before signals are looked for: short enough for a person at the keyboard, and
/// twenty returns a second to the interpreter cost nothing.
pub(crate) const SLICE: Duration = Duration::from_millis(50);

/// Runs something of the core without the GIL. A panic becomes an error.
///
/// # Errors
/// What it returns, as an exception.
pub(crate) fn detached<T: Send>(
    py: Python<'_>,
    run: impl FnOnce() -> Result<T, Error> + Send,
) -> PyResult<T> {
    py.detach(|| caught(run)).map_err(|error| raise(py, &error))
}

/// Repeats something that waits for at most a [`SLICE`] until it has an answer, without the GIL, and
/// looks for signals in between.
///
/// # Errors
/// What it returns, and what a handler of signals raises, as Ctrl-C does.
pub(crate) fn sliced<T: Send>(
    py: Python<'_>,
    mut wait: impl FnMut() -> Result<Option<T>, Error> + Send,
) -> PyResult<T> {
    loop {
        if let Some(done) = detached(py, &mut wait)? {
            return Ok(done);
        }
        py.check_signals()?;
    }
}

/// Runs something that takes long, and cannot be interrupted, in a thread, and waits for it. Where that
/// is interrupted, the thread goes on, and what it returns is dropped.
///
/// # Errors
/// As for [`sliced`].
pub(crate) fn aside<T: Send + 'static>(
    py: Python<'_>,
    run: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> PyResult<T> {
    let (sender, done) = flume::bounded(1);
    let thread = thread::Builder::new().name("preheat-start".into());
    let started = thread.spawn(move || {
        // Fails if nobody waits any more.
        let _ = sender.send(caught(run));
    });
    if let Err(error) = started {
        let error = Error::Internal(format!("cannot start threads: {error}"));
        return Err(raise(py, &error));
    }
    sliced(py, || match done.recv_timeout(SLICE) {
        Ok(result) => result.map(Some),
        Err(flume::RecvTimeoutError::Timeout) => Ok(None),
        Err(flume::RecvTimeoutError::Disconnected) => {
            Err(Error::Internal("a thread is gone".into()))
        }
    })
}

/// The core has no state that a panic leaves behind and that is used again: its loaders stop.
pub(crate) fn caught<T>(run: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
        Err(Error::Internal(text.unwrap_or_else(|| "a panic".into())))
    })
}
