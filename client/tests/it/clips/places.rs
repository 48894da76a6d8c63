//! Where clips lie: tars, stores, directories of frames, among images; and what is wrong with some.

use std::{collections::BTreeMap, fs, path::Path};

use preheat_client::{
    BadSamples, Config, DataLoader, Dataset, Pace, Rate, Start, Tail, dataset::Format,
};
use preheat_clips::fixtures::Codec;

use super::{
    RATE,
    replica::Replica,
    videos::{Videos, drain, numbered, numbers},
};
use crate::{
    objects::{Fault, Server},
    shards::Tar,
};

/// Everything that was delivered, by key: frames, and the first caption.
fn delivered(config: &Config) -> BTreeMap<String, (Vec<u32>, String)> {
    let mut loader = DataLoader::new(config.clone()).unwrap();
    let batches = drain(&mut loader, 1, RATE);
    let each = batches
        .iter()
        .flat_map(|batch| batch.samples.iter().zip(numbers(batch)));
    let each = each.map(|(sample, numbers)| {
        let part = sample.parts.first().map(|(_, text)| text.to_vec());
        let text = String::from_utf8(part.unwrap_or_default()).unwrap();
        (sample.key.clone(), (numbers, text))
    });
    each.collect()
}

fn tarred(videos: &Videos) -> Vec<u8> {
    let mut tar = Tar::default();
    for (key, ending) in [("a", "mp4"), ("b", "avi")] {
        let video = fs::read(videos.path(&format!("{key}.{ending}"))).unwrap();
        tar = tar.with(&format!("{key}.{ending}"), video);
        tar = tar.with(&format!("{key}.txt"), format!("about {key}"));
    }
    tar.bytes()
}

/// The same clips from a folder, from tars, and from a bucket with either.
#[test]
fn clips_are_the_same_wherever_they_lie() {
    let Some(videos) = Videos::new() else { return };
    assert!(videos.write("a.mp4", &numbered(Codec::H264, 40)));
    assert!(videos.write("b.avi", &numbered(Codec::Mjpeg, 30)));
    for key in ["a", "b"] {
        fs::write(videos.path(&format!("{key}.txt")), format!("about {key}")).unwrap();
    }
    let replica = Replica::start();
    let tars = tempfile::tempdir().unwrap();
    fs::write(tars.path().join("0.tar"), tarred(&videos)).unwrap();
    let root = tempfile::tempdir().unwrap();
    for (bucket, from) in [("files", videos.root()), ("tars", tars.path())] {
        fs::create_dir(root.path().join(bucket)).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            let to = root.path().join(bucket).join(entry.file_name());
            fs::copy(entry.path(), to).unwrap();
        }
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = {
        let _inside = runtime.enter();
        Server::s3(root.path(), |_| Fault::None)
    };
    let mut config = videos.config(replica.uri());
    config.tail = Tail::Short;
    let of = |place: &Path, index: &str| {
        let mut config = config.clone();
        config.dataset = place.into();
        config.index = Some(videos.beside.path().join(index));
        config.store = server.options("secret");
        delivered(&config)
    };
    let folder = of(videos.root(), "folder");
    assert_eq!(folder["a.mp4"].1, "about a");
    let files = of(Path::new("s3://files"), "files");
    assert_eq!(files, folder);
    let renamed = |at: &str| {
        let mut found = of(Path::new(at), at.rsplit('/').next().unwrap());
        let mut take = |key| found.remove(key).unwrap();
        [
            ("a.mp4".to_owned(), take("a")),
            ("b.avi".to_owned(), take("b")),
        ]
        .into()
    };
    assert_eq!(folder, renamed(tars.path().to_str().unwrap()));
    assert_eq!(folder, renamed("s3://tars"));
}

#[test]
fn a_directory_of_numbered_images_is_a_clip() {
    let Some(videos) = Videos::new() else { return };
    let replica = Replica::start();
    let colour = |number: u8| {
        let digit = |place: u8| number / 6_u8.pow(place.into()) % 6 * 51;
        let pixel = image::Rgb([digit(0), digit(1), digit(2)]);
        let mut bytes = std::io::Cursor::new(Vec::new());
        let picture = image::RgbImage::from_pixel(40, 32, pixel);
        picture
            .write_to(&mut bytes, image::ImageFormat::Png)
            .unwrap();
        bytes.into_inner()
    };
    for (clip, frames) in [("x/one", 20), ("x/two", 12), ("three", 17)] {
        fs::create_dir_all(videos.path(clip)).unwrap();
        for number in 0..frames {
            let name = format!("{clip}/frame{}.png", number + 1);
            fs::write(videos.path(&name), colour(number)).unwrap();
        }
    }
    fs::write(videos.path("x/one.txt"), "about one").unwrap();
    let mut config = videos.config(replica.uri());
    let unsaid = DataLoader::new(config.clone()).err().unwrap().to_string();
    assert!(unsaid.contains("has 49 images and no videos"), "{unsaid}");
    config.format = Some(Format::Frames(Rate::new(24, 1)));
    config.tail = Tail::Short;
    let found = delivered(&config);
    assert_eq!(found.len(), 3);
    assert_eq!(found["x/one"].1, "about one");
    // 20 frames at 24 a second are 10 at 12.
    assert!(found["x/one"].0.windows(2).all(|two| two[1] == two[0] + 2));
    // What was not indexed is not read.
    fs::remove_file(videos.path("x/two/frame12.png")).unwrap();
    fs::write(videos.path("x/three"), "").unwrap();
    config.format = Some(Format::Frames(Rate::new(25, 1)));
    let mut loader = DataLoader::new(config.clone()).unwrap();
    assert_eq!(loader.dataset().clip(1).unwrap().extent.frames, 20);
    drain(&mut loader, 1, RATE);
}

#[test]
fn images_and_short_videos_take_part_where_one_frame_may_be() {
    let Some(videos) = Videos::new() else { return };
    assert!(videos.write("long.mp4", &numbered(Codec::H264, 40)));
    assert!(videos.write("short.mp4", &numbered(Codec::H264, 6)));
    let image = crate::photos::encode(
        51,
        preheat_client::plan::Size::new(40, 30),
        image::ImageFormat::Png,
    );
    fs::write(videos.path("still.png"), image).unwrap();
    let replica = Replica::start();
    let mut config = videos.config(replica.uri());
    let error = DataLoader::new(config.clone()).err().unwrap().to_string();
    assert!(error.contains("`short.mp4`"), "{error}");
    assert!(
        error.contains("lasts 0.240 s, which are 3 frames at 12 a second"),
        "{error}"
    );
    config.bad_samples = BadSamples::Skip;
    config.max_bad_share = 1.0;
    let mut loader = DataLoader::new(config.clone()).unwrap();
    assert_eq!(loader.report().unusable, 2);
    let valid = |batch: preheat_client::Batch| batch.mask().iter().filter(|valid| **valid).count();
    let count: usize = loader.epoch().map(|batch| valid(batch.unwrap())).sum();
    assert!(count >= 1);
    config.bad_samples = BadSamples::Fail;
    (config.frames, config.tail) = (vec![1, 5, 9], Tail::Short);
    let mut loader = DataLoader::new(config).unwrap();
    let mut lengths = BTreeMap::new();
    // The picture has no number: the replica calls it bad, after the others.
    for batch in loader.epoch() {
        match batch {
            Ok(batch) => {
                assert_eq!(batch.latents.shape.len(), 5, "also of single frames");
                for sample in batch.samples {
                    lengths.insert(sample.key, batch.bucket.frames);
                }
            }
            Err(error) => assert!(error.to_string().contains("still.png"), "{error}"),
        }
    }
    assert!(
        lengths
            .iter()
            .all(|(key, frames)| (key == "long.mp4") == (*frames == 9))
    );
}

#[test]
fn an_index_of_clips_is_not_one_of_images() {
    let Some(videos) = Videos::new() else { return };
    assert!(videos.write("a.mp4", &numbered(Codec::H264, 40)));
    fs::write(videos.path("b.png"), crate::photos::png(1, 40, 30)).unwrap();
    let replica = Replica::start();
    let mut config = videos.config(replica.uri());
    config.pace = Pace::Stride(1);
    config.clip_start = Start::Random;
    let clips = Dataset::open(&config, BadSamples::Fail, &|_| {}).unwrap();
    assert_eq!(
        (
            clips.len(),
            clips.clip(0).is_some(),
            clips.clip(1).is_some()
        ),
        (2, true, false)
    );
    assert_eq!(clips.clip(0).unwrap().times.len(), 40);
    let mut images = config.clone();
    images.frames = Vec::new();
    images.index = Some(videos.beside.path().join("images"));
    let opened = Dataset::open(&images, BadSamples::Fail, &|_| {}).unwrap();
    assert_eq!(opened.len(), 1, "videos are no images");
    assert_ne!(opened.fingerprint(), clips.fingerprint());
    let error = DataLoader::with_dataset(images, clips.into())
        .err()
        .unwrap();
    assert!(
        error.to_string().contains("was opened for clips"),
        "{error}"
    );
}
