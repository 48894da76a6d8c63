//! The commands themselves, as a user runs them.

use std::process::Command;

use preheat_clips::fixtures;
use serde_json::Value;

fn bench(arguments: &[&str]) -> (tempfile::TempDir, Value) {
    let folder = tempfile::tempdir().unwrap();
    let status = Command::new(env!("CARGO_BIN_EXE_preheat-bench"))
        .args(arguments)
        .args(["--json", "figures.json"])
        .current_dir(folder.path())
        .status()
        .unwrap();
    assert!(status.success());
    let json = std::fs::read_to_string(folder.path().join("figures.json")).unwrap();
    let json = serde_json::from_str(&json).unwrap();
    (folder, json)
}

#[test]
fn the_demo_delivers_every_photo_in_both_epochs_and_draws_them() {
    let (folder, json) = bench(&["demo", "--size", "64"]);
    let rows = json["tables"][0]["rows"].as_array().unwrap();
    assert_eq!(
        rows.iter()
            .map(|row| row[1].as_f64().unwrap())
            .collect::<Vec<_>>(),
        [24.0, 24.0]
    );
    let sheet = image::open(folder.path().join("preheat-demo.png"))
        .unwrap()
        .into_rgb8();
    let colours: std::collections::BTreeSet<_> = sheet.pixels().map(|pixel| pixel.0).collect();
    assert!(colours.len() > 10_000, "only {} colours", colours.len());
}

#[test]
fn encode_measures_in_process_and_through_a_loader() {
    let small = [
        "encode", "--size", "64", "--batch", "2", "--rounds", "2", "--images", "4",
    ];
    let (_folder, json) = bench(&[&small[..], &["--through-loader"]].concat());
    let row = json["tables"][0]["rows"][0].as_array().unwrap();
    assert!(
        row[3].as_f64().unwrap() > 0.0 && row[7].as_f64().unwrap() > 0.1,
        "{row:?}"
    );
}

#[test]
fn the_demo_delivers_a_clip_of_every_video_in_both_epochs_and_draws_them() {
    if fixtures::ffmpeg().is_none() {
        return;
    }
    let (folder, json) = bench(&["demo", "--clips", "--size", "64", "--frames", "9"]);
    let rows = json["tables"][0]["rows"].as_array().unwrap();
    for row in rows {
        let number = |column: usize| row[column].as_f64().unwrap();
        assert_eq!(number(1), 8.0, "{row}");
        assert!((number(3) - 9.0 * number(2)).abs() < 1e-6, "{row}");
    }
    assert_eq!(rows.len(), 2);
    let sheet = image::open(folder.path().join("preheat-demo.png")).unwrap();
    let sheet = sheet.into_rgb8();
    let colours: std::collections::BTreeSet<_> = sheet.pixels().map(|pixel| pixel.0).collect();
    assert!(colours.len() > 10_000, "only {} colours", colours.len());
}

#[test]
fn encode_measures_clips() {
    if fixtures::ffmpeg().is_none() {
        return;
    }
    let clips = ["encode", "--model", "builtin:wan", "--frames", "5"];
    let small = [
        "--size", "64", "--batch", "2", "--rounds", "1", "--images", "4",
    ];
    let (_folder, json) = bench(&[&clips[..], &small, &["--through-loader"]].concat());
    assert_eq!(json["tables"][0]["columns"][3], "clips/s");
    let row = json["tables"][0]["rows"][0].as_array().unwrap();
    let number = |column: usize| row[column].as_f64().unwrap();
    assert!(number(3) > 0.0 && number(7) > 0.0, "{row:?}");
    assert!((number(6) - 5.0 * number(3)).abs() < 1e-6, "{row:?}");
}

#[test]
fn coarser_jpegs_change_latents_more() {
    if fixtures::ffmpeg().is_none() {
        return;
    }
    let clips = ["encode", "--model", "builtin:wan", "--frames", "5"];
    let (_folder, json) = bench(&[&clips[..], &["--size", "96", "--jpeg", "95,75,30"]].concat());
    let rows = json["tables"][0]["rows"].as_array().unwrap();
    let column = |at: usize| {
        let value = |row: &Value| row[at].as_f64().or_else(|| row[at].as_str()?.parse().ok());
        rows.iter()
            .map(|row| value(row).unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(column(3), [95.0, 75.0, 30.0]);
    let (bytes, change) = (column(4), column(6));
    assert!(bytes.is_sorted_by(|a, b| a > b), "{bytes:?}");
    assert!(change.is_sorted_by(|a, b| a < b), "{change:?}");
    assert!(change[0] > 0.0 && change[2] < 1.0, "{change:?}");
}
