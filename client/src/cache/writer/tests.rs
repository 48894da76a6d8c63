use std::{
    io,
    path::Path,
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
};

use tempfile::TempDir;

use super::*;
use crate::cache::store::{Disk, Found};

const RECIPE: &str = "v1-0123456789abcdef";

struct Set {
    dir: TempDir,
    store: Store,
    writer: Writer,
    counts: Arc<Counts>,
}

fn set(disk: impl Disk + 'static) -> Set {
    let dir = TempDir::new().unwrap();
    let config = CacheConfig::new(dir.path(), 1 << 30);
    let store = Store::open_on(&config, RECIPE, Arc::new(disk)).unwrap();
    let counts = Arc::new(Counts::register());
    let writer = Writer::start(&config, &store, counts.clone()).unwrap();
    Set {
        dir,
        store,
        writer,
        counts,
    }
}

fn key(name: u8) -> Key {
    Key([name; 32])
}

/// Full from the start; counts attempts.
struct Full(Arc<AtomicUsize>);

impl Disk for Full {
    fn save(&self, _: &Path, _: [&[u8]; 2]) -> io::Result<()> {
        self.0.fetch_add(1, SeqCst);
        Err(io::ErrorKind::StorageFull.into())
    }
}

#[test]
fn a_full_disk_pauses_writing() {
    let attempts = Arc::default();
    let set = set(Full(Arc::clone(&attempts)));
    for name in 0..10 {
        set.writer.put(key(name), Bytes::from_static(&[1; 100]));
    }
    set.writer.flush();
    let stats = set.counts.snapshot();
    assert_eq!((stats.write_failures, stats.not_written), (1, 9));
    assert_eq!(attempts.load(SeqCst), 1);
    assert_eq!(
        set.writer.waiting(&key(3)),
        None,
        "nothing is held for ever"
    );
    assert!(!set.counts.first("write"), "and it was said");
}

/// Writes when it is let.
struct Slow(flume::Receiver<()>);

impl Disk for Slow {
    fn save(&self, path: &Path, parts: [&[u8]; 2]) -> io::Result<()> {
        // Open for ever once the test has dropped its end.
        let _ = self.0.recv();
        std::fs::write(path, parts.concat())
    }
}

#[test]
fn a_slow_disk_holds_up_nobody() {
    let (gate, disk) = flume::bounded(0);
    let set = set(Slow(disk));
    let tensor = Bytes::from(vec![7; QUEUE_BYTES / 4]);
    for name in 0..6 {
        set.writer.put(key(name), tensor.clone());
    }
    assert_eq!(
        set.counts.snapshot().not_written,
        2,
        "there is room for four"
    );
    assert_eq!(set.writer.waiting(&key(3)).unwrap(), tensor);
    assert_eq!(set.writer.waiting(&key(4)), None);
    set.writer.put(key(3), tensor.clone());
    assert_eq!(set.counts.snapshot().not_written, 2, "it waits already");
    drop(gate);
    set.writer.flush();
    let stats = set.counts.snapshot();
    assert_eq!((stats.written, stats.write_failures), (4, 0));
    assert_eq!(set.writer.waiting(&key(3)), None);
    let found = set.store.read(&key(3), tensor.len());
    assert!(matches!(found, Found::Whole(_)));
    // There is room again.
    set.writer.put(key(4), tensor);
    set.writer.flush();
    assert_eq!(set.counts.snapshot().written, 5);
    drop(set.dir);
}

#[test]
fn what_is_there_is_not_written_again_where_nothing_is_looked_up() {
    let dir = TempDir::new().unwrap();
    let mut config = CacheConfig::new(dir.path(), 1 << 30);
    config.mode = crate::cache::CacheMode::Write;
    let store = Store::open(&config, RECIPE).unwrap();
    let counts = Arc::new(Counts::register());
    let writer = Writer::start(&config, &store, counts.clone()).unwrap();
    for _ in 0..2 {
        writer.put(key(1), Bytes::from_static(&[1; 100]));
        writer.flush();
    }
    assert_eq!(counts.snapshot().written, 1);
}
