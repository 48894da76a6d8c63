//! Videos that are damaged, or make FFmpeg hang or crash. In a process of its own: which FFmpeg is used
//! is a variable of the environment.

use std::{
    collections::BTreeMap, env, fs, os::unix::fs::PermissionsExt, path::Path, process::Command,
    time::Duration,
};

use preheat_client::{BadSamples, Config, DataLoader, Error, Tail};
use preheat_clips::fixtures::{self, Codec, Numbered};

use super::{
    RATE,
    replica::Replica,
    videos::{Videos, drain, numbered},
};
use crate::stub::eventually;

/// In a file's last bytes: what the FFmpeg of this test does about it.
const HANG: &str = "MAKES-IT-HANG";
const CRASH: &str = "MAKES-IT-CRASH";
/// Set where a test is in a process of its own.
const INSIDE: &str = "PREHEAT_TEST_INSIDE";

/// Runs one test of this module in a process whose FFmpeg hangs and crashes on demand.
fn alone(test: &str) {
    let Some(ffmpeg) = fixtures::ffmpeg() else {
        return;
    };
    drop(ffmpeg);
    let real = env::var_os("PREHEAT_FFMPEG").map(Into::into).or_else(|| {
        let path = env::var_os("PATH")?;
        env::split_paths(&path)
            .map(|folder| folder.join("ffmpeg"))
            .find(|path| path.is_file())
    });
    let real: std::path::PathBuf = real.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("ffmpeg");
    let text = format!(
        "#!/bin/sh\nPATH=/usr/bin:/bin\n\
         if grep -qa {HANG} /dev/fd/0; then exec sleep 1000; fi\n\
         if grep -qa {CRASH} /dev/fd/0; then kill -SEGV $$; fi\n\
         exec '{}' \"$@\"\n",
        real.display()
    );
    fs::write(&script, text).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let run = Command::new(env::current_exe().unwrap())
        .args(["--exact", &format!("clips::bad::{test}"), "--nocapture"])
        .env("PREHEAT_FFMPEG", &script)
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&run.stdout) + String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success() && said.contains("1 passed"), "{said}");
}

fn inside() -> bool {
    env::var_os(INSIDE).is_some()
}

/// An mp4 with an empty atom at its end that says so.
fn marked(path: &Path, mark: &str) {
    let mut bytes = fs::read(path).unwrap();
    bytes.extend((8 + mark.len() as u32).to_be_bytes());
    bytes.extend(b"free");
    bytes.extend(mark.as_bytes());
    fs::write(path, bytes).unwrap();
}

/// Ten videos: seven good ones, one that hangs, one that crashes, one that is cut off.
fn ten() -> Videos {
    let videos = Videos::new().unwrap();
    let front = Numbered {
        options: ["-movflags", "+faststart"].map(str::to_owned).into(),
        ..numbered(Codec::H264, 30)
    };
    for at in 0..10 {
        assert!(videos.write(&format!("{at}.mp4"), &front));
    }
    marked(&videos.path("2.mp4"), HANG);
    marked(&videos.path("5.mp4"), CRASH);
    let whole = fs::read(videos.path("7.mp4")).unwrap();
    fs::write(videos.path("7.mp4"), &whole[..whole.len() * 6 / 10]).unwrap();
    videos
}

fn config(videos: &Videos, replica: &Replica) -> Config {
    let mut config = videos.config(replica.uri());
    config.frames = vec![5];
    // Long enough for the others on a machine that is busy.
    config.clip_timeout = Duration::from_secs(5);
    config.max_bad_share = 1.0;
    config.tail = Tail::Short;
    config
}

/// Processes that this one has, dead ones that nobody asked for among them.
fn children() -> Vec<String> {
    let me = std::process::id().to_string();
    let all = fs::read_dir("/proc").unwrap().flatten();
    let status = all.filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok());
    let mine = status.filter(|stat| {
        // The name is in parentheses and may hold anything; then the state, then the parent.
        let (_, rest) = stat.rsplit_once(") ").unwrap_or_default();
        rest.split(' ').nth(1) == Some(&me)
    });
    mine.collect()
}

fn handles() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn an_epoch_completes_by_the_policy() {
    if !inside() {
        return alone("an_epoch_completes_by_the_policy");
    }
    let (videos, replica) = (ten(), Replica::start());
    let handles_then = handles();
    let epoch = |policy| {
        let mut config = config(&videos, &replica);
        config.bad_samples = policy;
        let mut loader = DataLoader::new(config).unwrap();
        let batches = drain(&mut loader, 1, RATE);
        let stats = loader.stats();
        drop(loader);
        assert_eq!(children(), Vec::<String>::new());
        let reasons = stats
            .bad
            .iter()
            .map(|bad| (bad.key.clone(), bad.reason.clone()));
        let reasons: BTreeMap<String, String> = reasons.collect();
        assert_eq!(
            reasons.keys().collect::<Vec<_>>(),
            ["2.mp4", "5.mp4", "7.mp4"]
        );
        assert!(
            reasons["2.mp4"].contains("FFmpeg was ended after 5 s"),
            "{reasons:?}"
        );
        assert!(
            reasons["5.mp4"].contains("crashed by signal 11 at "),
            "{reasons:?}"
        );
        // Found when it was indexed.
        let cut_off = ["damaged", "no frames"]
            .iter()
            .any(|what| reasons["7.mp4"].contains(what));
        assert!(cut_off, "{reasons:?}");
        let samples = batches.into_iter().flat_map(|batch| batch.samples);
        samples.collect::<Vec<_>>()
    };
    let skipped = epoch(BadSamples::Skip);
    let bad = |sample: &&preheat_client::SampleInfo| [2, 5, 7].contains(&sample.id);
    assert_eq!(skipped.len(), 10);
    assert!(
        skipped
            .iter()
            .filter(bad)
            .all(|sample| !sample.valid && sample.clip.is_none())
    );
    assert_eq!(skipped.iter().filter(|sample| sample.valid).count(), 7);
    let substituted = epoch(BadSamples::Substitute);
    assert_eq!(substituted.len(), 10);
    assert!(substituted.iter().find(bad).is_none());
    let stand_ins = substituted.iter().filter_map(|sample| sample.substitute_of);
    assert_eq!(
        stand_ins.collect::<std::collections::BTreeSet<_>>().len(),
        3
    );
    let failed = DataLoader::new(config(&videos, &replica));
    let failed = failed.and_then(|mut loader| match loader.epoch().find_map(Result::err) {
        Some(error) => Err(error),
        None => Ok(()),
    });
    let named = |key: &str| ["2.mp4", "5.mp4", "7.mp4"].contains(&key);
    assert!(matches!(failed, Err(Error::BadSample { key, .. }) if named(&key)));
    assert_eq!(children(), Vec::<String>::new());
    // Connections close a moment after their loader.
    eventually("handles given back", || handles() <= handles_then);
}

/// One that hangs holds up no other batch, and is gone with its loader.
#[test]
fn a_loader_that_is_dropped_leaves_no_process() {
    if !inside() {
        return alone("a_loader_that_is_dropped_leaves_no_process");
    }
    let (videos, replica) = (ten(), Replica::start());
    let mut config = config(&videos, &replica);
    config.bad_samples = BadSamples::Skip;
    config.clip_timeout = Duration::from_secs(3600);
    config.clip_decoders = Some(2);
    config.global_batch = 1;
    config.chunk_items = Some(1);
    let loader = DataLoader::new(config).unwrap();
    let hangs = || children().iter().any(|child| child.contains("(sleep)"));
    eventually("the one that hangs", hangs);
    eventually("all others", || loader.stats().ready_batches >= 9);
    assert!(hangs());
    drop(loader);
    assert_eq!(children(), Vec::<String>::new());
}
