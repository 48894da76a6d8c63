//! Shards that other packages wrote (`tests/formats/make_shards.py`): every sample, every caption.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use image::ImageReader;
use preheat_client::dataset::{Format, Found, Located, Sample, Shard, Store, StoreOptions};
use serde::Deserialize;

use crate::objects::{Fault, Server};

#[derive(Deserialize)]
struct Expected {
    key: String,
    /// A file in `images`.
    image: String,
    parts: BTreeMap<String, String>,
}

/// Which format each dataset is found to be.
const DATASETS: [(&str, &str); 9] = [
    ("webdataset", "tar"),
    ("mds", "mds"),
    ("mds-jpeg", "mds"),
    ("mds-pil", "mds"),
    ("mds-zstd", "mds"),
    ("datasets", "parquet"),
    ("parquet-paged", "parquet"),
    ("parquet-dictionary", "parquet"),
    ("parquet-plain", "parquet"),
];

pub(crate) fn formats() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/formats")
}

fn expected(name: &str) -> Vec<Expected> {
    let text = fs::read_to_string(formats().join("expected.json")).unwrap();
    let mut all: BTreeMap<String, Vec<Expected>> = serde_json::from_str(&text).unwrap();
    all.remove(name).unwrap()
}

/// A local store.
pub(crate) fn local(path: &Path) -> Store {
    Store::open(path.to_str().unwrap(), &StoreOptions::default()).unwrap()
}

/// All samples of all shards.
pub(crate) async fn scan(format: &Format, store: &Store) -> Vec<(Shard, Found)> {
    let mut all = Vec::new();
    for shard in format.shards(store).await.unwrap() {
        let found = format.scan(store, &shard).await.unwrap();
        all.extend(found.into_iter().map(|found| (shard.clone(), found)));
    }
    all
}

pub(crate) async fn read(
    format: &Format,
    store: &Store,
    shard: &Shard,
    found: &Found,
) -> Result<Sample, String> {
    let parts = found.parts.iter();
    let parts: Vec<_> = parts
        .map(|part| (Arc::from(part.name.as_str()), part.span))
        .collect();
    let located = Located {
        key: &found.key,
        image: found.image,
        parts: &parts,
    };
    format.read(store, shard, &located).await
}

/// Reads every sample of a dataset, the last ones first, and compares all there is.
async fn compare(name: &str, kind: &str, store: &Store) {
    let format = Format::detect(store).await.unwrap();
    assert_eq!(format.name(), kind, "{name}");
    let (all, expected) = (scan(&format, store).await, expected(name));
    let keys: Vec<_> = all.iter().map(|(_, found)| found.key.as_str()).collect();
    let wanted: Vec<_> = expected.iter().map(|sample| sample.key.as_str()).collect();
    assert_eq!(keys, wanted, "{name}");
    for ((shard, found), expected) in all.iter().zip(&expected).rev() {
        let what = format!("{name}: {}", found.key);
        let sample = read(&format, store, shard, found).await.expect(&what);
        let image = fs::read(formats().join("images").join(&expected.image)).unwrap();
        if name == "mds-pil" {
            same_pixels(&sample.image, &image, found);
        } else {
            assert!(sample.image == image, "{what}");
            assert_eq!(found.image.bytes as usize, image.len(), "{what}");
            let size = header(&image);
            assert_eq!(found.size.as_ref().unwrap().to_string(), size, "{what}");
        }
        let parts = sample.parts.iter().map(|(name, bytes)| {
            let text = std::str::from_utf8(bytes).unwrap();
            (name.to_string(), text.to_owned())
        });
        assert_eq!(parts.collect::<BTreeMap<_, _>>(), expected.parts, "{what}");
    }
}

/// Width and height, turned as the second image's EXIF block says.
fn header(image: &[u8]) -> String {
    use image::{ImageDecoder, metadata::Orientation};
    let reader = ImageReader::new(std::io::Cursor::new(image));
    let mut decoder = reader
        .with_guessed_format()
        .unwrap()
        .into_decoder()
        .unwrap();
    let (width, height) = decoder.dimensions();
    match decoder.orientation().unwrap() {
        Orientation::Rotate90 => format!("{height}x{width}"),
        _ => format!("{width}x{height}"),
    }
}

/// Of lossless files; other decoders may round differently.
fn same_pixels(got: &[u8], original: &[u8], found: &Found) {
    let got = image::load_from_memory(got).unwrap().to_rgb8();
    let size = format!("{}x{}", got.width(), got.height());
    assert_eq!(found.size.as_ref().unwrap().to_string(), size);
    let stored = 12 + 3 + 3 * got.width() * got.height();
    assert_eq!(found.image.bytes, stored);
    if original.starts_with(b"\x89PNG") {
        assert_eq!(got, image::load_from_memory(original).unwrap().to_rgb8());
    }
}

pub(crate) fn has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "no `{part}` in: {text}");
    }
}

#[tokio::test]
async fn what_other_packages_write_is_read_from_disk() {
    for (name, kind) in DATASETS {
        compare(name, kind, &local(&formats().join(name))).await;
    }
}

/// A bucket with all datasets in it.
pub(crate) fn bucket() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for (name, _) in DATASETS {
        copy(
            &formats().join(name),
            &root.path().join("bucket").join(name),
        );
    }
    root
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[tokio::test]
async fn what_other_packages_write_is_read_from_s3() {
    let root = bucket();
    let server = Server::s3(root.path(), |_| Fault::None);
    for (name, kind) in DATASETS {
        compare(name, kind, &server.open(&format!("s3://bucket/{name}"))).await;
    }
}

/// Three of eight requests meet a fault: all kinds in turn, and rarely the slow one.
fn troubled(request: u64) -> Fault {
    match request % 16 {
        1 => Fault::Status500,
        4 => Fault::SlowDown,
        7 | 8 => Fault::Reset,
        10 | 13 => Fault::Truncated,
        15 if request % 64 == 63 => Fault::Stalled,
        _ => Fault::None,
    }
}

#[tokio::test]
async fn a_store_in_trouble_is_read_exactly() {
    let root = bucket();
    let server = Server::s3(root.path(), troubled);
    for (name, kind) in DATASETS {
        compare(name, kind, &server.open(&format!("s3://bucket/{name}"))).await;
    }
    let faults = server.faults.load(std::sync::atomic::Ordering::Relaxed);
    assert!(faults >= 50, "{faults}");
}

#[tokio::test]
async fn http_without_lists_takes_names() {
    let server = Server::http(&formats(), troubled);
    let open = |path: &str| {
        let options = StoreOptions {
            endpoint: None,
            settings: Vec::new(),
            ..server.options("")
        };
        Store::open(&format!("{}/{path}", server.uri()), &options).unwrap()
    };
    compare(
        "webdataset",
        "tar",
        &open("webdataset/shard-{000..002}.tar"),
    )
    .await;
    compare("mds", "mds", &open("mds")).await;
    let pattern = "datasets/train-{00000..00001}-of-00002.parquet";
    compare("datasets", "parquet", &open(pattern)).await;
    compare(
        "parquet-paged",
        "parquet",
        &open("parquet-paged/all.parquet"),
    )
    .await;
    let unlisted = Format::detect(&open("webdataset")).await.unwrap_err();
    assert!(
        unlisted.to_string().contains("cannot be listed"),
        "{unlisted}"
    );
    let missing = Format::Tar
        .shards(&open("webdataset/shard-{000..003}.tar"))
        .await;
    let missing = missing.unwrap_err().to_string();
    assert!(missing.contains("`shard-003.tar`"), "{missing}");
    assert!(missing.contains("is not there"), "{missing}");
}
