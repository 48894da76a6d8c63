//! Programs that hang, crash, chatter and lie in FFmpeg's place; and that nothing is left of any.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use preheat_clips::{
    ClipError, Cut, Encoding, Ffmpeg, Input, Limits, Video,
    fixtures::{Codec, Numbered},
};

use crate::with::With;

/// A sleep that no other process on the machine sleeps.
fn long_sleep() -> String {
    format!("86399.{}", std::process::id())
}

/// A program that says it is FFmpeg, and then does this.
fn fake(directory: &Path, name: &str, does: &str) -> PathBuf {
    let path = directory.join(name);
    let script = format!(
        "#!/bin/sh\ncase $1 in -version) echo \"$(basename $0) version 7.1 Copyright\"; exit;; esac\n{does}\n"
    );
    install(&path, &script);
    path
}

/// Written by another process: a handle for writing that is inherited by a child which another test
/// starts at this moment would keep the program from being started.
fn install(path: &Path, script: &str) {
    let write = "rm -f \"$0\"; printf %s \"$1\" > \"$0\" && chmod 755 \"$0\"";
    let mut shell = Command::new("/bin/sh");
    let status = shell.arg("-c").arg(write).arg(path).arg(script).status();
    assert!(status.unwrap().success());
}

/// FFmpeg's announcement of a frame.
fn announces(time: i64) -> String {
    format!("echo '[Parsed_showinfo_1 @ 0x1] [info] n: 0 pts: {time} pts_time: 0' >&2")
}

struct Case {
    name: &'static str,
    does: String,
    expected: fn(&ClipError) -> bool,
    says: &'static str,
}

/// All the ways to misbehave, for either program.
fn cases() -> Vec<Case> {
    let case = |name, does: &str, expected, says| Case {
        name,
        does: does.to_owned(),
        expected,
        says,
    };
    vec![
        case(
            "hangs, and so does what it started",
            &format!("sleep {} & exec sleep {}", long_sleep(), long_sleep()),
            |error| matches!(error, ClipError::Timeout { .. }),
            "waiting",
        ),
        case(
            "leaves something behind that holds its pipes",
            &format!("sleep {} & exit 0", long_sleep()),
            |error| matches!(error, ClipError::Timeout { .. }),
            "waiting",
        ),
        case(
            "crashes",
            "kill -SEGV $$",
            |error| matches!(error, ClipError::Crashed { .. }),
            "signal 11",
        ),
        case(
            "ends with a status that means nothing",
            "echo 'something about a library' >&2; exit 42",
            |error| matches!(error, ClipError::Crashed { .. }),
            "status 42 at 0.000 s: something about a library",
        ),
        case(
            "computes for ever",
            "while :; do :; done",
            |error| matches!(error, ClipError::Timeout { .. }),
            "processor time",
        ),
        case(
            "chatters for ever",
            "yes '[h264 @ 0x1] [error] oh no' >&2",
            |error| matches!(error, ClipError::Timeout { .. }),
            "waiting",
        ),
        case(
            "finds no memory",
            "echo '[error] Cannot allocate memory' >&2; exit 1",
            |error| matches!(error, ClipError::Memory { .. }),
            "Cannot allocate",
        ),
        case(
            "lacks a filter",
            "echo \"[AVFilterGraph @ 0x1] [error] No such filter: 'select'\" >&2; exit 1",
            |error| matches!(error, ClipError::Lacking { .. }),
            "install a complete one",
        ),
    ]
}

/// Short only where time must run out, so that a busy machine changes no outcome.
fn limits(case: &Case) -> Limits {
    let runs_out = case.says == "waiting";
    Limits {
        wall: Duration::from_millis(if runs_out { 400 } else { 60_000 }),
        cpu: Duration::from_secs(1),
        ..Limits::default()
    }
}

#[track_caller]
fn check(case: &Case, error: &ClipError) {
    assert!((case.expected)(error), "{}: {error:?}", case.name);
    assert!(
        error.to_string().contains(case.says),
        "{}: {error}",
        case.name
    );
}

/// With the real ffprobe, for what only ffmpeg does.
fn only_ffmpeg(with: &With, directory: &Path, does: &str) -> Ffmpeg {
    let real = which("ffprobe", "PREHEAT_FFPROBE");
    assert!(with.ffmpeg.version().len() > 1);
    Ffmpeg::at(fake(directory, "ffmpeg", does), real).unwrap()
}

fn which(program: &str, variable: &str) -> PathBuf {
    let named = std::env::var_os(variable).map(PathBuf::from);
    named.unwrap_or_else(|| {
        let path = std::env::var_os("PATH").unwrap();
        let candidates = std::env::split_paths(&path).map(|directory| directory.join(program));
        candidates.into_iter().find(|path| path.is_file()).unwrap()
    })
}

/// All cases of both programs on a real clip.
fn misbehaviour(with: &With, input: &Input, video: &Video) {
    let directory = with.path("");
    let cut = Cut::whole(video.times[..4].to_vec(), Encoding::Rgb8);
    for case in cases() {
        let program = fake(&directory, "ffprobe", &case.does);
        let ffmpeg = Ffmpeg::at(fake(&directory, "ffmpeg", &case.does), program).unwrap();
        check(&case, &ffmpeg.probe(input, &limits(&case)).unwrap_err());
        let mut frames = ffmpeg.frames(input, video, &cut, &limits(&case)).unwrap();
        check(&case, &frames.next().unwrap().unwrap_err());
        assert!(frames.next().is_none(), "{}", case.name);
    }
}

#[test]
fn every_misbehaviour_is_an_error_in_time() {
    let Some(with) = With::new() else { return };
    let Some(input) = with.clip("clip.mp4", &Numbered::new(Codec::Mjpeg, 12)) else {
        return;
    };
    let video = with.probe(&input).unwrap();
    misbehaviour(&with, &input, &video);
}

#[test]
fn output_that_is_not_frames() {
    let Some(with) = With::new() else { return };
    let Some(input) = with.clip("clip.mp4", &Numbered::new(Codec::Mjpeg, 12)) else {
        return;
    };
    let video = with.probe(&input).unwrap();
    let cut = Cut::whole(video.times[..2].to_vec(), Encoding::Rgb8);
    let bytes = 128 * 96 * 3;
    let first = announces(video.times[0]);
    let cases = [
        // Too little, and rubbish without announcements.
        (
            format!("{first}; head -c 1000 /dev/zero"),
            0,
            "does not come out",
        ),
        (
            format!("head -c {bytes} /dev/urandom"),
            0,
            "does not come out",
        ),
        // One good frame, then another one than asked for.
        (
            format!(
                "{first}; head -c {bytes} /dev/zero; {}; cat /dev/zero",
                announces(99_999)
            ),
            1,
            "does not come out",
        ),
        // One good frame, then a crash.
        (
            format!("{first}; head -c {bytes} /dev/zero; kill -ABRT $$"),
            1,
            "signal 6 at 0.040 s",
        ),
        // One good frame, then endless bytes.
        (
            format!("{first}; exec cat /dev/zero"),
            1,
            "waiting at 0.040 s",
        ),
    ];
    let mut limits = with.limits.clone();
    for (does, good, says) in cases {
        // Time must run out in one of them, after its first frame.
        limits.wall = Duration::from_secs(if says.contains("waiting") { 3 } else { 60 });
        let ffmpeg = only_ffmpeg(&with, &with.path(""), &does);
        let frames: Vec<_> = ffmpeg
            .frames(&input, &video, &cut, &limits)
            .unwrap()
            .collect();
        assert_eq!(frames.len(), good + 1, "{does}");
        let error = frames[good].as_ref().unwrap_err();
        assert!(error.to_string().contains(says), "{does}: {error}");
    }
}

#[test]
fn a_probe_without_end() {
    let Some(with) = With::new() else { return };
    let Some(input) = with.clip("clip.mp4", &Numbered::new(Codec::Mjpeg, 12)) else {
        return;
    };
    let mut limits = with.limits.clone();
    limits.source_frames = 100;
    for (does, says) in [
        ("yes 'packet|stream_index=0|pts=1'", "more than 100"),
        ("yes", "lines"),
        ("cat /dev/zero", "a line of more"),
    ] {
        let program = fake(&with.path(""), "ffprobe", does);
        let ffmpeg = Ffmpeg::at(fake(&with.path(""), "ffmpeg", ""), program).unwrap();
        let error = ffmpeg.probe(&input, &limits).unwrap_err();
        assert!(error.to_string().contains(says), "{does}: {error}");
    }
}

#[test]
fn a_slow_reader_kills_nothing() {
    let Some(mut with) = With::new() else { return };
    let mut numbered = Numbered::new(Codec::Mjpeg, 30);
    numbered.size = [640, 480];
    let Some(input) = with.clip("clip.mp4", &numbered) else {
        return;
    };
    let video = with.probe(&input).unwrap();
    with.limits.wall = Duration::from_secs(2);
    let cut = Cut::whole(video.times.clone(), Encoding::Rgb8);
    let start = || with.ffmpeg.frames(&input, &video, &cut, &with.limits);
    let mut frames = start().unwrap();
    frames.next().unwrap().unwrap();
    // More time than it has passes, and it is not the one that is waited for: another is.
    let hangs = format!("exec sleep {}", long_sleep());
    let other = only_ffmpeg(&with, &with.path(""), &hangs);
    let since = std::time::Instant::now();
    let mut others = other.frames(&input, &video, &cut, &with.limits).unwrap();
    let error = others.next().unwrap().unwrap_err();
    assert!(matches!(error, ClipError::Timeout { .. }), "{error}");
    assert!(since.elapsed() >= with.limits.wall);
    assert_eq!(frames.filter(Result::is_ok).count(), 29);
}

#[test]
fn too_little_memory_is_said() {
    let Some(mut with) = With::new() else { return };
    let Some(input) = with.clip("clip.mp4", &Numbered::new(Codec::Mjpeg, 12)) else {
        return;
    };
    if cfg!(not(target_os = "linux")) {
        eprintln!("NOT TESTED: this system does not limit address space");
        return;
    }
    with.limits.memory_bytes = 24 << 20;
    let error = with.probe(&input).unwrap_err();
    assert!(matches!(error, ClipError::Memory { .. }), "{error}");
}

#[test]
fn programs_that_are_not_ffmpeg() {
    let directory = tempfile::tempdir().unwrap();
    let missing = Ffmpeg::at("/nowhere/ffmpeg", "/nowhere/ffprobe").unwrap_err();
    assert!(
        missing.to_string().contains("apt install ffmpeg"),
        "{missing}"
    );
    let path = directory.path().join("ffmpeg");
    for (script, says) in [
        (
            "#!/bin/sh\necho ffmpeg version 4.3.9 Copyright\n",
            "4.4 or newer",
        ),
        ("#!/bin/sh\necho hello\n", "hello"),
        ("#!/bin/sh\nexit 1\n", "no reason given"),
        ("no program", "4.4 or newer"),
    ] {
        install(&path, script);
        let error = Ffmpeg::at(&path, &path).unwrap_err();
        assert!(matches!(error, ClipError::Version { .. }), "{error}");
        assert!(error.to_string().contains(says), "{error}");
        assert!(!error.blames_clip());
    }
}

/// In a process of its own, whose handles and children nobody else changes.
#[cfg(target_os = "linux")]
#[test]
fn nothing_is_left_behind() {
    let temporary = tempfile::tempdir().unwrap();
    let done = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "children::alone", "--ignored", "--nocapture"])
        .env("TMPDIR", temporary.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{said}");
    assert_eq!(fs::read_dir(temporary.path()).unwrap().count(), 0);
}

#[cfg(target_os = "linux")]
#[test]
#[ignore = "run by nothing_is_left_behind, alone in its process"]
fn alone() {
    let Some(with) = With::new() else { return };
    let Some(path) = with.clip("clip.mp4", &Numbered::new(Codec::Mjpeg, 12)) else {
        return;
    };
    let video = with.probe(&path).unwrap();
    let bytes = Input::Bytes(fs::read(with.path("clip.mp4")).unwrap().into());
    let before = (handles(), children());
    misbehaviour(&with, &bytes, &video);
    // Dropped before the first frame, after it, and at the end; and while a panic passes by.
    let cut = Cut::whole(video.times.clone(), Encoding::Jpeg { quality: 90 });
    for count in [0, 1, 12] {
        let frames = with
            .ffmpeg
            .frames(&bytes, &video, &cut, &with.limits)
            .unwrap();
        assert_eq!(frames.take(count).count(), count);
    }
    let panic = std::panic::catch_unwind(|| {
        let _frames = with
            .ffmpeg
            .frames(&bytes, &video, &cut, &with.limits)
            .unwrap();
        panic!("on purpose");
    });
    assert!(panic.is_err());
    assert_eq!((handles(), children()), before);
    let mark = long_sleep();
    let running = fs::read_dir("/proc").unwrap().flatten().filter(|process| {
        let line = fs::read(process.path().join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(&mark)
    });
    assert_eq!(running.count(), 0, "what a child started outlived it");
}

#[cfg(target_os = "linux")]
fn handles() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Running and unreaped.
#[cfg(target_os = "linux")]
fn children() -> usize {
    let tasks = fs::read_dir("/proc/self/task").unwrap().flatten();
    tasks
        .map(|task| fs::read_to_string(task.path().join("children")).unwrap_or_default())
        .map(|children| children.split_whitespace().count())
        .sum()
}
