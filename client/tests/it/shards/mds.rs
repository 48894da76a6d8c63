//! Mosaic shards that are wrong.

use std::{fs, path::Path};

use preheat_client::dataset::{Format, Shard, Store};
use tempfile::TempDir;

use crate::formats::{formats, has, local};

/// A copy of a dataset that other packages wrote.
fn copied(name: &str) -> (TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(formats().join(name)).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), dir.path().join(entry.file_name())).unwrap();
    }
    let store = local(dir.path());
    (dir, store)
}

fn truncate(path: &Path, bytes: u64) {
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.set_len(bytes).unwrap();
}

async fn first_shard(format: &Format, store: &Store) -> Shard {
    format.shards(store).await.unwrap().remove(0)
}

#[tokio::test]
async fn a_truncated_mds_shard_keeps_what_is_whole() {
    let (dir, store) = copied("mds");
    truncate(&dir.path().join("shard.00000.mds"), 2500);
    let format = Format::detect(&store).await.unwrap();
    let found = format
        .scan(&store, &first_shard(&format, &store).await)
        .await
        .unwrap();
    let (good, bad): (Vec<_>, Vec<_>) = found.iter().partition(|found| found.size.is_ok());
    assert!(!good.is_empty() && !bad.is_empty());
    for bad in bad {
        has(
            bad.size.as_ref().unwrap_err(),
            &["`shard.00000.mds`", "is truncated: has 2500 bytes"],
        );
    }

    let (dir, store) = copied("mds-zstd");
    truncate(&dir.path().join("shard.00000.mds.zstd"), 900);
    let format = Format::detect(&store).await.unwrap();
    let shard = first_shard(&format, &store).await;
    has(
        &format.scan(&store, &shard).await.unwrap_err(),
        &["shard.00000.mds.zstd", "is truncated"],
    );

    let (dir, store) = copied("mds");
    fs::remove_file(dir.path().join("shard.00001.mds")).unwrap();
    let missing = Format::detect(&store).await.unwrap().shards(&store).await;
    has(
        &missing.unwrap_err().to_string(),
        &["`shard.00001.mds` is not there", "upload it"],
    );

    let (dir, store) = copied("mds");
    fs::copy(
        dir.path().join("shard.00001.mds"),
        dir.path().join("shard.00000.mds"),
    )
    .unwrap();
    let format = Format::detect(&store).await.unwrap();
    let other = format
        .scan(&store, &first_shard(&format, &store).await)
        .await;
    has(&other.unwrap_err(), &["samples, but index.json says"]);

    let (dir, store) = copied("mds");
    fs::write(
        dir.path().join("index.json"),
        b"{\"version\": 1, \"shards\": []}",
    )
    .unwrap();
    let old = Format::detect(&store).await.unwrap().shards(&store).await;
    has(&old.unwrap_err().to_string(), &["is of version 1"]);
}
