//! Bytes that must be refused, and what the refusal says.

use preheat_models::image::{ImageError, decode, probe};

use super::{MAX_PIXELS, read};

fn bad(bytes: &[u8], part: &str) {
    match decode(bytes, MAX_PIXELS) {
        Err(ImageError::Bad(text)) => assert!(text.contains(part), "{text:?} without {part:?}"),
        other => panic!("{other:?} instead of {part:?}"),
    }
}

fn unsupported(bytes: &[u8], part: &str) {
    match decode(bytes, MAX_PIXELS) {
        Err(ImageError::Unsupported(text)) => {
            assert!(text.contains(part), "{text:?} without {part:?}");
        }
        other => panic!("{other:?} instead of {part:?}"),
    }
}

/// Where the frame header's data (precision, height, width, ...) start.
fn frame(jpeg: &[u8]) -> usize {
    let at = jpeg
        .windows(2)
        .position(|pair| matches!(pair, [0xff, 0xc0 | 0xc2]));
    at.expect("a frame header") + 4
}

/// A JPEG that declares another size.
fn claims(name: &str, width: u16, height: u16) -> Vec<u8> {
    let mut bytes = read(name);
    let at = frame(&bytes);
    bytes[at + 1..at + 3].copy_from_slice(&height.to_be_bytes());
    bytes[at + 3..at + 5].copy_from_slice(&width.to_be_bytes());
    bytes
}

#[test]
fn no_picture_at_all() {
    bad(b"", "the file is empty");
    bad(
        b"hello",
        "neither JPEG, PNG nor WebP: it starts with [68, 65, 6c, 6c]",
    );
    unsupported(b"GIF89a and so on", "looks like GIF");
    unsupported(b"BM1234", "looks like BMP");
    unsupported(b"II*\0....", "looks like TIFF");
    unsupported(b"\0\0\0\x20ftypheic", "looks like HEIF");
    bad(b"\xff\xd8", "ends within its header");
    bad(b"\x89PNG\r\n\x1a\n", "ends within its header");
    bad(b"RIFF\x10\0\0\0WEBP", "ends within its header");
}

#[test]
fn sizes_above_the_limit_come_first() {
    let bytes = claims("odd-size-301x199.jpg", 65_500, 65_500);
    let expected = ImageError::TooLarge {
        width: 65_500,
        height: 65_500,
        limit: 64 << 20,
    };
    assert_eq!(probe(&bytes, 64 << 20), Err(expected.clone()));
    assert_eq!(decode(&bytes, 64 << 20), Err(expected));
    for name in [
        "rgb16.png",
        "photo.webp",
        "animated.webp",
        "lossless.webp",
        "444.jpg",
    ] {
        let bytes = read(name);
        let header = probe(&bytes, MAX_PIXELS).unwrap();
        let pixels = u64::from(header.width) * u64::from(header.height);
        decode(&bytes, pixels).unwrap();
        let error = decode(&bytes, pixels - 1).unwrap_err();
        assert!(
            matches!(error, ImageError::TooLarge { .. }),
            "{name}: {error}"
        );
    }
    // Over the limit of a side, though not of the area; the checksum is not looked at yet.
    let mut png = read("rgb16.png");
    png[16..20].copy_from_slice(&100_000_u32.to_be_bytes());
    png[20..24].copy_from_slice(&1_u32.to_be_bytes());
    unsupported(&png, "a side may have 65535");
}

#[test]
fn sizes_that_the_bytes_cannot_fill() {
    bad(
        &claims("tiny-7x5.jpg", 2000, 2000),
        "a JPEG that declares 2000x2000 pixels in 686 bytes",
    );
    bad(&claims("444.jpg", 71, 0), "declares 71x0 pixels");
    bad(&claims("444.jpg", 71, 400), "a damaged JPEG");
    bad(&claims("420-progressive.jpg", 500, 500), "a damaged JPEG");
}

#[test]
fn truncated_anywhere() {
    for name in [
        "420.jpg",
        "444.jpg",
        "grayscale.jpg",
        "cmyk.jpg",
        "progressive-444.jpg",
    ] {
        let bytes = read(name);
        for tenth in 1..10 {
            let error = decode(&bytes[..bytes.len() * tenth / 10], MAX_PIXELS).unwrap_err();
            let text = error.to_string();
            assert!(
                text.starts_with("a truncated JPEG") || text.contains("ends"),
                "{text}"
            );
        }
    }
    for name in ["alpha.png", "palette.png", "photo.webp", "lossless.webp"] {
        let bytes = read(name);
        for tenth in 1..10 {
            let cut = &bytes[..bytes.len() * tenth / 10];
            assert!(
                matches!(decode(cut, MAX_PIXELS), Err(ImageError::Bad(_))),
                "{name}"
            );
        }
    }
    let bytes = read("progressive-444.jpg");
    bad(
        &bytes[..bytes.len() - 2],
        "progressive, and without its end marker",
    );
}

#[test]
fn kinds_of_jpeg_that_are_not_decoded() {
    let with = |at: usize, value: u8| {
        let mut bytes = read("444.jpg");
        let frame = frame(&bytes);
        bytes[frame + at - 3] = value;
        bytes
    };
    unsupported(&with(0, 0xc3), "a lossless or hierarchical JPEG");
    unsupported(&with(0, 0xc9), "an arithmetic-coded or lossless JPEG");
    unsupported(&with(3, 12), "a 12-bit JPEG");
    unsupported(&with(8, 2), "a 2-component JPEG");
}

#[test]
fn more_scans_than_anyone_needs() {
    let bytes = read("420-progressive.jpg");
    let scan = bytes
        .windows(2)
        .rposition(|pair| pair == [0xff, 0xda])
        .unwrap();
    let end = bytes.len() - 2;
    let many = [&bytes[..end], &bytes[scan..end].repeat(100), &bytes[end..]].concat();
    unsupported(&many, "scans; up to 64 are decoded");
}

#[test]
fn components_that_never_come() {
    let bytes = read("444.jpg");
    let scan = bytes
        .windows(2)
        .rposition(|pair| pair == [0xff, 0xda])
        .unwrap();
    // A scan of the first component only, over the data of all.
    let header = [
        0xff,
        0xda,
        0,
        8,
        1,
        bytes[scan + 5],
        bytes[scan + 6],
        0,
        63,
        0,
    ];
    let one = [&bytes[..scan], &header, &bytes[scan + 14..]].concat();
    bad(&one, "a truncated JPEG: 1 of 3 components are there");
}

#[test]
fn a_small_canvas_with_a_large_frame_in_it() {
    let mut bytes = read("lossy-alpha.webp");
    let vp8 = bytes.windows(4).position(|name| name == b"VP8 ").unwrap();
    bytes[vp8 + 14..vp8 + 18].copy_from_slice(&[0xff, 0x3f, 0xff, 0x3f]);
    bad(
        &bytes,
        "a WebP of 71x47 pixels with a frame of 16383x16383 in it",
    );
}
