//! The size limit, kept by all processes that write without a word between them: each looks at the
//! folder whenever it has written a small part of the limit itself.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use super::{
    config::CacheConfig,
    counts::Counts,
    evict::{on_disk, remove, scan},
    store::Store,
};

/// A process looks again after it has written this part of the limit, and so exceeds it by no more.
const SLACK: u64 = 64;
/// When the folder is full, this part of the limit is made free at once: to look costs some 4 us an
/// entry.
const FREED: u64 = 16;
/// How long a full folder with nothing to remove is left alone: ten million entries take 40 s to look at.
const LOOK_AGAIN: Duration = Duration::from_secs(600);

/// The room in the folder, as far as this process knows.
pub(crate) struct Space {
    store: Store,
    counts: Arc<Counts>,
    max: u64,
    keep: Duration,
    /// Bytes in the folder when it was looked at, and what was written here since.
    used: u64,
    /// What may be written before it is looked at again; nothing before the first time.
    allowance: u64,
    full_until: Option<Instant>,
}

impl Space {
    pub(crate) fn new(config: &CacheConfig, store: Store, counts: Arc<Counts>) -> Self {
        Self {
            store,
            counts,
            max: config.max_bytes,
            keep: config.keep,
            used: 0,
            allowance: 0,
            full_until: None,
        }
    }

    /// Whether a file of so many bytes may be written. Looks at the folder where it must, and removes
    /// what may go: slow at times.
    pub(crate) fn admits(&mut self, bytes: u64) -> bool {
        let bytes = on_disk(bytes);
        if bytes > self.max {
            return false;
        }
        if self.full_until.is_some_and(|until| Instant::now() < until) {
            return false;
        }
        if bytes > self.allowance {
            self.look(bytes);
        }
        self.used + bytes <= self.max
    }

    /// A file of so many bytes was written.
    pub(crate) fn wrote(&mut self, bytes: u64) {
        let bytes = on_disk(bytes);
        self.used += bytes;
        self.allowance = self.allowance.saturating_sub(bytes);
    }

    /// Looks at the folder, and makes room for so many bytes where they do not fit.
    pub(crate) fn look(&mut self, wanted: u64) {
        let found = scan(&self.store, self.keep, SystemTime::now());
        self.used = found.bytes;
        if self.used + wanted > self.max {
            let goal = self.max - (self.max / FREED).max(wanted);
            let (entries, bytes) = remove(&found.old, self.used - goal);
            self.counts.evicted.add(entries);
            self.counts.evicted_bytes.add(bytes);
            self.used = self.used.saturating_sub(bytes);
        }
        let room = self.max.saturating_sub(self.used);
        self.allowance = (self.max / SLACK).max(wanted).min(room);
        self.full_until = (room < wanted).then(|| Instant::now() + LOOK_AGAIN);
        if self.full_until.is_some() && self.counts.first("full") {
            tracing::warn!(
                folder = %self.store.root.display(),
                max_bytes = self.max,
                "cache: full, and everything in it was used lately: nothing more is written. Raise \
                 `cache.max_bytes`, or lower `cache.keep`, or delete the folder if it is out of use"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use tempfile::TempDir;

    use super::*;
    use crate::cache::key::Key;

    const BLOCK: u64 = 4096;
    const MAX: u64 = 128 * BLOCK;

    fn space(dir: &TempDir, recipe: &str, keep: Duration) -> (Space, Arc<Counts>) {
        let mut config = CacheConfig::new(dir.path(), MAX);
        config.keep = keep;
        let counts = Arc::new(Counts::register());
        let store = Store::open(&config, recipe).unwrap();
        (Space::new(&config, store, counts.clone()), counts)
    }

    /// Writes an entry of one block, if it may.
    fn write(space: &mut Space, number: u32) -> bool {
        let key = Key(*blake3::hash(&number.to_le_bytes()).as_bytes());
        let admitted = space.admits(100);
        if admitted {
            let bytes = space.store.write(&key, &[0; 20]).unwrap();
            space.wrote(bytes);
        }
        admitted
    }

    fn bytes(space: &Space) -> u64 {
        scan(&space.store, Duration::ZERO, SystemTime::now()).bytes
    }

    #[test]
    fn two_who_write_keep_the_limit_together() {
        let dir = TempDir::new().unwrap();
        let recipe = "v1-0123456789abcdef";
        let (mut one, ours) = space(&dir, recipe, Duration::ZERO);
        let (mut two, theirs) = space(&dir, recipe, Duration::ZERO);
        let mut most = 0;
        for number in 0..300 {
            assert!(write(&mut one, 2 * number));
            assert!(write(&mut two, 2 * number + 1));
            most = most.max(bytes(&one));
        }
        assert!(most <= MAX + 2 * MAX / SLACK, "{most}");
        assert!(most >= MAX - MAX / FREED, "{most}");
        let evicted = ours.snapshot().evicted + theirs.snapshot().evicted;
        assert_eq!(
            evicted,
            600 - bytes(&one) / BLOCK,
            "and each is counted once"
        );
    }

    #[test]
    fn what_was_used_lately_stays_and_the_rest_is_not_written() {
        let dir = TempDir::new().unwrap();
        let (mut ours, counts) = space(&dir, "v1-0123456789abcdef", Duration::from_secs(7200));
        let written = (0..200).filter(|&number| write(&mut ours, number));
        assert_eq!(written.count(), 128);
        assert_eq!(counts.snapshot().evicted, 0);
        assert_eq!(bytes(&ours), MAX);
        // A run with another model finds the folder full of what is in use, and later out of use.
        let recipe = "v1-fedcba9876543210";
        let (mut others, _) = space(&dir, recipe, Duration::from_secs(7200));
        assert!(!write(&mut others, 1));
        for entry in walkdir::WalkDir::new(&ours.store.own).into_iter().flatten() {
            if entry.file_type().is_file() {
                let file = File::options().append(true).open(entry.path()).unwrap();
                let used = SystemTime::now() - Duration::from_secs(3700);
                file.set_modified(used).unwrap();
            }
        }
        let (mut others, counts) = space(&dir, recipe, Duration::from_secs(7200));
        assert!(write(&mut others, 1));
        let stats = counts.snapshot();
        assert_eq!((stats.evicted, stats.evicted_bytes), (8, 8 * BLOCK));
        fs::remove_dir_all(dir.path()).unwrap();
    }

    #[test]
    fn what_never_fits_is_not_written() {
        let dir = TempDir::new().unwrap();
        let (mut ours, counts) = space(&dir, "v1-0123456789abcdef", Duration::ZERO);
        assert!(write(&mut ours, 0));
        assert!(!ours.admits(MAX + 1));
        assert!(ours.admits(MAX), "and makes room for what just fits");
        assert_eq!(counts.snapshot().evicted, 1);
    }
}
