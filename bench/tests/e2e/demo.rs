//! The commands themselves, as a user runs them.

use std::process::Command;

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
