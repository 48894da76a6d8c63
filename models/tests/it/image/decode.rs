//! Decoding, against PIL.

use std::fs;

use preheat_models::image::{Format, ImageError, Orientation, decode, probe};

use super::{MAX_PIXELS, difference, folder, golden, read};

/// JPEGs with subsampled chroma, whose interpolation rounds otherwise than libjpeg's.
const SUBSAMPLED: [&str; 6] = ["420", "422", "optimized", "exif-", "odd-size", "tiny"];

/// Largest and mean difference to PIL that a picture may have.
fn tolerance(name: &str) -> (u8, f64) {
    if !name.ends_with(".jpg") {
        // Lossless, and lossy WebP, whose decoding is specified to the bit.
        (0, 0.0)
    } else if SUBSAMPLED.iter().any(|start| name.starts_with(start)) {
        (6, 0.5)
    } else {
        // The inverse DCT rounds differently.
        (3, 0.05)
    }
}

#[test]
fn every_picture_is_as_in_pil() {
    let mut seen = 0;
    for entry in fs::read_dir(folder("data")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let decoded = decode(&read(&name), MAX_PIXELS).unwrap();
        let (max, mean) = difference(&decoded, &golden(&name));
        println!("{name}: max {max}, mean {mean:.4}");
        let (max_allowed, mean_allowed) = tolerance(&name);
        assert!(max <= max_allowed, "{name}: {max} away from PIL");
        assert!(
            mean <= mean_allowed,
            "{name}: {mean} away from PIL in the mean"
        );
        seen += 1;
    }
    assert_eq!(seen, 42);
}

#[test]
fn headers_are_upright() {
    let header = probe(&read("exif-orientation-6.jpg"), MAX_PIXELS).unwrap();
    assert_eq!((header.width, header.height), (300, 451));
    assert_eq!(
        (header.format, header.orientation),
        (Format::Jpeg, Orientation::Turn90)
    );
    let header = probe(&read("orientation-8.webp"), MAX_PIXELS).unwrap();
    assert_eq!((header.width, header.height), (47, 71));
    assert_eq!(
        (header.format, header.orientation),
        (Format::WebP, Orientation::Turn270)
    );
    let header = probe(&read("orientation-6.png"), MAX_PIXELS).unwrap();
    assert_eq!((header.width, header.height), (47, 71));
    assert_eq!(
        (header.format, header.orientation),
        (Format::Png, Orientation::Turn90)
    );
    for (name, size) in [("lossy-alpha.webp", (71, 47)), ("animated.webp", (71, 47))] {
        let header = probe(&read(name), MAX_PIXELS).unwrap();
        assert_eq!((header.width, header.height), size, "{name}");
    }
}

#[test]
fn what_follows_the_picture_is_ignored() {
    for name in ["420.jpg", "420-progressive.jpg", "rgb16.png", "photo.webp"] {
        let mut bytes = read(name);
        let expected = decode(&bytes, MAX_PIXELS).unwrap();
        let again = bytes.clone();
        bytes.extend(again);
        bytes.extend([0; 100]);
        assert_eq!(decode(&bytes, MAX_PIXELS).unwrap(), expected, "{name}");
    }
}

#[test]
fn baseline_needs_its_data_but_not_its_end_marker() {
    for name in [
        "420.jpg",
        "444.jpg",
        "420-restarts.jpg",
        "cmyk.jpg",
        "grayscale.jpg",
    ] {
        let bytes = read(name);
        let expected = decode(&bytes, MAX_PIXELS).unwrap();
        let data = bytes.len() - 2;
        assert_eq!(
            decode(&bytes[..data], MAX_PIXELS).unwrap(),
            expected,
            "{name}"
        );
        let error = decode(&bytes[..data - 2], MAX_PIXELS).unwrap_err();
        assert!(
            error.to_string().starts_with("a truncated JPEG"),
            "{name}: {error}"
        );
        // With an end marker after the cut, the loss is still seen.
        let cut = [&bytes[..data - 10], &[0xff, 0xd9]].concat();
        assert!(
            matches!(decode(&cut, MAX_PIXELS), Err(ImageError::Bad(_))),
            "{name}"
        );
    }
}
