//! The index of a folder.

use std::sync::Mutex;

use image::ImageFormat;
use preheat_client::{
    BadSamples, Check, DataLoader, Dataset, Source,
    dataset::{Columns, Format, Index, Sample},
    plan::Size,
};

use crate::{
    formats::formats,
    photos::{Photos, encode, exif, png, with_segment},
    stub::Stub,
};

/// What is said of this path below the photos.
fn refused(photos: &Photos, path: &str) -> String {
    let mut source = photos.source();
    source.uri = photos.root().join(path);
    let opened = Dataset::open(source, BadSamples::Fail, &|_| {});
    opened.unwrap_err().to_string()
}

fn read(dataset: &Dataset, id: u64) -> Result<Sample, String> {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build().unwrap();
    runtime.block_on(dataset.read(id))
}

/// Shards that were scanned, and how many there are.
fn scanned(source: Source) -> (Dataset, u64, u64) {
    let seen = Mutex::new(Vec::new());
    let dataset = Dataset::open(source, BadSamples::Fail, &|progress| {
        seen.lock().unwrap().push((progress.done, progress.total));
    })
    .unwrap();
    let seen = seen.into_inner().unwrap();
    let total = seen.last().map_or(0, |last| last.1);
    let before = seen.first().map_or(0, |first| first.0);
    (dataset, total - before, total)
}

#[test]
fn nothing_to_index_is_an_error() {
    let photos = Photos::new(0);
    photos.write("notes.txt", b"no image");
    assert!(refused(&photos, "").contains("has no images"));
    assert!(refused(&photos, "nowhere").contains("No such file"));
    assert!(refused(&photos, "notes.txt").contains("is not a folder"));
}

#[test]
fn keys_are_sorted_by_bytes_folder_by_folder() {
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
        .map(|id| dataset.key(id).into_owned())
        .collect();
    assert_eq!(keys, ["B.jpeg", "a.png", "b.PNG", "a/z.png", "a/b/c.png"]);
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

/// Photos in three folders of `count` each.
fn albums(count: usize) -> Photos {
    let photos = Photos::new(0);
    for at in 0..3 * count {
        let key = format!("{}/{at}.png", ["a", "b", "c"][at % 3]);
        photos.write(&key, &png(at as u8, 8 + at as u32, 16));
    }
    photos
}

#[test]
fn progress_reaches_the_end() {
    let photos = albums(7);
    let seen = Mutex::new(Vec::new());
    Dataset::open(photos.source(), BadSamples::Fail, &|progress| {
        seen.lock().unwrap().push(progress);
    })
    .unwrap();
    let seen = seen.into_inner().unwrap();
    let (first, last) = (seen.first().unwrap(), seen.last().unwrap());
    assert_eq!((first.done, first.total, first.samples), (0, 3, 0));
    assert_eq!((last.done, last.total, last.samples), (3, 3, 21));
}

#[test]
fn only_what_changed_is_scanned_again() {
    let photos = albums(2);
    let (first, scans, _) = scanned(photos.source());
    assert_eq!((scans, first.len()), (3, 6));
    assert_eq!(scanned(photos.source()).1, 0);
    photos.write("b/new.png", &png(9, 33, 44));
    let (second, scans, total) = scanned(photos.source());
    assert_eq!((scans, total, second.len()), (1, 3, 7));
    assert_ne!(first.fingerprint(), second.fingerprint());
    std::fs::remove_dir_all(photos.root().join("a")).unwrap();
    std::fs::remove_file(photos.root().join("b/new.png")).unwrap();
    let (third, scans, total) = scanned(photos.source());
    assert_eq!((scans, total, third.len()), (1, 2, 4));
    // As if it had been made at once.
    let fresh = Source {
        index: Some(photos.beside.path().join("fresh")),
        ..photos.source()
    };
    assert_eq!(scanned(fresh).0.fingerprint(), third.fingerprint());
    // What was opened before is as it was.
    assert_eq!((first.len(), &*first.key(0)), (6, "a/0.png"));
}

#[test]
fn unchecked_indexes_are_believed() {
    let photos = albums(2);
    let unchecked = Source {
        check: Check::Never,
        ..photos.source()
    };
    let (first, scans, _) = scanned(unchecked.clone());
    assert_eq!((scans, first.len()), (3, 6));
    photos.write("b/new.png", &png(9, 33, 44));
    assert_eq!(scanned(unchecked).0.len(), 6);
}

#[test]
fn many_open_one_dataset_at_once() {
    let photos = albums(20);
    let opened: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..6)
            .map(|_| scope.spawn(|| scanned(photos.source())))
            .collect();
        threads.into_iter().map(|one| one.join().unwrap()).collect()
    });
    let scans: u64 = opened.iter().map(|(_, scans, _)| scans).sum();
    assert_eq!(scans, 3, "one scans, the others wait for it");
    assert!(opened.iter().all(|(dataset, ..)| dataset.len() == 60));
}

#[test]
fn damaged_indexes_are_made_anew_and_other_files_are_left_alone() {
    let photos = albums(2);
    let (first, ..) = scanned(photos.source());
    let path = photos.source().index.unwrap();
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(photos.beside.path().join("cut"), &whole[..whole.len() - 1]).unwrap();
    std::fs::rename(photos.beside.path().join("cut"), &path).unwrap();
    let (second, scans, _) = scanned(photos.source());
    assert_eq!((scans, second.fingerprint()), (3, first.fingerprint()));

    let mut source = photos.source();
    source.index = Some(photos.write("a/notes.txt", b"mine"));
    let error = Dataset::open(source, BadSamples::Fail, &|_| {}).unwrap_err();
    assert!(error.to_string().contains("is not an index"), "{error}");
    assert_eq!(
        std::fs::read(photos.root().join("a/notes.txt")).unwrap(),
        b"mine"
    );
}

#[test]
fn an_index_without_a_place_is_an_error_that_says_so() {
    let photos = albums(1);
    let mut source = photos.source();
    source.index = Some(photos.write("a/notes.txt", b"mine").join("index"));
    let error = Dataset::open(source, BadSamples::Fail, &|_| {}).unwrap_err();
    let error = error.to_string();
    assert!(
        error.contains("name another place for the index"),
        "{error}"
    );
}

#[test]
fn every_format_comes_through_the_index() {
    for name in ["webdataset", "mds", "mds-zstd", "datasets", "parquet-paged"] {
        let photos = Photos::new(0);
        let mut source = photos.source();
        source.uri = formats().join(name);
        let (dataset, scans, total) = scanned(source.clone());
        assert!(scans == total && total > 0, "{name}");
        assert_eq!(dataset.sources()[0].index().verify(), Ok(()), "{name}");
        let again = scanned(source.clone());
        assert_eq!((again.1, again.0.fingerprint()), (0, dataset.fingerprint()));
        // By the name in the index, without a look at the store.
        source.check = Check::Never;
        let unchecked = scanned(source).0;
        for id in 0..dataset.len() {
            let sample = read(&unchecked, id).unwrap();
            let parts: usize = sample.parts.iter().map(|(_, content)| content.len()).sum();
            assert_eq!(sample.image.len() as u64, dataset.file_bytes(id), "{name}");
            assert!(parts > 0, "{name}: {} has no parts", dataset.key(id));
            let (width, height) = image::load_from_memory(&sample.image)
                .map(|image| (image.width(), image.height()))
                .unwrap();
            let size = dataset.size(id).unwrap();
            let sides = [(width, height), (height, width)];
            assert!(sides.contains(&(size.width, size.height)), "{name} {size}");
        }
        assert_eq!(dataset.path(0), None);
    }
}

#[test]
fn other_columns_are_another_index() {
    let photos = Photos::new(0);
    let mut source = photos.source();
    source.uri = formats().join("datasets");
    let all = scanned(source.clone()).0;
    let none = Columns {
        parts: Some(Vec::new()),
        ..Columns::default()
    };
    source.format = Some(Format::named("parquet").unwrap().with_columns(none));
    source.check = Check::Never;
    let (bare, scans, total) = scanned(source);
    assert_eq!((scans, bare.len()), (total, all.len()));
    assert!(read(&bare, 0).unwrap().parts.is_empty());
    assert!(!read(&all, 0).unwrap().parts.is_empty());
    assert_ne!(bare.fingerprint(), all.fingerprint());
}

#[test]
fn captions_come_out_with_the_batch() {
    let (photos, stub) = (Photos::new(0), Stub::answering());
    for name in ["webdataset", "datasets"] {
        let mut config = photos.config(&stub.uri());
        config.dataset = formats().join(name);
        let mut loader = DataLoader::new(config).unwrap();
        let mut seen = 0;
        while let Some(batch) = loader.next_batch().unwrap() {
            for sample in batch.samples {
                let stored = read(loader.dataset(), sample.id).unwrap();
                assert_eq!(sample.parts, stored.parts, "{}", sample.key);
                seen += u64::from(!sample.padding && !sample.parts.is_empty());
            }
        }
        assert_eq!(seen, loader.dataset().len(), "{name}");
    }
}

#[test]
fn an_index_opens_by_itself() {
    let photos = albums(2);
    let dataset = scanned(photos.source()).0;
    let index = Index::open(&photos.source().index.unwrap()).unwrap();
    assert_eq!((index.len(), index.format()), (6, "folder"));
    assert_eq!(index.fingerprint(), dataset.fingerprint());
    photos.write("a/new.png", &png(9, 33, 44));
    photos.write("d/new.png", &png(9, 33, 44));
    std::fs::remove_dir_all(photos.root().join("b")).unwrap();
    let format = Format::Folder;
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build().unwrap();
    let store = photos.source().open_store().unwrap();
    let now = runtime.block_on(format.shards(&store)).unwrap();
    let changes = index.changes(&now);
    assert_eq!(
        (changes.changed, changes.new, changes.gone),
        (
            vec!["a".to_owned()],
            vec!["d".to_owned()],
            vec!["b".to_owned()],
        )
    );
}
