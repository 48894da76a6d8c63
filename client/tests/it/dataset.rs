//! The index of a folder.

use std::sync::Mutex;

use image::ImageFormat;
use preheat_client::{BadSamples, Dataset, plan::Size};

use crate::photos::{Photos, encode, exif, png, with_segment};

fn refused(root: &std::path::Path) -> String {
    let opened = Dataset::open(root, BadSamples::Fail, &|_| {});
    opened.unwrap_err().to_string()
}

#[test]
fn nothing_to_index_is_an_error() {
    let photos = Photos::new(0);
    photos.write("notes.txt", b"no image");
    assert!(refused(photos.root()).contains("has no images"));
    assert!(refused(&photos.root().join("nowhere")).contains("No such file"));
    assert!(refused(&photos.root().join("notes.txt")).contains("is not a folder"));
}

#[test]
fn keys_are_sorted_by_bytes() {
    let photos = Photos::new(0);
    for key in [
        "b.PNG",
        "a/z.png",
        "a.png",
        "B.jpeg",
        "a/b/c.png",
        "skip.gif",
    ] {
        photos.write(key, &png(1, 8, 8));
    }
    let dataset = photos.index(BadSamples::Fail);
    let keys: Vec<_> = (0..dataset.len())
        .map(|id| dataset.key(id).to_owned())
        .collect();
    assert_eq!(keys, ["B.jpeg", "a.png", "a/b/c.png", "a/z.png", "b.PNG"]);
}

#[test]
fn sizes_come_from_headers() {
    let photos = Photos::new(0);
    let size = Size::new(40, 24);
    let jpeg = encode(1, size, ImageFormat::Jpeg);
    photos.write("0.jpg", &jpeg);
    photos.write("1.png", &encode(1, size, ImageFormat::Png));
    photos.write("2.webp", &encode(1, size, ImageFormat::WebP));
    photos.write("3.jpg", &with_segment(&jpeg, 0xe1, &exif(6)));
    photos.write("4.jpg", &with_segment(&jpeg, 0xe1, &exif(3)));
    // The name says PNG; the content decides.
    photos.write("5.png", &jpeg);
    // More than the first read before the size: orientation first, then 240 KB of comments.
    let mut late = jpeg;
    for _ in 0..4 {
        late = with_segment(&late, 0xfe, &[b'x'; 60_000]);
    }
    photos.write("6.jpg", &with_segment(&late, 0xe1, &exif(8)));
    let dataset = photos.index(BadSamples::Fail);
    let sizes: Vec<_> = dataset
        .sizes()
        .map(|size| size.unwrap().to_string())
        .collect();
    assert_eq!(sizes.join(" "), "40x24 40x24 40x24 24x40 40x24 40x24 24x40");
}

#[test]
fn the_fingerprint_notices_every_change() {
    let photos = Photos::new(5);
    let fingerprint = || photos.index(BadSamples::Fail).fingerprint().to_owned();
    let before = fingerprint();
    assert_eq!(before, fingerprint());
    assert_eq!(before.len(), 64);
    let old = photos.write("000.png", &png(0, 41, 30));
    let resized = fingerprint();
    std::fs::rename(old, photos.root().join("0000.png")).unwrap();
    let renamed = fingerprint();
    std::fs::remove_file(photos.root().join("004.png")).unwrap();
    let removed = fingerprint();
    let all = [&before, &resized, &renamed, &removed];
    let different: std::collections::BTreeSet<_> = all.into_iter().collect();
    assert_eq!(different.len(), 4);
}

#[test]
fn progress_reaches_the_end() {
    let photos = Photos::new(200);
    let seen = Mutex::new(Vec::new());
    Dataset::open(photos.root(), BadSamples::Fail, &|progress| {
        seen.lock().unwrap().push(progress.done);
        assert_eq!(progress.total, 200);
    })
    .unwrap();
    assert_eq!(seen.into_inner().unwrap().into_iter().max(), Some(200));
}
