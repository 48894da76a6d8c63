use tempfile::TempDir;

use super::*;
use crate::cache::CacheMode;

const RECIPE: &str = "v1-0123456789abcdef";
const TENSOR: [u8; 6] = [1, 2, 3, 4, 5, 6];

fn store(dir: &TempDir, mode: CacheMode) -> Store {
    let mut config = CacheConfig::new(dir.path(), 1 << 20);
    config.mode = mode;
    Store::open(&config, RECIPE).unwrap()
}

fn tensor(found: Found) -> Vec<u8> {
    match found {
        Found::Whole(file) => file[HEADER_BYTES..].to_vec(),
        other => panic!("{other:?}"),
    }
}

fn files(root: &Path) -> Vec<PathBuf> {
    let entries = walkdir::WalkDir::new(root).into_iter().flatten();
    let files = entries.filter(|entry| entry.file_type().is_file());
    files.map(walkdir::DirEntry::into_path).collect()
}

fn age(path: &Path, by: Duration) {
    let file = File::options().append(true).open(path).unwrap();
    file.set_modified(SystemTime::now() - by).unwrap();
}

#[test]
fn what_was_written_is_read() {
    let dir = TempDir::new().unwrap();
    let (ours, other) = (store(&dir, CacheMode::Both), store(&dir, CacheMode::Read));
    let keys = [Key([1; 32]), Key([2; 32])];
    assert!(matches!(ours.read(&keys[0], 6), Found::Nothing));
    assert_eq!(ours.write(&keys[0], &TENSOR).unwrap(), 86);
    assert_eq!(tensor(ours.read(&keys[0], 6)), TENSOR);
    assert_eq!(tensor(other.read(&keys[0], 6)), TENSOR);
    assert!(matches!(other.read(&keys[1], 6), Found::Nothing));
    // Again, over it: as two processes may.
    ours.write(&keys[0], &TENSOR).unwrap();
    assert_eq!(tensor(ours.read(&keys[0], 6)), TENSOR);
    assert_eq!(files(dir.path()).len(), 2, "the entry and the tag");
}

#[test]
fn damage_is_seen_and_removed_by_those_who_write() {
    let dir = TempDir::new().unwrap();
    let (writes, reads) = (store(&dir, CacheMode::Both), store(&dir, CacheMode::Read));
    let key = Key([1; 32]);
    type Change = fn(&mut Vec<u8>);
    let damages: [(&str, Change); 5] = [
        ("length", |file| file.truncate(40)),
        ("length", |file| file.push(0)),
        ("length", Vec::clear),
        ("header", |file| file[0] ^= 1),
        ("checksum", |file| file[83] ^= 1),
    ];
    for (word, change) in damages {
        writes.write(&key, &TENSOR).unwrap();
        let path = writes.path(&key);
        let mut file = fs::read(&path).unwrap();
        change(&mut file);
        fs::write(&path, file).unwrap();
        let Found::Damaged(damage) = reads.read(&key, 6) else {
            panic!("{word}");
        };
        assert_eq!(damage.word(), word);
        assert!(path.exists(), "a run that only reads changes nothing");
        assert!(matches!(writes.read(&key, 6), Found::Damaged(_)));
        assert!(!path.exists());
        assert!(matches!(writes.read(&key, 6), Found::Nothing));
    }
}

#[test]
fn reading_makes_no_folder_and_asks_for_one() {
    let dir = TempDir::new().unwrap();
    let mut config = CacheConfig::new(dir.path().join("missing"), 1 << 20);
    config.mode = CacheMode::Read;
    let error = Store::open(&config, RECIPE).err().unwrap().to_string();
    assert!(error.contains("no folder, and mode is Read"), "{error}");
    assert!(!config.folder.exists());
    store(&dir, CacheMode::Read);
    assert!(files(dir.path()).is_empty());
}

#[test]
fn a_file_in_the_folders_place_is_refused() {
    let dir = TempDir::new().unwrap();
    let config = CacheConfig::new(dir.path().join("file"), 1 << 20);
    fs::write(&config.folder, "").unwrap();
    let error = Store::open(&config, RECIPE).err().unwrap().to_string();
    assert!(error.contains("cannot be made a folder"), "{error}");
}

#[test]
fn folders_that_vanish_are_made_again() {
    let dir = TempDir::new().unwrap();
    let store = store(&dir, CacheMode::Both);
    let key = Key([3; 32]);
    store.write(&key, &TENSOR).unwrap();
    fs::remove_dir_all(dir.path()).unwrap();
    assert!(matches!(store.read(&key, 6), Found::Nothing));
    store.write(&key, &TENSOR).unwrap();
    assert_eq!(tensor(store.read(&key, 6)), TENSOR);
}

/// Has room for so many bytes, then for none.
struct Small(AtomicU64);

impl Disk for Small {
    fn save(&self, path: &Path, parts: [&[u8]; 2]) -> io::Result<()> {
        let whole = parts.concat();
        let room = self.0.load(Relaxed) as usize;
        Files.save(path, [&whole[..whole.len().min(room)], b""])?;
        if whole.len() > room {
            return Err(ErrorKind::StorageFull.into());
        }
        self.0.fetch_sub(whole.len() as u64, Relaxed);
        Ok(())
    }
}

#[test]
fn a_disk_that_fills_leaves_nothing_half_written() {
    let dir = TempDir::new().unwrap();
    let config = CacheConfig::new(dir.path(), 1 << 20);
    let disk = Arc::new(Small(AtomicU64::new(100)));
    let store = Store::open_on(&config, RECIPE, disk).unwrap();
    store.write(&Key([1; 32]), &TENSOR).unwrap();
    let error = store.write(&Key([2; 32]), &TENSOR).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    assert_eq!(files(dir.path()).len(), 2, "the first entry and the tag");
    assert!(matches!(store.read(&Key([2; 32]), 6), Found::Nothing));
}

#[test]
fn only_stale_temporary_files_are_removed() {
    let dir = TempDir::new().unwrap();
    let store = store(&dir, CacheMode::Both);
    let [old, new] = ["old", "new"].map(|name| dir.path().join("tmp").join(name));
    fs::write(&old, "half").unwrap();
    fs::write(&new, "half").unwrap();
    age(&old, STALE_TEMP * 2);
    store.tidy();
    assert!(!old.exists());
    assert!(new.exists(), "another process is writing it");
}

#[test]
fn use_is_remembered_by_those_who_write() {
    let dir = TempDir::new().unwrap();
    let (writes, reads) = (store(&dir, CacheMode::Both), store(&dir, CacheMode::Read));
    let key = Key([4; 32]);
    writes.write(&key, &TENSOR).unwrap();
    let path = writes.path(&key);
    let unused = || {
        let used = fs::metadata(&path).unwrap().modified().unwrap();
        SystemTime::now().duration_since(used).unwrap_or_default()
    };
    age(&path, TOUCH_AFTER * 3);
    tensor(reads.read(&key, 6));
    assert!(unused() > TOUCH_AFTER);
    tensor(writes.read(&key, 6));
    assert!(unused() < TOUCH_AFTER);
    age(&path, TOUCH_AFTER * 3);
    assert!(writes.has(&key, 6) && !writes.has(&key, 7));
    assert!(unused() < TOUCH_AFTER);
}
