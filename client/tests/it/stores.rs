//! Stores: folders here and in a bucket, what changes under the reader, and who may not read.

use std::{fs, path::Path, time::Duration};

use preheat_client::{
    BadSamples, Dataset, Source,
    dataset::{Format, Shard, Store, StoreOptions},
};

use crate::{
    formats::{bucket, has, local, read, scan},
    objects::{Fault, Server},
    photos::{Photos, png},
};

/// Photos in directories, with texts beside some, and what is no sample.
fn tree(root: &Path) {
    let write = |path: &str, bytes: &[u8]| {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    };
    for at in 0..20_u8 {
        let name = format!("{}/photo {at}%.png", ["a", "a/b", "z"][usize::from(at % 3)]);
        write(&name, &png(at, 20 + u32::from(at), 10));
        if at % 2 == 0 {
            write(
                &name.replace(".png", ".txt"),
                format!("photo {at}").as_bytes(),
            );
            write(&name.replace(".png", ".json"), b"{}");
        }
    }
    write("top.jpeg", b"no image");
    write("top.caption", "größe".as_bytes());
    write("notes.txt", b"of nothing");
    write(".cache/hidden.png", b"");
}

async fn folder(store: &Store) -> Vec<(String, String, Vec<String>)> {
    let format = Format::detect(store).await.unwrap();
    assert_eq!(format.name(), "folder");
    let mut all = Vec::new();
    for (shard, found) in scan(&format, store).await {
        let size = match &found.size {
            Ok(size) => size.to_string(),
            Err(reason) => reason.clone(),
        };
        let mut parts = Vec::new();
        if found.size.is_ok() {
            let sample = read(&format, store, &shard, &found).await.unwrap();
            assert_eq!(sample.image.len(), found.image.bytes as usize);
            parts = sample
                .parts
                .iter()
                .map(|(name, bytes)| format!("{name}={}", String::from_utf8_lossy(bytes)))
                .collect();
        }
        all.push((found.key, size, parts));
    }
    all
}

#[tokio::test]
async fn a_folder_is_the_same_in_a_bucket() {
    let root = tempfile::tempdir().unwrap();
    let photos = root.path().join("bucket/deep/photos");
    tree(&photos);
    let here = folder(&local(&photos)).await;
    let server = Server::s3(root.path(), |request| match request % 9 {
        3 => Fault::Reset,
        5 => Fault::Truncated,
        _ => Fault::None,
    });
    let there = folder(&server.open("s3://bucket/deep/photos/")).await;
    assert_eq!(here, there);
    assert_eq!(here.len(), 21);
    assert_eq!(here[0].1, "not a JPEG, PNG or WebP image");
    let even = here
        .iter()
        .find(|(key, _, _)| key.ends_with("photo 6%.png"));
    let (_, size, parts) = even.unwrap();
    assert_eq!(size, "26x10");
    assert_eq!(parts.join(" "), "json={} txt=photo 6");
    // The same samples and sizes as the index of a folder has.
    let source = Source {
        index: Some(root.path().join("index")),
        ..Source::new(&photos)
    };
    let dataset = Dataset::open(source, BadSamples::Substitute, &|_| {}).unwrap();
    for (key, size, _) in &here {
        let mut ids = (0..dataset.len()).filter(|&id| dataset.key(id) == **key);
        let known = dataset.size(ids.next().unwrap());
        let known = known.map_or("not a JPEG, PNG or WebP image".into(), |size| {
            size.to_string()
        });
        assert_eq!(*size, known, "{key}");
    }
}

#[tokio::test]
async fn what_was_replaced_is_noticed() {
    let root = bucket();
    let server = Server::s3(root.path(), |_| Fault::None);
    let path = root.path().join("bucket/webdataset/shard-001.tar");
    let before = fs::read(&path).unwrap();
    for store in [
        local(path.parent().unwrap()),
        server.open("s3://bucket/webdataset"),
    ] {
        let all = scan(&Format::Tar, &store).await;
        let (shard, found) = &all[4];
        assert_eq!(shard.path, "shard-001.tar");
        read(&Format::Tar, &store, shard, found).await.unwrap();
        // As long as it was, but another one; and not within the clock's last tick.
        let mut other = before.clone();
        other[600] ^= 1;
        fs::write(&path, &other).unwrap();
        let later = fs::metadata(&path).unwrap().modified().unwrap() + Duration::from_secs(5);
        fs::File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_modified(later)
            .unwrap();
        let reason = read(&Format::Tar, &store, shard, found).await.unwrap_err();
        has(
            &reason,
            &[
                "`shard-001.tar`",
                "was replaced since it was indexed",
                "index the dataset",
            ],
        );
        has(
            &Format::Tar.scan(&store, shard).await.unwrap_err(),
            &["was replaced"],
        );
        fs::write(&path, &before[..before.len() - 512]).unwrap();
        let reason = read(&Format::Tar, &store, shard, found).await.unwrap_err();
        has(
            &reason,
            &[
                "was replaced since it was indexed: 40960 bytes",
                "40448 bytes",
            ],
        );
        fs::remove_file(&path).unwrap();
        let reason = read(&Format::Tar, &store, shard, found).await.unwrap_err();
        has(&reason, &["`shard-001.tar`", "is not there"]);
        fs::write(&path, &before).unwrap();
    }
    let photos = Photos::new(2);
    let store = local(photos.root());
    let all = scan(&Format::Folder, &store).await;
    photos.write("000.png", &png(0, 50, 50));
    let reason = read(&Format::Folder, &store, &all[0].0, &all[0].1)
        .await
        .unwrap_err();
    has(&reason, &["`000.png`", "was replaced"]);
    let reason = Format::Folder.scan(&store, &all[0].0).await.unwrap_err();
    has(&reason, &["changed while it was indexed"]);
}

#[tokio::test]
async fn who_may_not_read_is_told_so() {
    let root = bucket();
    let server = Server::s3(root.path(), |_| Fault::None);
    let wrong = Store::open("s3://bucket/mds", &server.options("wrong")).unwrap();
    let reason = wrong.list().await.unwrap_err().to_string();
    has(
        &reason,
        &[
            "s3://bucket/mds",
            "is denied (403)",
            "AWS_SECRET_ACCESS_KEY",
        ],
    );
    let missing = server.open("s3://nowhere/mds").list().await.unwrap_err();
    has(
        &missing.to_string(),
        &["nothing at s3://nowhere/mds", "correct the bucket"],
    );

    // Listing is allowed and reading is not.
    let server = Server::s3(root.path(), |request| match request {
        0 => Fault::None,
        _ => Fault::Denied,
    });
    let store = server.open("s3://bucket/webdataset");
    let shards = Format::Tar.shards(&store).await.unwrap();
    let reason = Format::Tar.scan(&store, &shards[0]).await.unwrap_err();
    has(
        &reason,
        &[
            "`shard-000.tar` of s3://bucket/webdataset",
            "is denied (403)",
        ],
    );
}

#[tokio::test]
async fn a_store_that_stays_broken_is_an_error_in_time() {
    let root = bucket();
    let faults: [fn(u64) -> Fault; 4] = [
        |_| Fault::SlowDown,
        |_| Fault::Reset,
        |_| Fault::Truncated,
        |_| Fault::Stalled,
    ];
    for schedule in faults {
        let server = Server::s3(root.path(), schedule);
        let options = StoreOptions {
            retry_for: Duration::from_millis(200),
            request_timeout: Duration::from_millis(200),
            ..server.options("secret")
        };
        let store = Store::open("s3://bucket/mds", &options).unwrap();
        let shard = Shard {
            path: "shard.00000.mds".into(),
            bytes: fs::metadata(root.path().join("bucket/mds/shard.00000.mds"))
                .unwrap()
                .len(),
            etag: None,
            modified_ms: 0,
        };
        let reason = store.range(&shard, 0..100).await.unwrap_err();
        has(&reason, &["`shard.00000.mds` of s3://bucket/mds"]);
    }
    let closed = Server::s3(root.path(), |_| Fault::None);
    let options = StoreOptions {
        retry_for: Duration::from_millis(200),
        ..closed.options("secret")
    };
    drop(closed);
    let store = Store::open("s3://bucket/mds", &options).unwrap();
    let reason = store.list().await.unwrap_err().to_string();
    has(&reason, &["s3://bucket/mds", "in trouble"]);
}

#[tokio::test]
async fn neighbours_are_read_with_one_request() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("bucket")).unwrap();
    let bytes: Vec<u8> = (0..12_000_000_u32).map(|at| (at / 251) as u8).collect();
    fs::write(root.path().join("bucket/large"), &bytes).unwrap();
    let server = Server::s3(root.path(), |_| Fault::None);
    let store = server.open("s3://bucket");
    let object = store.head("large").await.unwrap();
    let count = || server.requests.load(std::sync::atomic::Ordering::Relaxed);
    let cases: [(&[std::ops::Range<u64>], u64); 5] = [
        (&[0..10, 100..200, 50..60, 0..10], 1),
        (&[0..10, 250_000..250_010], 1),
        (&[0..10, 300_000..300_010], 2),
        (&[11_999_990..12_000_000, 0..12_000_000, 5..6], 1),
        (&[0..5_000_000, 5_000_000..10_000_000], 2),
    ];
    for (ranges, requests) in cases {
        let before = count();
        let read = store.ranges(&object, ranges).await.unwrap();
        for (range, got) in ranges.iter().zip(read) {
            assert!(
                got == bytes[range.start as usize..range.end as usize],
                "{range:?}"
            );
        }
        assert_eq!(count() - before, requests, "{ranges:?}");
    }
    let past = store
        .range(&object, 11_999_999..12_000_001)
        .await
        .unwrap_err();
    has(
        &past,
        &[
            "`large`",
            "has 12000000 bytes, too few for 11999999..12000001",
        ],
    );
}

#[test]
fn what_is_no_store_is_named() {
    let refused = |uri: &str| {
        let opened = Store::open(uri, &StoreOptions::default());
        opened.unwrap_err().to_string()
    };
    has(
        &refused("/nowhere/at/all"),
        &["/nowhere/at/all", "No such file"],
    );
    has(
        &refused("ftp://host/photos"),
        &["is not a path, file://, s3://"],
    );
    has(
        &refused("s3://bucket/{0..x}.tar"),
        &["`{0..x}` is neither a range"],
    );
    let options = StoreOptions {
        settings: vec![("aws_regoin".into(), "x".into())],
        ..StoreOptions::default()
    };
    let unknown = Store::open("s3://bucket/photos", &options).unwrap_err();
    has(&unknown.to_string(), &["no setting `aws_regoin`"]);
}
