//! Keys that occur twice, among more keys than anybody wants in memory.

use std::hash::{BuildHasher, RandomState};

use rustc_hash::{FxHashMap, FxHashSet};

use super::columns::Columns;

/// Hashes that are looked into: one pair of equal keys is enough for an error, and among five
/// billion different ones fewer than one pair of hashes is equal.
const MAX_SUSPECTS: usize = 1024;

/// The hashes of all keys: about 16 bytes a sample, while an index is written.
#[derive(Default)]
pub(super) struct Seen {
    state: RandomState,
    hashes: FxHashSet<u64>,
    suspects: FxHashSet<u64>,
}

/// The keys whose hashes are suspect, and the shard of each.
#[derive(Default)]
pub(super) struct Suspects {
    keys: FxHashMap<String, usize>,
}

impl Seen {
    pub(super) fn add(&mut self, columns: &Columns<'_>) {
        for at in 0..columns.samples {
            let hash = self.state.hash_one(columns.key(at));
            if !self.hashes.insert(hash) && self.suspects.len() < MAX_SUSPECTS {
                self.suspects.insert(hash);
            }
        }
    }

    /// Whether a second look is needed.
    pub(super) fn suspicious(&self) -> bool {
        !self.suspects.is_empty()
    }

    /// Looks at the keys themselves: one that another shard, or this one, has had already, and which.
    pub(super) fn look(
        &self,
        suspects: &mut Suspects,
        shard: usize,
        columns: &Columns<'_>,
    ) -> Option<(String, usize)> {
        (0..columns.samples).find_map(|at| {
            let key = columns.key(at);
            if !self.suspects.contains(&self.state.hash_one(key)) {
                return None;
            }
            let before = suspects.keys.insert(key.to_owned(), shard)?;
            Some((key.to_owned(), before))
        })
    }
}
