//! Simulated trainers, as a user starts them. The command itself fails where a rank gets anything but
//! what the plan says.

use std::process::Command;

use preheat_clips::fixtures;
use serde_json::Value;

/// A run with small photos and few of them, so that it goes through several epochs.
fn trainer(arguments: &[&str]) -> Result<(tempfile::TempDir, Value), String> {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_preheat-bench"))
        .arg("trainer")
        .args(["--photos", "60", "--photo-kib", "8", "--size", "64"])
        .args(["--global-batch", "8", "--json", "figures.json"])
        .args(arguments)
        .current_dir(folder.path())
        .output()
        .unwrap();
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let json = std::fs::read_to_string(folder.path().join("figures.json")).unwrap();
    let json = serde_json::from_str(&json).unwrap();
    Ok((folder, json))
}

fn rows<'a>(json: &'a Value, title: &str) -> &'a Vec<Value> {
    let tables = json["tables"].as_array().unwrap();
    let mut named = tables
        .iter()
        .filter(|table| table["title"].as_str().unwrap().contains(title));
    let table = named.next().unwrap_or_else(|| panic!("{title}: {json}"));
    table["rows"].as_array().unwrap()
}

fn figure(json: &Value, name: &str) -> f64 {
    let figures = json["figures"].as_array().unwrap();
    let found = figures.iter().find(|figure| figure["name"] == name);
    found.unwrap()["value"].as_f64().unwrap()
}

#[test]
fn ranks_ride_out_a_stop_of_the_fleet_and_get_every_batch_in_order() {
    let fleet = [
        "--start",
        "synthetic:ms-per-megapixel=200",
        "--replicas",
        "2",
    ];
    let pace = ["--step-ms", "20", "--warm-up", "0.5", "--seconds", "4"];
    let stop = ["--stop-fleet", "1,1.5", "--batches-ahead", "8", "--cpu"];
    let picture = ["--picture", "trainer.png"];
    let all = [&fleet[..], &pace, &stop, &picture].concat();
    let (folder, json) = trainer(&all).unwrap();

    let went = &rows(&json, "made photos")[0];
    let steps = went[2].as_f64().unwrap();
    assert!(steps >= 2.0, "{went}");
    // The warm-up has steps too.
    assert!(figure(&json, "delivered in the plan's order") > 8.0 * steps);
    assert_eq!(rows(&json, "Their processes").len(), 2);
    // Eight batches do not last for a second and a half: it was felt, and then it was over.
    let ride = &rows(&json, "The stop of the whole fleet")[0];
    assert!(ride[4].as_f64().unwrap() > 0.0, "{ride}");
    let picture = image::open(folder.path().join("trainer.png")).unwrap();
    let colours = picture.into_rgb8();
    let colours: std::collections::BTreeSet<_> = colours.pixels().map(|pixel| pixel.0).collect();
    assert!(colours.len() > 20, "only {} colours", colours.len());
}

#[test]
fn trainers_share_a_balanced_fleet_and_go_without_one() {
    let fleet = [
        "--start",
        "synthetic",
        "--start",
        "synthetic:ms-per-megapixel=50",
    ];
    let run = [
        "--balancer",
        "--trainers",
        "2",
        "--ranks",
        "1",
        "--world-size",
        "2",
    ];
    let pace = [
        "--load",
        "0.5",
        "--capacity-seconds",
        "0.5",
        "--warm-up",
        "0.2",
    ];
    let more = [
        "--steps",
        "5",
        "--slow-share",
        "0.1",
        "--vae-in-loop",
        "synthetic",
    ];
    let (_folder, json) = trainer(&[&fleet[..], &run, &pace, &more].concat()).unwrap();
    let went = rows(&json, "behind a balancer");
    let names: Vec<_> = went.iter().map(|row| row[0].as_str().unwrap()).collect();
    let alone = ["0, VAE in the loop", "1, VAE in the loop"];
    assert_eq!(names, [&["0", "1"][..], &alone].concat());
    for row in went {
        assert_eq!(row[2].as_f64().unwrap(), 5.0, "{row}");
    }
    assert!(figure(&json, "capacity") > 0.0);
}

#[test]
fn trainers_train_on_clips() {
    if fixtures::ffmpeg().is_none() {
        return;
    }
    for codec in ["h264", "mjpeg"] {
        let fleet = [
            "--start",
            "synthetic:temporal-compression=4",
            "--codec",
            codec,
        ];
        let videos = ["--frames", "5,9", "--videos", "6", "--video-size", "96x64"];
        let pace = ["--step-ms", "50", "--warm-up", "0.2", "--steps", "6"];
        let (_folder, json) = trainer(&[&fleet[..], &videos, &pace].concat()).unwrap();
        let went = &rows(&json, "clips of 5 or 9 frames")[0];
        assert_eq!(went[2].as_f64().unwrap(), 6.0, "{went}");
        assert!(figure(&json, "delivered in the plan's order") >= 6.0 * 8.0);
        let [all, decoding] =
            ["host CPU", "of it FFmpeg's processes"].map(|name| figure(&json, name));
        assert!(
            decoding > 0.0 && decoding < all,
            "{codec}: {decoding} of {all}"
        );
    }
    let both = [
        "--start",
        "synthetic",
        "--frames",
        "5",
        "--vae-in-loop",
        "synthetic",
    ];
    let both = trainer(&both).unwrap_err();
    assert!(both.contains("leave out --frames"), "{both}");
}

#[test]
fn what_fails_is_said() {
    let nobody = trainer(&["--endpoint", "http://127.0.0.1:1"]).unwrap_err();
    assert!(nobody.contains("127.0.0.1:1"), "{nobody}");
    let world = ["--start", "synthetic", "--ranks", "3"];
    let world = trainer(&world).unwrap_err();
    assert!(world.contains("world_size"), "{world}");
}
