//! Files of a local disk, read by hand: one thread for each, into memory of the loader's own threads.
//! object_store takes two, one after the other, and allocates on them: what many short-lived threads
//! allocate and others free is memory that an allocator holds on to, as much as all of the window.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    ops::Range,
    path::PathBuf,
};

use bytes::Bytes;

use super::{Store, advice, names, read::Failed};
use crate::dataset::sample::Shard;

impl Store {
    /// One range of a file that must not have changed.
    pub(super) async fn file(
        &self,
        (object, path): (&Shard, PathBuf),
        range: Range<u64>,
    ) -> Result<Bytes, Failed> {
        let wanted = (range.end - range.start) as usize;
        let buffer = Vec::with_capacity(wanted);
        let read = tokio::task::spawn_blocking(move || read(path, range, buffer)).await;
        let read = read.unwrap_or_else(|error| Err(io::Error::other(error)));
        let (bytes, modified_ms, buffer) =
            read.map_err(|error| Failed::ForGood(advice::file(&self.name(&object.path), &error)))?;
        let now = Shard {
            path: object.path.clone(),
            bytes,
            etag: None,
            modified_ms,
        };
        if let Some(changed) = self.differs(object, &now) {
            return Err(Failed::ForGood(changed));
        }
        if buffer.len() != wanted {
            return Err(self.short(object, buffer.len(), wanted));
        }
        Ok(buffer.into())
    }
}

/// The file's length, when it was written, and as many bytes of the range as it has.
fn read(path: PathBuf, range: Range<u64>, mut buffer: Vec<u8>) -> io::Result<(u64, i64, Vec<u8>)> {
    let mut file = File::open(path)?;
    let meta = file.metadata()?;
    file.seek(SeekFrom::Start(range.start))?;
    file.take(range.end - range.start)
        .read_to_end(&mut buffer)?;
    Ok((meta.len(), names::modified_ms(&meta), buffer))
}
