//! The threads of a loader.

use std::{thread, time::Duration};

use tokio::runtime::{Builder, Runtime};

use crate::{
    dataset::{MAX_READS, store::LOCAL_READS},
    error::Error,
};

/// Threads of the loader's runtime: they move bytes, and wait.
const WORKER_THREADS: usize = 2;
/// Threads for blocking: every sample that is read may keep one, which waits for one of those that read files.
const READ_THREADS: usize = MAX_READS + LOCAL_READS;

/// How long its threads may take to end, once it is dropped, before they are let go of: reads of a disk that
/// hangs. Nobody waits for it.
const END_WAIT: Duration = Duration::from_secs(10);

/// A runtime that may be dropped anywhere: a plain one panics inside another.
pub(crate) struct Background(Option<Runtime>);

impl Background {
    /// `decoders`: threads that wait for a process each, on top of those that read.
    pub(crate) fn start(decoders: usize) -> Result<Self, Error> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(WORKER_THREADS)
            .max_blocking_threads(READ_THREADS + decoders)
            .thread_name("preheat-loader")
            .enable_all()
            .build()
            .map_err(|error| Error::Internal(format!("cannot start threads: {error}")))?;
        Ok(Self(Some(runtime)))
    }

    pub(crate) fn handle(&self) -> &tokio::runtime::Handle {
        self.0.as_ref().expect("taken in drop only").handle()
    }

    /// Blocks for a future, also inside another runtime, where `block_on` would panic.
    pub(crate) fn wait<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, Error> {
        let (sender, result) = flume::bounded(1);
        self.handle().spawn(async move {
            let _ = sender.send(future.await);
        });
        result
            .recv()
            .map_err(|_| Error::Internal("a task of the loader panicked".into()))
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        let Some(runtime) = self.0.take() else { return };
        let mut ending = Ending(Some(runtime));
        let end = move || {
            if let Some(runtime) = ending.0.take() {
                runtime.shutdown_timeout(END_WAIT);
            }
        };
        // Without a thread for it, it ends as it is dropped with the closure.
        let _ = thread::Builder::new()
            .name("preheat-loader-end".into())
            .spawn(end);
    }
}

/// A runtime that is ended by a thread of its own, which may wait. Its threads are joined: in glibc (bug
/// 19951) to let go of a thread in the moment in which it ends reads memory that is gone.
struct Ending(Option<Runtime>);

impl Drop for Ending {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
