//! Disks and name servers.

use std::{
    collections::HashMap,
    io,
    io::Read,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use super::MAX_FILE_BYTES;

/// How long a change must last: a file that is written in place is not whole at once, and one that
/// is replaced may be missing for a moment.
const SETTLE: Duration = Duration::from_millis(100);

/// A file, or why it could not be read.
pub(super) type Contents = Result<Arc<[u8]>, String>;

/// Whoever knows the addresses of a name.
pub(super) trait Resolve: Send + Sync + 'static {
    /// All of them, in any order.
    ///
    /// # Errors
    /// As the name server or the way to it says.
    fn resolve(
        &self,
        host: &str,
        port: u16,
    ) -> impl Future<Output = io::Result<Vec<IpAddr>>> + Send;
}

/// The resolver of the operating system. It ends every search by itself, if late.
pub(super) struct System;

impl Resolve for System {
    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<IpAddr>> {
        let found = tokio::net::lookup_host((host, port)).await?;
        Ok(found.map(|address| address.ip()).collect())
    }
}

/// Reads files; those that are not as they were seen are returned. Contents are compared, not times:
/// a mounted volume changes by a link, and copies keep times.
pub(super) async fn look(
    files: Vec<PathBuf>,
    seen: HashMap<PathBuf, Contents>,
    settle: bool,
) -> Vec<(PathBuf, Contents)> {
    let changed = read_all(files).await;
    let mut changed: Vec<_> = changed
        .into_iter()
        .filter(|(path, contents)| seen.get(path) != Some(contents))
        .collect();
    if settle && !changed.is_empty() {
        tokio::time::sleep(SETTLE).await;
        let again = read_all(changed.iter().map(|(path, _)| path.clone()).collect()).await;
        // What still changes is taken by a later look.
        changed.retain(|read| again.contains(read));
    }
    changed
}

/// Off the runtime's threads: a file may lie on a disk that hangs.
async fn read_all(files: Vec<PathBuf>) -> Vec<(PathBuf, Contents)> {
    let read = move || {
        files
            .into_iter()
            .map(|path| (read(&path), path))
            .map(|(c, p)| (p, c))
    };
    tokio::task::spawn_blocking(|| read().collect())
        .await
        .unwrap_or_default()
}

fn read(path: &Path) -> Contents {
    let file = std::fs::File::open(path).map_err(|error| format!("cannot be read: {error}"))?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| format!("cannot be read: {error}"))?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(format!(
            "is larger than {MAX_FILE_BYTES} bytes: is it the right file?"
        ));
    }
    Ok(bytes.into())
}
