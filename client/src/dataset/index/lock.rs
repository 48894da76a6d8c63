//! One process builds an index, others wait for it: the ranks of a run all open the same dataset.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io,
    path::Path,
    time::Duration,
};

use tokio::time::{Instant, sleep};

/// How long to wait for another process: longer than building takes, shorter than anybody would wait
/// for one that hangs.
pub const MAX_LOCK_WAIT: Duration = Duration::from_secs(6 * 3600);
/// Between looks at the lock: what a rank loses at most, once.
const POLL: Duration = Duration::from_millis(100);
/// Between log lines.
const REMIND: Duration = Duration::from_secs(60);

/// Held until it is dropped, or the process ends.
#[derive(Debug)]
pub(super) struct Lock(#[expect(dead_code, reason = "closing it unlocks")] File);

impl Lock {
    /// Waits for a lock on `path`, which is made where there is none and stays: a lock on a file that
    /// somebody deletes locks nobody out.
    pub(super) async fn acquire(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        let since = Instant::now();
        let mut reminded = None;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Self(file)),
                Err(TryLockError::Error(error)) => return Err(error),
                Err(TryLockError::WouldBlock) => {}
            }
            if since.elapsed() > MAX_LOCK_WAIT {
                let why = format!("another process has been building it for {MAX_LOCK_WAIT:?}");
                return Err(io::Error::new(io::ErrorKind::TimedOut, why));
            }
            if reminded.is_none_or(|at: Instant| at.elapsed() > REMIND) {
                reminded = Some(Instant::now());
                let lock = path.display();
                tracing::info!(%lock, "another process builds the index: waiting for it");
            }
            sleep(POLL).await;
        }
    }
}
