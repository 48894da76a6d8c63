//! Decoding and resizing against PIL, and against bytes that mean harm.

use std::{fs, path::PathBuf};

use preheat_models::image::{Rgb, decode};

mod decode;
mod mutate;
mod refuse;
mod resize;

/// Enough for every picture here.
const MAX_PIXELS: u64 = 1 << 22;

fn folder(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/image")
        .join(name)
}

/// A picture to decode.
fn read(name: &str) -> Vec<u8> {
    fs::read(folder("data").join(name)).expect("a picture of the repository")
}

/// What PIL makes of it. `make_goldens.py` says how, and why there are three formats.
fn golden(name: &str) -> Rgb {
    let path = |ending: &str| folder("goldens").join(format!("{name}.{ending}"));
    if let Ok(data) = fs::read(path("rgb")) {
        let decoded = decode(&read(name), MAX_PIXELS).expect("a good picture");
        return Rgb { data, ..decoded };
    }
    let bytes = fs::read(path("webp"))
        .or_else(|_| fs::read(path("png")))
        .expect("a golden");
    decode(&bytes, MAX_PIXELS).expect("a good golden")
}

/// The largest and the mean absolute difference.
fn difference(a: &Rgb, b: &Rgb) -> (u8, f64) {
    assert_eq!((a.width, a.height), (b.width, b.height));
    assert_eq!(a.data.len(), b.data.len());
    let differences = || a.data.iter().zip(&b.data).map(|(a, b)| a.abs_diff(*b));
    let sum: u64 = differences().map(u64::from).sum();
    (
        differences().max().unwrap_or(0),
        sum as f64 / a.data.len() as f64,
    )
}
