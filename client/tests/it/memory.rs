//! What a full window holds, measured where there is nothing else: in a process that is only a loader.

use std::{path::PathBuf, process::Command, sync::Arc};

use preheat_client::{BadSamples, Config, DataLoader, Dataset, Source};

use crate::{
    ALLOCATED,
    photos::{Photos, png},
    shards::Tar,
    stub::{Stub, eventually},
};

const MIB: u64 = 1 << 20;
const WINDOW: u64 = 24 * MIB;
/// Where the loader finds what it needs, told by the test that starts it.
const ENDPOINT: &str = "PREHEAT_TEST_ENDPOINT";
const FOLDER: &str = "PREHEAT_TEST_FOLDER";
const BATCHES: &str = "PREHEAT_TEST_BATCHES";

/// 96 files of so many bytes. Nobody decodes them here.
fn files(bytes: usize) -> impl Iterator<Item = (String, Vec<u8>)> {
    (0..96).map(move |id| {
        let mut file = png(id, 36, 36);
        file.resize(bytes, 0);
        (format!("{id:03}.png"), file)
    })
}

/// As files of a folder.
fn folder(bytes: usize) -> Photos {
    let photos = Photos::new(0);
    for (name, file) in files(bytes) {
        photos.write(&name, &file);
    }
    photos
}

/// As a tar shard, each with a caption.
fn shard(bytes: usize) -> Photos {
    let photos = Photos::new(0);
    let mut tar = Tar::default();
    for (name, file) in files(bytes) {
        tar = tar.with(&name, file);
        tar = tar.with(&name.replace("png", "txt"), "a photo");
    }
    photos.write("000.tar", &tar.bytes());
    photos
}

/// Runs [`alone`] in a process of its own, against a replica in this one.
fn measure(batches: u64, photos: &Photos) {
    let stub = Stub::answering();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "memory::alone", "--ignored", "--nocapture"])
        .env(ENDPOINT, stub.uri())
        .env(FOLDER, photos.root())
        .env(BATCHES, batches.to_string())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    println!("{text}");
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}{words}");
    assert!(text.contains("held when full"), "{text}{words}");
}

#[test]
fn a_window_holds_what_it_may_and_nothing_grows() {
    measure(2000, &folder(12_000));
}

#[test]
fn a_caption_does_not_hold_its_image() {
    measure(300, &shard(12_000));
}

#[test]
#[ignore = "figures: some minutes"]
fn nothing_grows_over_100_000_batches() {
    measure(100_000, &folder(12_000));
}

#[test]
#[ignore = "figures: the loader's CPU time per image of 50 KB; in a release build"]
fn cpu_time_per_image() {
    measure(3000, &folder(50_000));
}

/// Waits until all is complete that has room.
fn full(loader: &DataLoader) -> u64 {
    eventually("a full window", || {
        let stats = loader.stats();
        stats.under_way == 0 && stats.window_bytes > WINDOW * 9 / 10
    });
    ALLOCATED.current_usage() as u64
}

/// Bytes of this process in memory, where the system says so.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}

/// CPU time of this process, in milliseconds, where the system says so.
fn cpu_millis() -> Option<u64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // After the name, which may hold anything: fields 14 and 15 of all, in hundredths of a second.
    let fields = stat.rsplit_once(')')?.1;
    let mut fields = fields.split_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<u64>().ok();
    Some((next()? + next()?) * 10)
}

#[test]
#[ignore = "the other half of the tests above"]
fn alone() {
    let Ok(endpoint) = std::env::var(ENDPOINT) else {
        return;
    };
    let folder = PathBuf::from(std::env::var(FOLDER).unwrap());
    let source = Source {
        index: Some(folder.join(".index")),
        ..Source::new(&folder)
    };
    let batches: u64 = std::env::var(BATCHES).unwrap().parse().unwrap();
    let dataset = Arc::new(Dataset::open(source, BadSamples::Fail, &|_| {}).unwrap());
    let mut config = Config::new(&folder, endpoint, "stub");
    config.global_batch = 16;
    config.target_area = 256 * 256;
    config.chunk_pixels = Some(8 * 256 * 256);
    config.window_bytes = WINDOW;
    config.max_batches_ahead = 4096;
    let before = ALLOCATED.current_usage() as u64;
    let mut loader = DataLoader::with_dataset(config, dataset).unwrap();
    let held = full(&loader) - before;
    println!("held when full: {held} of {WINDOW}");
    ALLOCATED.reset_peak_usage();
    let mut take = |count: u64| {
        let mut taken = 0;
        while taken < count {
            taken += u64::from(loader.next_batch().unwrap().is_some());
        }
        (full(&loader) - before, resident())
    };
    let warm = take(300);
    let peak = ALLOCATED.peak_usage() as u64 - before;
    let cpu = cpu_millis();
    let late = take(batches);
    if let (Some(before), Some(after)) = (cpu, cpu_millis()) {
        let each = (after - before) as f64 / (batches * 16) as f64;
        println!("CPU time per image: {each:.3} ms");
    }
    println!("peak while taken: {peak}; held when full, resident: first {warm:?}, last {late:?}");
    // With all that a loader has whatever its window: threads, connections, histograms, the plan.
    for held in [held, peak, warm.0, late.0] {
        assert!(held <= WINDOW + WINDOW / 10, "{held} of {WINDOW}");
    }
    // Full is full: less a batch that no longer had room, and a file's worth of what is given back.
    assert!(held >= WINDOW * 9 / 10, "{held} of {WINDOW}");
    let grown = late.0.abs_diff(warm.0);
    assert!(grown <= WINDOW / 50, "{grown}");
    if let (Some(first), Some(last)) = (warm.1, late.1) {
        // The allocator's, not ours: pages that it keeps for later.
        assert!(last <= first + WINDOW, "{first} became {last}");
    }
}
