//! What has changed in a store since an index was made.

use std::collections::HashMap;

use super::Index;
use crate::dataset::sample::Shard;

/// Whether a shard is as it was, as far as its store tells: of two tags the one that changes with the
/// content decides, else the time.
pub(super) fn same(before: &Shard, now: &Shard) -> bool {
    before.path == now.path
        && before.bytes == now.bytes
        && match (&before.etag, &now.etag) {
            (Some(before), Some(now)) => before == now,
            _ => before.modified_ms == now.modified_ms,
        }
}

/// Whether these are the shards that were indexed, unchanged. Sorted by path, as those of an index.
pub(crate) fn fits(index: &Index, shards: &[Shard]) -> bool {
    let before = index.shards();
    before.len() == shards.len() && before.iter().zip(shards).all(|(a, b)| same(a, b))
}

/// Paths of shards that are not as they were indexed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// In both, but written since.
    pub changed: Vec<String>,
    /// Not indexed yet.
    pub new: Vec<String>,
    /// No longer there.
    pub gone: Vec<String>,
}

impl Changes {
    /// Whether the index is up to date.
    pub fn is_empty(&self) -> bool {
        self.changed.is_empty() && self.new.is_empty() && self.gone.is_empty()
    }
}

impl Index {
    /// What has changed, where these are the shards now, in any order.
    pub fn changes(&self, now: &[Shard]) -> Changes {
        let before = self.shards().iter();
        let mut left: HashMap<_, _> = before.map(|shard| (&*shard.path, shard)).collect();
        let mut changes = Changes::default();
        for shard in now {
            match left.remove(&*shard.path) {
                Some(before) if same(before, shard) => {}
                Some(_) => changes.changed.push(shard.path.clone()),
                None => changes.new.push(shard.path.clone()),
            }
        }
        changes.gone = left.into_keys().map(str::to_owned).collect();
        changes.gone.sort_unstable();
        changes
    }
}
