//! Files that are read again when they change, without a restart.

use std::{
    io::Read,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, ensure};
use tokio::sync::watch;

/// How often the files are looked at: they are small, and nobody waits longer for a rotation.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Bytes of one file: more than any chain of certificates or list of tokens has.
const MAX_FILE: u64 = 1 << 20;

/// What the files say at present.
pub(crate) type Current<T> = watch::Receiver<Arc<T>>;

/// Something made from files, and what it was made from.
struct Watched<T, F> {
    what: &'static str,
    files: Vec<PathBuf>,
    make: F,
    /// The contents looked at last, good or bad, so that bad ones are reported once.
    seen: Vec<Vec<u8>>,
    current: watch::Sender<Arc<T>>,
}

/// Makes something from the contents of files, now and whenever they change, until the answer is
/// dropped. What cannot be made leaves the old one in force, and the log says why.
///
/// # Errors
/// Where it cannot be made now.
pub(crate) fn watch<T, F>(
    what: &'static str,
    files: Vec<PathBuf>,
    make: F,
) -> anyhow::Result<Current<T>>
where
    T: Send + Sync + 'static,
    F: Fn(&[Vec<u8>]) -> anyhow::Result<T> + Send + 'static,
{
    let (mut watched, current) = Watched::new(what, files, make)?;
    tokio::spawn(async move {
        let mut pace = tokio::time::interval(LOOK_EVERY);
        pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = pace.tick() => {}
                () = watched.current.closed() => return,
            }
            // Off the runtime's threads: a file may lie on a disk that hangs.
            let looked = tokio::task::spawn_blocking(move || {
                watched.look();
                watched
            });
            let Ok(back) = looked.await else { return };
            watched = back;
        }
    });
    Ok(current)
}

impl<T, F> Watched<T, F>
where
    F: Fn(&[Vec<u8>]) -> anyhow::Result<T>,
{
    fn new(what: &'static str, files: Vec<PathBuf>, make: F) -> anyhow::Result<(Self, Current<T>)> {
        let seen = read(&files)?;
        let (current, receiver) = watch::channel(Arc::new(make(&seen)?));
        let watched = Self {
            what,
            files,
            make,
            seen,
            current,
        };
        Ok((watched, receiver))
    }

    /// Compares contents, not times: a mounted secret changes by a link, and copies keep times.
    fn look(&mut self) {
        let what = self.what;
        // A file that is missing for a moment is being replaced.
        let Ok(now) = read(&self.files) else { return };
        if now == self.seen {
            return;
        }
        match (self.make)(&now) {
            Ok(made) => {
                self.current.send_replace(Arc::new(made));
                tracing::info!("{what} changed: the new one is in force");
            }
            Err(error) => {
                tracing::warn!("{what} changed and is no good, the old one stays: {error:#}");
            }
        }
        self.seen = now;
    }
}

fn read(files: &[PathBuf]) -> anyhow::Result<Vec<Vec<u8>>> {
    files.iter().map(|path| read_one(path)).collect()
}

/// One file, whole.
///
/// # Errors
/// Where it cannot be read, or is larger than anything expected here.
pub(crate) fn read_one(path: &Path) -> anyhow::Result<Vec<u8>> {
    let name = path.display();
    let file = std::fs::File::open(path).with_context(|| format!("cannot read {name}"))?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1)
        .read_to_end(&mut bytes)
        .with_context(|| format!("cannot read {name}"))?;
    let size = bytes.len() as u64;
    ensure!(
        size <= MAX_FILE,
        "{name} is larger than {MAX_FILE} bytes: is it the right file?"
    );
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(contents: &[Vec<u8>]) -> anyhow::Result<u32> {
        Ok(std::str::from_utf8(&contents[0])?.trim().parse()?)
    }

    #[test]
    fn a_good_change_is_taken_and_a_bad_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("number");
        std::fs::write(&path, "1").unwrap();
        let (mut watched, current) =
            Watched::new("the number", vec![path.clone()], number).unwrap();
        let mut look = |contents: &str| {
            std::fs::write(&path, contents).unwrap();
            watched.look();
            **current.borrow()
        };
        assert_eq!(look("1"), 1);
        assert_eq!(look("2"), 2);
        assert_eq!(look("three"), 2);
        assert_eq!(look("4"), 4);
        std::fs::remove_file(&path).unwrap();
        watched.look();
        assert_eq!(**current.borrow(), 4);
    }

    #[test]
    fn what_is_missing_or_huge_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("no-such-file");
        let error = Watched::new("it", vec![path.clone()], number)
            .err()
            .unwrap();
        assert!(format!("{error:#}").contains("no-such-file"), "{error:#}");
        std::fs::write(&path, vec![b'1'; MAX_FILE as usize + 1]).unwrap();
        let error = Watched::new("it", vec![path], number).err().unwrap();
        assert!(format!("{error:#}").contains("larger than"), "{error:#}");
    }
}
