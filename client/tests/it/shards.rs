//! Shards that are wrong: what is said, and what is saved.

mod mds;

use std::{fs, sync::Arc};

use parquet::{
    data_type::{ByteArray, ByteArrayType},
    file::{properties::WriterProperties, writer::SerializedFileWriter},
    schema::parser::parse_message_type,
};
use preheat_client::dataset::{Columns, Format, Found, Store};
use tar::{Builder, EntryType, Header};
use tempfile::TempDir;

use crate::{
    formats::{has, local, read, scan},
    photos::png,
};

/// A tar in memory.
#[derive(Default)]
pub(crate) struct Tar(Vec<(String, Vec<u8>)>);

impl Tar {
    pub(crate) fn with(mut self, path: &str, bytes: impl AsRef<[u8]>) -> Self {
        self.0.push((path.to_owned(), bytes.as_ref().to_vec()));
        self
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut builder = Builder::new(Vec::new());
        for (path, bytes) in &self.0 {
            let mut header = Header::new_gnu();
            header.set_size(bytes.len() as u64);
            builder
                .append_data(&mut header, path, bytes.as_slice())
                .unwrap();
        }
        builder.into_inner().unwrap()
    }
}

/// A folder with one file in it.
fn folder(name: &str, bytes: &[u8]) -> (TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(name), bytes).unwrap();
    let store = local(dir.path());
    (dir, store)
}

async fn scan_tar(bytes: &[u8]) -> Result<Vec<Found>, String> {
    let (_dir, store) = folder("shard.tar", bytes);
    let shards = Format::Tar.shards(&store).await.unwrap();
    Format::Tar.scan(&store, &shards[0]).await
}

fn keys(found: &[Found]) -> Vec<&str> {
    found.iter().map(|found| found.key.as_str()).collect()
}

fn three() -> Tar {
    ["a", "b", "c"].iter().fold(Tar::default(), |tar, key| {
        let caption = format!("caption of {key}");
        tar.with(&format!("{key}.png"), png(1, 20, 10))
            .with(&format!("{key}.txt"), caption)
    })
}

#[tokio::test]
async fn a_truncated_tar_keeps_what_is_whole() {
    let whole = three().bytes();
    assert_eq!(keys(&scan_tar(&whole).await.unwrap()), ["a", "b", "c"]);
    // Each sample is two headers and two bodies of 512 bytes; the end mark is 1024 more.
    assert_eq!(whole.len(), 3 * 4 * 512 + 1024);
    for cut in (512..whole.len() - 1024 + 511).step_by(100) {
        let found = scan_tar(&whole[..cut]).await.unwrap();
        let (lost, kept) = found.split_last().unwrap();
        let reason = lost.size.as_ref().unwrap_err();
        has(
            reason,
            &[
                "`shard.tar`",
                "truncated or damaged at byte",
                "write the shard again",
            ],
        );
        assert!(kept.iter().all(|found| found.size.is_ok()));
        assert_eq!(keys(kept), ["a", "b", "c"][..kept.len()]);
        // Its caption may be missing, so a sample is whole only when the next one has begun.
        assert!(kept.len() >= (cut.saturating_sub(512)) / 2048, "{cut}");
    }
}

#[tokio::test]
async fn what_a_tar_may_not_hold_is_named() {
    let image = png(1, 8, 8);
    let again = three().with("a.png", &image).bytes();
    has(
        &scan_tar(&again).await.unwrap_err(),
        &["`shard.tar`", "key `a` is there twice"],
    );
    let twice = three().with("c.png", &image).bytes();
    has(
        &scan_tar(&twice).await.unwrap_err(),
        &["`c.png` is there twice, at bytes 4608 and"],
    );
    let texts = Tar::default().with("a.txt", "x").with("b.txt", "y").bytes();
    has(
        &scan_tar(&texts).await.unwrap_err(),
        &["has no images", "2 samples"],
    );
    has(
        &scan_tar(&Tar::default().bytes()).await.unwrap_err(),
        &["none of its 0 samples"],
    );
    has(
        &scan_tar(b"<html>404</html>").await.unwrap_err(),
        &["(16 bytes) is no tar"],
    );
    has(&scan_tar(b"").await.unwrap_err(), &["(0 bytes) is no tar"]);
    let found = scan_tar(&three().with("d.txt", "alone").bytes())
        .await
        .unwrap();
    assert_eq!(keys(&found), ["a", "b", "c", "d"]);
    assert_eq!(found[3].size, Err("has no image, only txt".to_owned()));

    let mut builder = Builder::new(Vec::new());
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::GNUSparse);
    header.set_size(0);
    header.as_gnu_mut().unwrap().realsize = *b"00000000000\0";
    builder.append_data(&mut header, "a.png", &b""[..]).unwrap();
    let sparse = scan_tar(&builder.into_inner().unwrap()).await.unwrap_err();
    has(&sparse, &["`a.png` is a sparse file"]);

    let mut builder = Builder::new(Vec::new());
    let version = [("GNU.sparse.major", b"1".as_slice())];
    builder.append_pax_extensions(version).unwrap();
    let mut header = Header::new_ustar();
    header.set_size(0);
    builder.append_data(&mut header, "a.png", &b""[..]).unwrap();
    let sparse = scan_tar(&builder.into_inner().unwrap()).await.unwrap_err();
    has(&sparse, &["`a.png` is a sparse file"]);

    let mut builder = Builder::new(Vec::new());
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Symlink);
    header.set_size(0);
    builder.append_link(&mut header, "a.png", "b.png").unwrap();
    has(
        &scan_tar(&builder.into_inner().unwrap()).await.unwrap_err(),
        &["is a link"],
    );
}

#[tokio::test]
async fn names_are_those_of_webdataset() {
    let mut builder = Builder::new(Vec::new());
    let image = png(1, 8, 8);
    let mut add = |mut header: Header, path: &str, bytes: &[u8]| {
        header.set_size(bytes.len() as u64);
        header.set_path(path).unwrap();
        header.set_cksum();
        builder.append(&header, bytes).unwrap();
    };
    // In ustar a name of more than 100 bytes is split in two.
    let deep = format!("{}/{}", "d".repeat(90), "n".repeat(60));
    add(Header::new_ustar(), &format!("{deep}.png"), &image);
    add(
        Header::new_ustar(),
        &format!("{deep}.caption.txt"),
        b"two dots",
    );
    add(Header::new_ustar(), "v1.5/photo.JPG", &image);
    add(Header::new_ustar(), "v1.5/._photo.JPG", b"left by a Mac");
    add(Header::new_ustar(), "README", b"no dot");
    add(Header::new_ustar(), "__index__.json", b"{}");
    let mut directory = Header::new_ustar();
    directory.set_entry_type(EntryType::Directory);
    add(directory, "v1.5/", b"");
    let long = "p".repeat(300);
    let path = format!("{long}.png");
    builder
        .append_pax_extensions([("path", path.as_bytes())])
        .unwrap();
    let mut header = Header::new_ustar();
    header.set_size(image.len() as u64);
    header.set_path("short.png").unwrap();
    header.set_cksum();
    builder.append(&header, image.as_slice()).unwrap();

    let found = scan_tar(&builder.into_inner().unwrap()).await.unwrap();
    assert_eq!(keys(&found), [deep.as_str(), "v1.5/photo", long.as_str()]);
    assert!(found.iter().all(|found| found.size.is_ok()), "{found:?}");
    let parts: Vec<_> = found[0].parts.iter().map(|part| &part.name).collect();
    assert_eq!(parts, ["caption.txt"]);
}

#[tokio::test]
async fn captions_are_utf_8_or_named() {
    let tar = three()
        .with("d.png", png(1, 8, 8))
        .with("d.txt", b"caf\xe9");
    let (_dir, store) = folder("shard.tar", &tar.bytes());
    let all = scan(&Format::Tar, &store).await;
    let (shard, last) = &all[3];
    let reason = read(&Format::Tar, &store, shard, last).await.unwrap_err();
    has(
        &reason,
        &["`txt` is not UTF-8 from byte 3 on", "save it as UTF-8"],
    );

    let (dir, store) = folder("d.png", &png(1, 8, 8));
    fs::write(dir.path().join("d.txt"), b"\xff").unwrap();
    let all = scan(&Format::Folder, &store).await;
    let reason = read(&Format::Folder, &store, &all[0].0, &all[0].1).await;
    has(&reason.unwrap_err(), &["`txt` is not UTF-8 from byte 0 on"]);

    let rows = [
        (Some(png(1, 8, 8)), b"good".as_slice()),
        (Some(png(2, 8, 8)), b"\xff"),
    ];
    let (_dir, store) = folder("all.parquet", &parquet(&rows));
    let found = scan(&Format::detect(&store).await.unwrap(), &store).await;
    assert!(found[0].1.size.is_ok());
    has(
        found[1].1.size.as_ref().unwrap_err(),
        &["`caption` is not UTF-8"],
    );
}

/// Rows of an image and a caption; two a row group.
fn parquet(rows: &[(Option<Vec<u8>>, &[u8])]) -> Vec<u8> {
    let schema = "message all { optional binary image; required binary caption (STRING); }";
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let mut bytes = Vec::new();
    let properties = Arc::new(WriterProperties::builder().build());
    let mut writer = SerializedFileWriter::new(&mut bytes, schema, properties).unwrap();
    for rows in rows.chunks(2) {
        let mut group = writer.next_row_group().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        let images = rows.iter().filter_map(|(image, _)| image.clone());
        let images: Vec<_> = images.map(ByteArray::from).collect();
        let levels: Vec<_> = rows
            .iter()
            .map(|(image, _)| i16::from(image.is_some()))
            .collect();
        let typed = column.typed::<ByteArrayType>();
        typed.write_batch(&images, Some(&levels), None).unwrap();
        column.close().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        let captions = rows
            .iter()
            .map(|(_, caption)| ByteArray::from(caption.to_vec()));
        let captions: Vec<_> = captions.collect();
        let typed = column.typed::<ByteArrayType>();
        typed.write_batch(&captions, None, None).unwrap();
        column.close().unwrap();
        group.close().unwrap();
    }
    writer.close().unwrap();
    bytes
}

#[tokio::test]
async fn parquet_says_which_column_and_where() {
    let rows: Vec<_> = (0..5)
        .map(|at| ((at != 3).then(|| png(at, 8, 8)), b"x".as_slice()))
        .collect();
    let bytes = parquet(&rows);
    let (_dir, store) = folder("all.parquet", &bytes);
    let format = Format::detect(&store).await.unwrap();
    let all = scan(&format, &store).await;
    assert_eq!(all.len(), 5);
    assert_eq!(all[3].1.key, "all.parquet#3");
    has(
        all[3].1.size.as_ref().unwrap_err(),
        &["has no image: its value is null"],
    );
    let sample = read(&format, &store, &all[4].0, &all[4].1).await.unwrap();
    assert_eq!(sample.image, png(4, 8, 8));

    let shard = &all[0].0;
    let choose = |image: &str, parts: &[&str]| {
        let columns = Columns {
            image: Some(image.to_owned()),
            parts: Some(parts.iter().map(|name| (*name).to_owned()).collect()),
        };
        Format::named("parquet").unwrap().with_columns(columns)
    };
    let missing = choose("img", &[]).scan(&store, shard).await.unwrap_err();
    has(
        &missing,
        &[
            "`all.parquet`",
            "no column `img`",
            "[\"image\", \"caption\"]",
        ],
    );
    let missing = choose("image", &["text"])
        .scan(&store, shard)
        .await
        .unwrap_err();
    has(&missing, &["no column `text`"]);
    let wrong = choose("caption", &[])
        .scan(&store, shard)
        .await
        .unwrap_err();
    has(&wrong, &["`caption` holds no encoded images"]);

    for cut in [0, 3, 100, bytes.len() - 1] {
        let (_dir, store) = folder("all.parquet", &bytes[..cut]);
        let shards = format.shards(&store).await.unwrap();
        let reason = format.scan(&store, &shards[0]).await.unwrap_err();
        has(
            &reason,
            &["`all.parquet`", "is truncated, or no Parquet file"],
        );
    }
}

#[tokio::test]
async fn a_folder_or_none() {
    let dir = tempfile::tempdir().unwrap();
    let store = local(dir.path());
    let empty = Format::detect(&store).await.unwrap_err().to_string();
    has(
        &empty,
        &["has no images", ".tar and .parquet", "among 0 files"],
    );
    fs::write(dir.path().join("a.jpg"), png(1, 8, 8)).unwrap();
    assert_eq!(Format::detect(&store).await.unwrap().name(), "folder");
    fs::write(dir.path().join("a.tar"), three().bytes()).unwrap();
    let mixed = Format::detect(&store).await.unwrap_err().to_string();
    has(
        &mixed,
        &["has 1 tar and 0 Parquet files and 1 images", "say which"],
    );
}
