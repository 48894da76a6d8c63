//! Many shards at once, into a builder.

use std::thread;

use futures::{StreamExt as _, stream};
use tokio::spawn;
use tokio_util::task::AbortOnDropHandle;

use super::build::{Builder, Progress, pack};
use crate::{
    dataset::{format::Format, sample::Shard, store::Store},
    error::Error,
};

/// Shards scanned at once, at most: what waits for a store is cheap, but what a scan has found is in
/// memory until it is written down.
pub const MAX_SCANS: usize = 32;
/// The same for each core: some read headers, some wait.
const SCANS_PER_CORE: usize = 4;

/// Scans the shards that the builder does not know. `progress` is called after each.
///
/// # Errors
/// [`Error::Dataset`] for the first shard that cannot be scanned; those that were are kept.
pub(crate) async fn scan(
    (store, format): (&Store, &Format),
    builder: &mut Builder,
    shards: &[Shard],
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<(), Error> {
    let todo: Vec<Shard> = shards
        .iter()
        .filter(|shard| !builder.knows(shard))
        .cloned()
        .collect();
    let mut reached = Progress {
        done: (shards.len() - todo.len()) as u64,
        total: shards.len() as u64,
        samples: 0,
    };
    progress(reached);
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let scans = stream::iter(todo).map(|shard| {
        let (store, format) = (store.clone(), format.clone());
        AbortOnDropHandle::new(spawn(async move {
            let found = format.scan(&store, &shard).await;
            let found = found.map_err(|reason| Error::dataset(store.uri(), reason))?;
            Ok::<_, Error>((pack(&shard, &found)?, shard))
        }))
    });
    let mut scans = scans.buffer_unordered((SCANS_PER_CORE * cores).min(MAX_SCANS));
    while let Some(scanned) = scans.next().await {
        let scanned = scanned.map_err(|_| Error::Internal("a scan panicked".into()))?;
        let (columns, shard) = scanned?;
        builder.append(&shard, &columns)?;
        reached.done += 1;
        reached.samples += columns.samples;
        progress(reached);
    }
    Ok(())
}
