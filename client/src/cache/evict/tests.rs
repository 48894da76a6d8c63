use std::fs::File;

use tempfile::TempDir;

use super::*;
use crate::cache::{CacheConfig, key::Key};

const OWN: &str = "v1-0123456789abcdef";
const OTHER: &str = "v1-fedcba9876543210";
const HOUR: Duration = Duration::from_secs(3600);

fn store(dir: &TempDir, recipe: &str) -> Store {
    Store::open(&CacheConfig::new(dir.path(), 1 << 20), recipe).unwrap()
}

/// An entry last used so long ago.
fn add(store: &Store, name: u8, hours: u32) -> PathBuf {
    let key = Key([name; 32]);
    store.write(&key, &[name; 100]).unwrap();
    let path = store.path(&key);
    let file = File::options().append(true).open(&path).unwrap();
    file.set_modified(SystemTime::now() - HOUR * hours).unwrap();
    path
}

fn paths(scan: &Scan) -> Vec<&Path> {
    scan.old.iter().map(|old| &*old.path).collect()
}

#[test]
fn the_oldest_go_first_and_those_of_others_before() {
    let dir = TempDir::new().unwrap();
    let (own, other) = (store(&dir, OWN), store(&dir, OTHER));
    let ours = [add(&own, 1, 50), add(&own, 2, 90), add(&own, 3, 1)];
    let theirs = [add(&other, 1, 2), add(&other, 2, 3), add(&other, 3, 0)];
    let found = scan(&own, HOUR * 40, SystemTime::now());
    assert_eq!(found.bytes, 6 * BLOCK_BYTES);
    let expected = [&theirs[1], &theirs[0], &ours[1], &ours[0]];
    assert_eq!(paths(&found), expected, "what was used lately is kept");
    // Three blocks and a byte are four entries' worth.
    assert_eq!(
        remove(&found.old, 3 * BLOCK_BYTES + 1),
        (4, 4 * BLOCK_BYTES)
    );
    assert!(expected.iter().all(|path| !path.exists()));
    assert!(ours[2].exists() && theirs[2].exists());
    assert!(!expected[0].parent().unwrap().exists(), "it was empty");
    // Another process that found the same has nothing left to do, and knows.
    assert_eq!(remove(&found.old, u64::MAX), (0, 4 * BLOCK_BYTES));
}

#[test]
fn what_is_no_entry_is_left_alone() {
    let dir = TempDir::new().unwrap();
    let own = store(&dir, OWN);
    let entry = add(&own, 1, 9);
    let folder = entry.parent().unwrap();
    let strangers = [
        dir.path().join("thesis.tex"),
        dir.path().join("v1-notes").join("010").join("1".repeat(61)),
        own.own.join("readme"),
        own.own.join("abcd").join("1".repeat(61)),
        folder.join("1"),
        folder.join("Z".repeat(61)),
    ];
    for stranger in &strangers {
        fs::create_dir_all(stranger.parent().unwrap()).unwrap();
        fs::write(stranger, "mine").unwrap();
        let file = File::options().append(true).open(stranger).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
    }
    let found = scan(&own, Duration::ZERO, SystemTime::now());
    assert_eq!((found.bytes, paths(&found)), (BLOCK_BYTES, vec![&*entry]));
    remove(&found.old, u64::MAX);
    assert!(strangers.iter().all(|stranger| stranger.exists()));
}
