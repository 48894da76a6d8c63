//! Files that are read again when they change, without a restart.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use tokio::sync::watch;

/// How often the files are looked at: they are small, and nobody waits longer for a rotation.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Bytes of one file: more than any chain of certificates or list of tokens has.
const MAX_FILE: u64 = 1 << 20;

/// What the files say at present.
pub(super) struct Current<T>(watch::Receiver<Arc<T>>);

impl<T> Current<T> {
    /// A copy, so that a rotation does not wait for its user.
    pub(super) fn get(&self) -> Arc<T> {
        Arc::clone(&self.0.borrow())
    }
}

/// Makes something of the contents of files, now and whenever they change, until the answer is
/// dropped. What cannot be made leaves the old one in force, and the log says why. Must be called
/// inside a runtime.
///
/// # Errors
/// Where it cannot be made now.
pub(super) fn follow<T: Send + Sync + 'static>(
    what: &'static str,
    files: Vec<PathBuf>,
    make: impl Fn(&[Vec<u8>]) -> anyhow::Result<T> + Send + Sync + 'static,
) -> anyhow::Result<Current<T>> {
    let seen = read(&files)?;
    let (sender, current) = watch::channel(Arc::new(make(&seen)?));
    let seen = Mutex::new(seen);
    let look = Arc::new(move || {
        // A file that is missing for a moment is being replaced. Contents are compared, not times:
        // a mounted secret changes by a link, and copies keep times.
        let now = read(&files).ok()?;
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        if now == *seen {
            return None;
        }
        let made = make(&now);
        *seen = now;
        Some(made)
    });
    tokio::spawn(async move {
        let mut pace = tokio::time::interval(LOOK_EVERY);
        pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = pace.tick() => {}
                () = sender.closed() => return,
            }
            // Off the runtime's threads: a file may lie on a disk that hangs.
            let look = Arc::clone(&look);
            match tokio::task::spawn_blocking(move || look()).await {
                Ok(None) => {}
                Ok(Some(Ok(made))) => {
                    sender.send_replace(Arc::new(made));
                    tracing::info!("{what} changed: the new one is in force");
                }
                Ok(Some(Err(error))) => {
                    tracing::warn!("{what} changed and is no good, the old one stays: {error:#}");
                }
                Err(_) => return,
            }
        }
    });
    Ok(Current(current))
}

fn read(files: &[PathBuf]) -> anyhow::Result<Vec<Vec<u8>>> {
    files.iter().map(|path| one(path)).collect()
}

fn one(path: &Path) -> anyhow::Result<Vec<u8>> {
    let name = path.display();
    let cannot = || format!("cannot read {name}");
    let size = std::fs::metadata(path).with_context(cannot)?.len();
    anyhow::ensure!(
        size <= MAX_FILE,
        "{name} has {size} bytes: not what is expected here"
    );
    std::fs::read(path).with_context(cannot)
}
