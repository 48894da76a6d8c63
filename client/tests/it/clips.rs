//! Clips through the real loader: real files, real FFmpeg, and a replica that reads the number of each
//! frame out of its pixels.

mod bad;
mod places;
pub(crate) mod replica;
pub(crate) mod videos;

use std::{collections::BTreeMap, time::Duration};

use preheat_client::{
    BadSamples, Batch, ClipEncoding, Config, DataLoader, Dataset, Pace, Rate, Start, State, Tail,
    plan::Size,
};
use preheat_clips::fixtures::Codec;
use preheat_proto::Source;

use self::{
    replica::Replica,
    videos::{Videos, drain, numbered, numbers},
};

const RATE: Rate = Rate::new(12, 1);

#[test]
fn frames_are_exact_for_all_codecs_rates_and_rotations() {
    let Some(videos) = Videos::assorted() else {
        return;
    };
    let replica = Replica::start();
    let mut config = videos.config(replica.uri());
    config.epochs = Some(3);
    for rate in [
        RATE,
        Rate::new(24, 1),
        Rate::new(30_000, 1001),
        Rate::new(7, 2),
    ] {
        config.pace = Pace::Rate(rate);
        config.frames = vec![1, 5, 17];
        let mut loader = DataLoader::new(config.clone()).unwrap();
        let batches = drain(&mut loader, 3, rate);
        let starts = batches.iter().flat_map(|batch| &batch.samples);
        let starts: std::collections::BTreeSet<_> = starts
            .map(|sample| format!("{} {:?}", sample.id, sample.clip))
            .collect();
        assert!(
            starts.len() as u64 > loader.dataset().len(),
            "drawn anew in each epoch"
        );
    }
    let captions = loader_parts(&config);
    assert_eq!(captions["a.mp4"], "about a");
}

fn loader_parts(config: &Config) -> BTreeMap<String, String> {
    let mut loader = DataLoader::new(config.clone()).unwrap();
    let samples = loader.epoch().flat_map(|batch| batch.unwrap().samples);
    let captioned = samples.filter_map(|sample| {
        let (name, text) = sample.parts.first()?;
        assert_eq!(&**name, "txt");
        Some((sample.key, String::from_utf8(text.to_vec()).unwrap()))
    });
    captioned.collect()
}

#[test]
fn strides_take_the_videos_own_frames() {
    let Some(videos) = Videos::assorted() else {
        return;
    };
    let replica = Replica::start();
    let mut config = videos.config(replica.uri());
    config.pace = Pace::Stride(3);
    config.frames = vec![5, 9];
    for start in [Start::Random, Start::First, Start::Center] {
        config.clip_start = start;
        let mut loader = DataLoader::new(config.clone()).unwrap();
        for batch in loader.epoch() {
            let batch = batch.unwrap();
            for (sample, numbers) in batch.samples.iter().zip(numbers(&batch)) {
                assert_eq!(numbers, *sample.clip.as_ref().unwrap().frames);
                assert!(
                    numbers.windows(2).all(|two| two[1] - two[0] == 3),
                    "{numbers:?}"
                );
                assert!(start != Start::First || numbers[0] == 0);
            }
        }
    }
}

/// Step by step, rank by rank.
fn all_ranks(config: &Config, dataset: &std::sync::Arc<Dataset>, world_size: u32) -> Vec<String> {
    let ranks: Vec<Vec<Batch>> = (0..world_size)
        .map(|rank| {
            let mut config = config.clone();
            (config.rank, config.world_size) = (rank, world_size);
            let mut loader = DataLoader::with_dataset(config, dataset.clone()).unwrap();
            drain(&mut loader, 2, RATE)
        })
        .collect();
    let mut sequence = Vec::new();
    for step in 0..ranks[0].len() {
        for rank in &ranks {
            assert_eq!(rank[step].bucket, ranks[0][step].bucket);
            for (sample, numbers) in rank[step].samples.iter().zip(numbers(&rank[step])) {
                sequence.push(format!("{sample:?} {numbers:?}"));
            }
        }
    }
    sequence
}

#[test]
fn order_and_resuming_are_as_exact_as_for_images() {
    let Some(videos) = Videos::assorted() else {
        return;
    };
    let replica = Replica::start();
    for start in [Start::Random, Start::Windows] {
        let mut config = videos.config(replica.uri());
        (config.clip_start, config.epochs, config.tail) = (start, Some(2), Tail::Pad);
        let dataset = Dataset::open(&config, BadSamples::Fail, &|_| {}).unwrap();
        let dataset = std::sync::Arc::new(dataset);
        let one = all_ranks(&config, &dataset, 1);
        assert_eq!(one, all_ranks(&config, &dataset, 2), "{start:?}");
        let mut loader = DataLoader::with_dataset(config.clone(), dataset.clone()).unwrap();
        let mut states = vec![];
        while loader.state().epoch < 2 {
            states.push(loader.state());
            loader.next_batch().unwrap();
        }
        for at in [1, states.len() / 2, states.len() - 2] {
            let state = State::from_json(&states[at].to_json()).unwrap();
            let mut resumed = config.clone();
            resumed.resume = Some(state.clone());
            let rest = all_ranks(&resumed, &dataset, 2);
            assert_eq!(rest, one[one.len() - rest.len()..]);
            assert!(rest.len() < one.len());
            resumed.pace = Pace::Rate(Rate::new(13, 1));
            let refused = DataLoader::with_dataset(resumed, dataset.clone())
                .err()
                .unwrap();
            assert!(refused.to_string().contains("12 a second"), "{refused}");
        }
    }
}

#[test]
fn windows_cover_each_video_once() {
    let Some(videos) = Videos::new() else { return };
    assert!(videos.write("a.mp4", &numbered(Codec::H264, 45)));
    assert!(videos.write("b.mp4", &numbered(Codec::H264, 9)));
    assert!(videos.write("c.mp4", &numbered(Codec::H264, 17)));
    let replica = Replica::start();
    let mut config = videos.config(replica.uri());
    config.pace = Pace::Stride(1);
    (config.clip_start, config.tail) = (Start::Windows, Tail::Short);
    let mut loader = DataLoader::new(config).unwrap();
    assert_eq!(loader.dataset().len(), 4 + 1 + 1);
    assert_eq!(loader.dataset().shard_starts(), [0]);
    let mut windows = BTreeMap::new();
    for batch in loader.epoch() {
        let batch = batch.unwrap();
        for (sample, numbers) in batch.samples.iter().zip(numbers(&batch)) {
            windows.insert(sample.key.clone(), (numbers[0], numbers.len()));
        }
    }
    let found: Vec<_> = windows
        .iter()
        .map(|(key, &at)| (key.as_str(), at))
        .collect();
    let wanted = [
        ("a.mp4#0", (0, 17)),
        ("a.mp4#1", (17, 17)),
        ("a.mp4#2", (34, 5)),
        ("a.mp4#3", (39, 5)),
        ("b.mp4#0", (0, 5)),
        ("c.mp4#0", (0, 17)),
    ];
    assert_eq!(found, wanted);
}

#[test]
fn frames_travel_in_the_form_that_was_asked_for() {
    let Some(videos) = Videos::new() else { return };
    assert!(videos.write("a.mp4", &numbered(Codec::H264, 30)));
    assert!(videos.write("b.avi", &numbered(Codec::Mjpeg, 30)));
    let sent = |encoding| {
        let replica = Replica::start();
        let mut config = videos.config(replica.uri());
        (config.clip_encoding, config.tail) = (encoding, Tail::Short);
        let mut loader = DataLoader::new(config).unwrap();
        for batch in loader.epoch() {
            let batch = batch.unwrap();
            for (sample, numbers) in batch.samples.iter().zip(numbers(&batch)) {
                let info = sample.clip.as_ref().unwrap();
                match encoding {
                    // The replica would find them by these.
                    ClipEncoding::AsIs => {
                        let times = numbers.iter().map(|&time| i64::from(time));
                        assert!(times.eq(info.times.iter().copied()));
                    }
                    _ => assert_eq!(numbers, *info.frames),
                }
            }
        }
        let mut seen = replica.seen();
        seen.sort_by_key(|seen| seen.from);
        assert_eq!(seen.len(), 2);
        seen
    };
    let starts = |seen: &replica::Seen, magic: &[u8]| {
        seen.payloads
            .iter()
            .all(|payload| payload.starts_with(magic))
    };
    let jpeg = sent(ClipEncoding::Jpeg { quality: 95 });
    assert!(jpeg.iter().all(|seen| starts(seen, &[0xff, 0xd8])));
    // The one is resized here; the other, whose frames are JPEGs, there.
    assert_eq!(jpeg[0].from, jpeg[0].output);
    assert_eq!(jpeg[1].from, [72, 64]);
    let png = sent(ClipEncoding::Png);
    assert!(
        png.iter()
            .all(|seen| starts(seen, b"\x89PNG") && seen.from == seen.output)
    );
    for seen in sent(ClipEncoding::Rgb8) {
        let [width, height] = seen.output;
        assert_eq!(seen.source, Source::Rgb8);
        let whole = |payload: &bytes::Bytes| payload.len() as u32 == 3 * width * height;
        assert!(seen.payloads.iter().all(whole));
    }
    for seen in sent(ClipEncoding::AsIs) {
        assert_eq!((seen.source, seen.payloads.len()), (Source::Video, 1));
        let file = |key| std::fs::read(videos.path(key)).unwrap();
        assert!(
            [file("a.mp4"), file("b.avi")]
                .iter()
                .any(|file| *file == seen.payloads[0])
        );
        assert_eq!(seen.times.len(), 5);
    }
}

#[test]
fn the_model_says_how_long_clips_may_be() {
    let Some(videos) = Videos::new() else { return };
    assert!(videos.write("a.mp4", &numbered(Codec::H264, 30)));
    let replica = Replica::start();
    let refused = |change: &dyn Fn(&mut Config)| {
        let mut config = videos.config(replica.uri());
        change(&mut config);
        DataLoader::new(config).err().unwrap().to_string()
    };
    let step = refused(&|config| config.frames = vec![8]);
    assert!(step.contains("`frames` has 8: take 5 or 9"), "{step}");
    let raw = refused(&|config| {
        config.frames = vec![1];
        config.bucketing = preheat_client::Bucketing::Sizes(vec![Size::new(5000, 5000)]);
        config.clip_encoding = ClipEncoding::Rgb8;
    });
    assert!(
        raw.contains("`clip_encoding` is Rgb8, in which a clip of"),
        "{raw}"
    );
    let images = refused(&|config| {
        config.frames = Vec::new();
        config.pace = Pace::Stride(1);
    });
    assert!(images.contains("has no images"), "{images}");
    assert_eq!(replica.calls(), 0);
}

/// Batches of the same clips, whatever the rest of the run asks for.
#[test]
fn a_latent_cache_keeps_clips_by_their_cut() {
    let Some(videos) = Videos::new() else { return };
    assert!(videos.write("a.mp4", &numbered(Codec::H264, 30)));
    assert!(videos.write("b.mp4", &numbered(Codec::H264, 30)));
    let replica = Replica::start();
    let mut config = videos.config(replica.uri());
    let folder = videos.beside.path().join("cache");
    config.cache = Some(preheat_client::CacheConfig::new(folder, 1 << 30));
    config.epochs = Some(2);
    let run = |config: &Config| {
        let mut loader = DataLoader::new(config.clone()).unwrap();
        let batches = drain(&mut loader, 2, RATE);
        drop(loader);
        batches.iter().flat_map(numbers).collect::<Vec<_>>()
    };
    let first = run(&config);
    let calls = replica.calls();
    assert_eq!(run(&config), first);
    assert_eq!(replica.calls(), calls, "all was there");
    // Nothing is decoded either: no process could start in this time.
    let patience = std::mem::replace(&mut config.clip_timeout, Duration::from_millis(1));
    assert_eq!(run(&config), first);
    assert_eq!(replica.calls(), calls, "all was there");
    config.clip_timeout = patience;
    config.seed += 1;
    run(&config);
    assert!(replica.calls() > calls, "other starts are other clips");
}
