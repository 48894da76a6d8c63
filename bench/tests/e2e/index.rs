//! `preheat-bench index` over videos, as a user calls it.

use std::{path::Path, process::Command};

use preheat_clips::fixtures::{self, Codec, Numbered};

/// What it printed, and whether it was content.
fn index(folder: &Path, action: &str) -> (String, bool) {
    let output = Command::new(env!("CARGO_BIN_EXE_preheat-bench"))
        .args(["index", action, "--videos"])
        .arg("--index")
        .arg(folder.with_extension("index"))
        .arg(folder)
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    (
        String::from_utf8_lossy(&said).into_owned(),
        output.status.success(),
    )
}

#[test]
fn videos_are_indexed_shown_and_verified() {
    let Some(ffmpeg) = fixtures::ffmpeg() else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("videos");
    std::fs::create_dir(&folder).unwrap();
    for (name, frames) in [("a.mp4", 20), ("b.mp4", 50)] {
        let video = Numbered::new(Codec::H264, frames);
        video.write(&ffmpeg, &folder.join(name)).unwrap();
    }
    std::fs::write(folder.join("c.mp4"), b"no video").unwrap();
    let (said, content) = index(&folder, "build");
    assert!(content, "{said}");
    let (said, content) = index(&folder, "inspect");
    assert!(content && said.contains("Videos by frames"), "{said}");
    for row in ["16 to 31", "32 to 63", "c.mp4"] {
        assert!(said.contains(row), "no {row} in {said}");
    }
    let (said, content) = index(&folder, "verify");
    assert!(content, "{said}");

    let other = Numbered::new(Codec::H264, 21);
    other.write(&ffmpeg, &folder.join("a.mp4")).unwrap();
    let (said, content) = index(&folder, "verify");
    assert!(!content, "{said}");
    assert!(said.contains("than the 20 that were indexed"), "{said}");
}
