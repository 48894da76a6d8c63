//! What a long clip takes at full size.

use std::{fs, time::Instant};

use preheat_models::{PixelData, Pixels};

use crate::{parity::encoder, published::full_size};

/// Resident memory that a clip may take in all, weights and pixels included.
const GIBIBYTES: f64 = 8.0;

/// The most memory that was resident at one time, in gibibytes.
fn peak() -> f64 {
    let status = fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kibibytes = line.and_then(|line| line.split_whitespace().nth(1));
    let kibibytes: f64 = kibibytes.expect("a peak").parse().expect("a number");
    kibibytes / f64::from(1 << 20)
}

/// Wan 2.1 with random weights, at 480x832: first 5 frames, which tells how long a chunk takes and how
/// much memory, then 81, or as many as `PREHEAT_CLIP_FRAMES` says. Takes the better part of an hour on
/// two cores:
///
/// `cargo test --release -p preheat-models --test it -- --ignored --nocapture a_long_clip`
#[test]
#[ignore = "takes long, and is about memory alone"]
fn a_long_clip_takes_no_more_memory_than_a_short_one() {
    let (height, width) = (480, 832);
    let frames = std::env::var("PREHEAT_CLIP_FRAMES");
    let frames: usize = frames.map_or(81, |frames| frames.parse().expect("a number of frames"));
    let dir = full_size("wan-2.1");
    let mut encoder = encoder(dir.path());
    println!("{:.2} GiB with weights", peak());
    let mut peaks = Vec::new();
    for frames in [5, frames] {
        let start = Instant::now();
        let data = (0..frames * height * width * 3).map(|at| (at % 251 + at / 7919) as u8);
        let clip = Pixels {
            batch: 1,
            frames,
            height,
            width,
            data: PixelData::Rgb8(data.collect()),
        };
        let moments = encoder.encode(&clip).expect("encodes");
        assert_eq!(moments.shape, [1, 16, (frames - 1) / 4 + 1, 60, 104]);
        moments.check(0, encoder.spec().dtype).expect("is finite");
        peaks.push(peak());
        println!(
            "{frames} frames: {:.2} GiB, {:.0?}",
            peak(),
            start.elapsed()
        );
    }
    assert!(peaks[1] <= GIBIBYTES, "{:.2} GiB", peaks[1]);
}
