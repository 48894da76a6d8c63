//! The latent cache: what is asked of the fleet with it, and that nothing else changes.

use std::{
    collections::{BTreeSet, HashSet},
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    thread,
    time::SystemTime,
};

use preheat_client::{
    BadSamples, Batch, CacheConfig, CacheMode, CacheStats, Config, Crop, DataLoader, Latents,
    Posterior, SampleInfo, Tail,
};
use preheat_proto::ItemCode;
use tempfile::TempDir;

use crate::{
    photos::{Photos, png},
    stub::{Act, Stub, drain, eventually},
};

const SAMPLES: u64 = 23;

/// Photos, a cache, and a replica that remembers what it was asked for.
struct Set {
    photos: Photos,
    folder: TempDir,
    stub: Stub,
    asked: Arc<Mutex<Vec<u64>>>,
}

impl Set {
    fn new() -> Self {
        Self::with_bad(None)
    }

    /// One of the samples may be one that the replica cannot encode.
    fn with_bad(bad: Option<u64>) -> Self {
        let asked = Arc::<Mutex<Vec<u64>>>::default();
        let list = asked.clone();
        Self {
            photos: Photos::new(SAMPLES as usize),
            folder: TempDir::new().unwrap(),
            stub: Stub::start(move |_, ids| {
                list.lock().unwrap().extend(ids);
                let bad = bad.filter(|bad| ids.contains(bad));
                bad.map_or(Act::Answer, |bad| {
                    Act::Items(vec![(bad, ItemCode::BadImage)])
                })
            }),
            asked,
        }
    }

    /// A run in which every sample comes once an epoch, always with the same latent.
    fn config(&self) -> Config {
        let mut config = self.photos.config(&self.stub.uri());
        (config.crop, config.flip, config.tail) = (Crop::Center, 0.0, Tail::Short);
        // No epoch begins before the one before it has ended.
        config.max_batches_ahead = 1;
        config.cache = Some(CacheConfig::new(self.folder.path(), 1 << 30));
        config
    }

    fn mode(&self, mode: CacheMode) -> Config {
        let mut config = self.config();
        config.cache.as_mut().unwrap().mode = mode;
        config
    }

    /// What the replica was asked for since this was asked last.
    fn asked(&self) -> Vec<u64> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }

    fn entries(&self) -> Vec<PathBuf> {
        let mut entries: Vec<_> = walkdir::WalkDir::new(self.folder.path())
            .into_iter()
            .map(Result::unwrap)
            .filter(|entry| entry.file_type().is_file())
            .map(walkdir::DirEntry::into_path)
            .filter(|path| !path.ends_with("CACHEDIR.TAG"))
            .collect();
        entries.sort();
        entries
    }
}

type Delivered = Vec<(u64, u64, Vec<SampleInfo>, Latents)>;

/// Everything that a trainer sees of a run, and what the cache did.
fn run(config: Config) -> (Delivered, CacheStats) {
    let epochs = config.epochs.unwrap();
    let mut loader = DataLoader::new(config).unwrap();
    let seen = |batch: Batch| (batch.epoch, batch.step, batch.samples, batch.latents);
    let batches = drain(&mut loader, epochs).into_iter().map(seen).collect();
    eventually("all is written", || loader.stats().cache.waiting == 0);
    (batches, loader.stats().cache)
}

#[test]
fn the_second_run_asks_the_fleet_for_nothing_and_sees_the_same() {
    let set = Set::new();
    let mut without = set.config();
    without.cache = None;
    let (expected, stats) = run(without);
    assert_eq!(stats, CacheStats::default());
    assert_eq!(set.asked().len() as u64, SAMPLES);

    let (first, stats) = run(set.config());
    assert_eq!(first, expected, "bit for bit");
    assert_eq!(set.asked().len() as u64, SAMPLES);
    assert_eq!((stats.hits, stats.misses), (0, SAMPLES));

    let (second, stats) = run(set.config());
    assert_eq!(second, expected, "bit for bit");
    assert_eq!(set.asked(), [0; 0]);
    assert_eq!((stats.hits, stats.misses), (SAMPLES, 0));
    assert_eq!((stats.written, stats.corrupt), (0, 0));
    assert!(stats.read_bytes > SAMPLES * 4 * 9 * 4);
    assert_eq!(set.entries().len() as u64, SAMPLES);
}

#[test]
fn the_second_epoch_asks_the_fleet_for_nothing() {
    let set = Set::new();
    let mut config = set.config();
    config.epochs = Some(3);
    let mut loader = DataLoader::new(config).unwrap();
    drain(&mut loader, 1);
    assert_eq!(set.asked().len() as u64, SAMPLES);
    drain(&mut loader, 3);
    assert_eq!(set.asked(), [0; 0]);
    let stats = loader.stats().cache;
    assert_eq!((stats.hits, stats.misses), (2 * SAMPLES, SAMPLES));
}

#[test]
fn another_model_asks_for_everything() {
    let set = Set::new();
    run(set.config());
    set.asked();
    let mut other = set.config();
    other.model = "other".into();
    let (_, stats) = run(other.clone());
    assert_eq!(stats.hits, 0);
    assert_eq!(set.asked().len() as u64, SAMPLES);
    // Both have theirs now.
    run(other);
    run(set.config());
    assert_eq!(set.asked(), [0; 0]);
}

#[test]
fn a_changed_file_alone_is_asked_for() {
    let set = Set::new();
    run(set.config());
    set.asked();
    set.photos.write("006.png", &png(200, 40, 30));
    // Another name for the same bytes changes nothing.
    let from = set.photos.root().join("022.png");
    fs::rename(from, set.photos.root().join("022-renamed.png")).unwrap();
    let (_, stats) = run(set.config());
    assert_eq!(set.asked(), [6]);
    assert_eq!((stats.hits, stats.written), (SAMPLES - 1, 1));
}

#[test]
fn other_crops_are_asked_for() {
    let set = Set::new();
    let mut config = set.config();
    (config.crop, config.flip, config.epochs) = (Crop::Random, 0.5, Some(4));
    let (delivered, stats) = run(config.clone());
    let samples = delivered.iter().flat_map(|(_, _, samples, _)| samples);
    let different: HashSet<_> = samples
        .map(|sample| (sample.id, format!("{:?}", sample.transform)))
        .collect();
    assert!(different.len() as u64 > SAMPLES * 2, "{}", different.len());
    assert_eq!(stats.misses as usize, different.len());
    assert_eq!(stats.hits, 4 * SAMPLES - stats.misses);
    // The same run again draws the same.
    set.asked();
    assert_eq!(run(config).0, delivered);
    assert_eq!(set.asked(), [0; 0]);
}

#[test]
fn other_draws_are_asked_for() {
    let set = Set::new();
    let mut config = set.config();
    (config.posterior, config.epochs) = (Posterior::Sample, Some(2));
    let (delivered, stats) = run(config.clone());
    assert_eq!((stats.hits, stats.misses), (0, 2 * SAMPLES));
    set.asked();
    assert_eq!(run(config).0, delivered);
    assert_eq!(set.asked(), [0; 0], "the same run draws the same");
}

#[test]
fn damaged_entries_are_encoded_again() {
    let set = Set::new();
    let (expected, _) = run(set.config());
    set.asked();
    let entries = set.entries();
    for (at, entry) in entries.iter().take(6).enumerate() {
        let mut bytes = fs::read(entry).unwrap();
        match at {
            0 => bytes.truncate(100),
            1 => bytes.clear(),
            2 => bytes.push(0),
            // Of the header, its hash and the tensor.
            at => bytes[[16, 70, 90][at - 3]] ^= 1,
        }
        fs::write(entry, bytes).unwrap();
    }
    // Whole, but under the name of another.
    fs::copy(&entries[8], &entries[7]).unwrap();
    let (repaired, stats) = run(set.config());
    assert_eq!(repaired, expected);
    assert_eq!((stats.corrupt, stats.misses, stats.written), (7, 7, 7));
    assert_eq!(set.asked().len(), 7);
    let (again, stats) = run(set.config());
    assert_eq!(again, expected);
    assert_eq!((stats.corrupt, stats.hits), (0, SAMPLES));
    assert_eq!(set.asked(), [0; 0]);
}

#[test]
fn a_full_cache_keeps_what_it_has() {
    let set = Set::new();
    let mut config = set.config();
    config.cache.as_mut().unwrap().max_bytes = 64 * 1024;
    let (expected, stats) = run(config.clone());
    // Every entry takes a block of 4 KiB.
    assert_eq!((stats.written, stats.not_written), (16, 7));
    let (again, stats) = run(config.clone());
    assert_eq!(again, expected);
    assert_eq!((stats.hits, stats.misses, stats.evicted), (16, 7, 0));
    // Where nothing is to be kept, the longest unused make room.
    config.cache.as_mut().unwrap().keep = std::time::Duration::ZERO;
    let (again, stats) = run(config);
    assert_eq!(again, expected);
    assert!(stats.evicted > 0);
    assert!(set.entries().len() <= 16 + 1);
}

#[test]
fn loaders_share_a_folder() {
    let set = Set::new();
    let dataset = set.photos.index(BadSamples::Fail);
    let load = |rank, world_size| {
        let mut config = set.config();
        (config.rank, config.world_size) = (rank, world_size);
        config.max_batches_ahead = 8;
        let dataset = dataset.clone();
        move || {
            let mut loader = DataLoader::with_dataset(config, dataset).unwrap();
            drain(&mut loader, 1).len()
        }
    };
    // Two that share the samples, and two that each want all of them.
    thread::scope(|scope| {
        for (rank, world_size) in [(0, 2), (1, 2), (0, 1), (0, 1)] {
            scope.spawn(load(rank, world_size));
        }
    });
    set.asked();
    let (_, stats) = run(set.config());
    assert_eq!(set.asked(), [0; 0]);
    assert_eq!((stats.hits, stats.corrupt), (SAMPLES, 0));
    assert_eq!(set.entries().len() as u64, SAMPLES, "no temporary files");
}

#[test]
fn a_folder_that_cannot_be_written_stops_nothing() {
    let set = Set::new();
    let (expected, _) = run(set.mode(CacheMode::Read));
    // For whoever runs this, root or not: a file where entries are written first.
    fs::write(set.folder.path().join("tmp"), "in the way").unwrap();
    let (delivered, stats) = run(set.config());
    assert_eq!(delivered, expected);
    assert_eq!((stats.write_failures, stats.not_written), (1, SAMPLES - 1));
    assert_eq!(stats.written, 0);
}

/// The real thing, where somebody has made one: `mount -t tmpfs -o size=64k none DIR`.
#[test]
#[ignore = "wants PREHEAT_SMALL_DISK, an empty disk of 64 KiB"]
fn a_real_disk_that_fills_stops_nothing() {
    let mut set = Set::new();
    let disk = std::env::var("PREHEAT_SMALL_DISK").unwrap();
    set.folder = TempDir::new_in(disk).unwrap();
    let (delivered, stats) = run(set.config());
    assert_eq!(stats.write_failures, 1);
    assert_eq!(stats.written + stats.not_written, SAMPLES - 1);
    assert!(stats.written > 5, "{stats:?}");
    assert_eq!(
        set.entries().len() as u64,
        stats.written,
        "nothing half written"
    );
    let (again, second) = run(set.config());
    assert_eq!(again, delivered);
    assert_eq!((second.hits, second.corrupt), (stats.written, 0));
}

#[test]
fn reading_never_writes() {
    let set = Set::new();
    let (_, stats) = run(set.mode(CacheMode::Read));
    assert_eq!((stats.misses, stats.written), (SAMPLES, 0));
    assert_eq!(fs::read_dir(set.folder.path()).unwrap().count(), 0);
    run(set.config());
    set.asked();
    let entries = set.entries();
    for entry in &entries {
        let file = fs::File::options().append(true).open(entry).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
    }
    fs::write(&entries[0], "damaged").unwrap();
    let before = fs::metadata(&entries[0]).unwrap().modified().unwrap();
    let (_, stats) = run(set.mode(CacheMode::Read));
    assert_eq!((stats.hits, stats.corrupt), (SAMPLES - 1, 1));
    assert_eq!(set.asked().len(), 1);
    assert_eq!(fs::read(&entries[0]).unwrap(), b"damaged");
    let used = |entry: &PathBuf| fs::metadata(entry).unwrap().modified().unwrap();
    assert_eq!(used(&entries[0]), before);
    let untouched = |entry| used(entry) == SystemTime::UNIX_EPOCH;
    assert!(entries[1..].iter().all(untouched));
}

#[test]
fn writing_takes_nothing_and_adds_once() {
    let set = Set::new();
    run(set.mode(CacheMode::Write));
    set.asked();
    let (_, stats) = run(set.mode(CacheMode::Write));
    assert_eq!(set.asked().len() as u64, SAMPLES);
    assert_eq!((stats.hits, stats.misses, stats.written), (0, 0, 0));
    run(set.mode(CacheMode::Read));
    assert_eq!(set.asked(), [0; 0]);
}

#[test]
fn bad_samples_are_not_cached() {
    let set = Set::with_bad(Some(4));
    let mut config = set.config();
    config.bad_samples = BadSamples::Substitute;
    let (expected, _) = run(config.clone());
    set.asked();
    let (again, stats) = run(config);
    assert_eq!(again, expected);
    assert_eq!(set.asked(), [4]);
    // Its substitute was found, as all others.
    assert_eq!((stats.hits, stats.misses), (SAMPLES, 1));
}

#[test]
fn the_cache_is_no_part_of_a_state() {
    let set = Set::new();
    let mut with = DataLoader::new(set.config()).unwrap();
    with.next_batch().unwrap();
    let mut config = set.config();
    config.cache = None;
    config.resume = Some(with.state());
    let mut without = DataLoader::new(config).unwrap();
    assert_eq!(without.state(), with.state());
    let next = |loader: &mut DataLoader| loader.next_batch().unwrap().unwrap();
    let (ours, theirs) = (next(&mut with), next(&mut without));
    assert_eq!(
        (ours.samples, ours.latents),
        (theirs.samples, theirs.latents)
    );
}

#[test]
fn a_folder_that_cannot_be_is_refused_by_name() {
    let set = Set::new();
    let refused = |folder: &Path, mode| {
        let mut config = set.mode(mode);
        config.cache.as_mut().unwrap().folder = folder.to_owned();
        DataLoader::new(config).err().unwrap().to_string()
    };
    let error = refused(&set.folder.path().join("missing"), CacheMode::Read);
    assert!(error.contains("`cache.folder`"), "{error}");
    assert!(error.contains("fill it first"), "{error}");
    let error = refused(&set.photos.root().join("000.png"), CacheMode::Both);
    assert!(error.contains("cannot be made a folder"), "{error}");
    let asked: BTreeSet<_> = set.asked().into_iter().collect();
    assert!(asked.is_empty(), "{asked:?}");
}
