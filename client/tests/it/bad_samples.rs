//! Samples that cannot be read or encoded, under every policy; how many are too many; the report.

use std::collections::BTreeMap;

use preheat_client::{BadSamples, Batch, Config, DataLoader, Error, MAX_SUBSTITUTES};
use preheat_proto::ItemCode;

use crate::{
    photos::{Photos, encode, with_segment},
    stub::{Act, Stub, drain},
};

const BAD: [u64; 3] = [3, 4, 10];

/// Answers, but calls some items bad.
fn picky() -> Stub {
    Stub::start(|_, _| Act::Items(BAD.map(|id| (id, ItemCode::BadImage)).into()))
}

fn substituting(photos: &Photos, stub: &Stub) -> Config {
    let mut config = photos.config(&stub.uri());
    config.bad_samples = BadSamples::Substitute;
    config
}

/// Files that are no usable images: name, bytes, and what must be said of them.
fn junk() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let jpeg = encode(
        1,
        preheat_client::plan::Size::new(64, 64),
        image::ImageFormat::Jpeg,
    );
    let sof = jpeg
        .windows(2)
        .position(|pair| pair == [0xff, 0xc0])
        .unwrap();
    let mut giant = jpeg.clone();
    giant[sof + 5..sof + 9].copy_from_slice(&[0xff, 0xdc, 0xff, 0xdc]);
    vec![
        (
            "claims-65500x65500.jpg",
            giant,
            "declares 65500x65500 pixels, over the limit",
        ),
        ("empty.jpg", Vec::new(), "is empty"),
        (
            "not-an-image.jpg",
            b"GIF89a or so".to_vec(),
            "not a JPEG, PNG or WebP",
        ),
        ("truncated.jpg", jpeg[..sof + 4].to_vec(), "damaged header"),
        ("zeros.png", vec![0; 100_000], "not a JPEG, PNG or WebP"),
    ]
}

#[test]
fn the_index_fails_by_name() {
    let stub = Stub::answering();
    for (name, bytes, reason) in junk() {
        let photos = Photos::new(5);
        photos.write(name, &bytes);
        let error = DataLoader::new(photos.config(&stub.uri())).err().unwrap();
        assert!(
            matches!(&error, Error::BadSample { key, .. } if key == name),
            "{error}"
        );
        assert!(error.to_string().contains(reason), "{error}");
    }
}

#[test]
fn the_index_substitutes() {
    let stub = Stub::answering();
    let photos = Photos::new(20);
    for (name, bytes, _) in junk() {
        photos.write(name, &bytes);
    }
    let config = substituting(&photos, &stub);
    let mut loader = DataLoader::new(config).unwrap();
    assert_eq!(loader.dataset().len(), 25);
    assert_eq!(loader.report().unusable, 5);
    let batches = drain(&mut loader, 1);
    check_substitutes(&batches, 25, &[20, 21, 22, 23, 24]);
    let stats = loader.stats();
    assert_eq!(stats.bad_samples, 5);
    assert!(
        stats
            .bad
            .iter()
            .any(|bad| bad.key == "empty.jpg" && bad.reason == "is empty")
    );
    let replaced = batches.iter().flat_map(|batch| &batch.samples);
    let replaced = replaced
        .filter(|sample| sample.substitute_of.is_some())
        .count();
    assert_eq!(stats.substituted, replaced as u64);
}

/// Every place is filled once, by its own sample or by a stand-in for a bad one.
fn check_substitutes(batches: &[Batch], samples: u64, bad: &[u64]) {
    let mut places = BTreeMap::new();
    for sample in batches.iter().flat_map(|batch| &batch.samples) {
        assert!(!bad.contains(&sample.id), "{} is bad", sample.key);
        let place = sample.substitute_of.unwrap_or(sample.id);
        assert_eq!(sample.substitute_of.is_some(), bad.contains(&place));
        if !sample.padding {
            *places.entry(place).or_insert(0) += 1;
        }
    }
    assert!(places.values().all(|&times| times == 1));
    assert!(places.into_keys().eq(0..samples));
}

#[test]
fn a_bad_item_fails_by_name() {
    let (photos, stub) = (Photos::new(20), picky());
    let mut loader = DataLoader::new(photos.config(&stub.uri())).unwrap();
    let first = loader.epoch().find_map(Result::err).unwrap();
    let Error::BadSample { key, reason } = &first else {
        panic!("{first}");
    };
    assert!(
        ["003.png", "004.png", "010.png"].contains(&key.as_str()),
        "{key}"
    );
    assert_eq!(reason, "scripted BadImage");
    let again = DataLoader::new(photos.config(&stub.uri()))
        .unwrap()
        .epoch()
        .find_map(Result::err);
    assert_eq!(again.unwrap().to_string(), first.to_string());
}

#[test]
fn bad_items_are_substituted_alike_everywhere() {
    let (photos, stub) = (Photos::new(20), picky());
    let mut config = substituting(&photos, &stub);
    let mut loader = DataLoader::new(config.clone()).unwrap();
    let batches = drain(&mut loader, 1);
    check_substitutes(&batches, 20, &BAD);
    assert_eq!(loader.stats().bad_samples, 3);

    config.world_size = 2;
    config.chunk_items = Some(1);
    let ranks: Vec<_> = [0, 1]
        .into_iter()
        .map(|rank| {
            config.rank = rank;
            drain(&mut DataLoader::new(config.clone()).unwrap(), 1)
        })
        .collect();
    for (at, batch) in batches.iter().enumerate() {
        let parts = [ranks[0][at].samples.clone(), ranks[1][at].samples.clone()];
        assert_eq!(parts.concat(), batch.samples);
    }
}

#[test]
fn places_of_bad_samples_may_stay_empty() {
    let (photos, stub) = (Photos::new(20), picky());
    for (name, bytes, _) in junk() {
        photos.write(name, &bytes);
    }
    let mut config = photos.config(&stub.uri());
    config.bad_samples = BadSamples::Skip;
    let mut loader = DataLoader::new(config.clone()).unwrap();
    let batches = drain(&mut loader, 1);
    let mut places = BTreeMap::new();
    for batch in &batches {
        assert_eq!(batch.latents.shape[0], 4, "shapes stay as they are");
        for (sample, valid) in batch.samples.iter().zip(batch.mask()) {
            let bad = BAD.contains(&sample.id) || sample.id >= 20;
            assert_eq!((sample.valid, valid), (!bad, !bad), "{}", sample.key);
            assert_eq!(sample.substitute_of, None);
            if !sample.padding {
                *places.entry(sample.id).or_insert(0) += 1;
            }
        }
    }
    assert!(places.values().all(|&times| times == 1));
    assert!(places.into_keys().eq(0..25));
    let stats = loader.stats();
    assert_eq!((stats.bad_samples, stats.substituted), (8, 0));
    let masked = batches.iter().flat_map(Batch::mask).filter(|valid| !valid);
    assert_eq!(stats.skipped, masked.count() as u64);
    // In calls of one, the others are the same.
    config.chunk_items = Some(1);
    let again = drain(&mut DataLoader::new(config).unwrap(), 1);
    for (one, other) in batches.iter().zip(&again) {
        assert_eq!(
            (&one.samples, &one.latents),
            (&other.samples, &other.latents)
        );
    }
}

#[test]
fn too_many_bad_samples_end_the_run_at_the_same_batch() {
    let (photos, stub) = (Photos::new(40), picky());
    let report = photos.dir.path().join("bad.jsonl");
    let mut config = substituting(&photos, &stub);
    config.max_bad_samples = Some(3);
    drain(&mut DataLoader::new(config.clone()).unwrap(), 1);

    config.max_bad_samples = Some(1);
    config.bad_sample_report = Some(report.clone());
    let stops = |config: &Config| {
        let mut loader = DataLoader::new(config.clone()).unwrap();
        let error = loader.epoch().find_map(Result::err).unwrap();
        (loader.state(), error)
    };
    let (state, error) = stops(&config);
    let Error::TooManyBad { bad, first, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!((*bad, first.len()), (2, 2));
    let text = error.to_string();
    assert!(
        text.contains("2 bad samples among") && text.contains("over max_bad_samples, 1"),
        "{text}"
    );
    assert!(
        text.contains("`003.png`: scripted BadImage") || text.contains("`010.png`"),
        "{text}"
    );
    assert!(text.contains("bad.jsonl`"), "{text}");
    config.max_batches_ahead = 1;
    let (again, _) = stops(&config);
    assert_eq!(again, state, "however far ahead they are met");
    // Whoever wants to go on, can.
    config.max_bad_samples = None;
    config.resume = Some(state.clone());
    let rest = drain(&mut DataLoader::new(config).unwrap(), 1);
    assert_eq!(rest[0].step, state.step);
}

#[test]
fn too_large_a_part_ends_the_run() {
    let photos = Photos::new(30);
    let stub = Stub::start(|_, ids| {
        let bad = ids.iter().filter(|&&id| id % 5 == 0);
        Act::Items(bad.map(|&id| (id, ItemCode::BadImage)).collect())
    });
    let mut config = photos.config(&stub.uri());
    config.bad_samples = BadSamples::Skip;
    config.global_batch = 30;
    config.tail = preheat_client::Tail::Short;
    config.epochs = Some(40);
    config.max_bad_share = 0.21;
    drain(&mut DataLoader::new(config.clone()).unwrap(), 40);
    config.max_bad_share = 0.19;
    let mut loader = DataLoader::new(config).unwrap();
    let error = std::iter::from_fn(|| Some(loader.next_batch())).find_map(Result::err);
    let text = error.unwrap().to_string();
    assert!(text.contains("over max_bad_share, 0.19"), "{text}");
    let seen = loader.stats().images;
    assert!(
        (preheat_client::LEAST_SEEN - 30..1100).contains(&seen),
        "{seen}"
    );
}

#[test]
fn an_index_with_too_many_bad_samples_starts_nothing() {
    let (photos, stub) = (Photos::new(20), Stub::answering());
    for (name, bytes, _) in junk() {
        photos.write(name, &bytes);
    }
    let mut config = substituting(&photos, &stub);
    config.max_bad_samples = Some(4);
    let text = DataLoader::new(config).err().unwrap().to_string();
    assert!(
        text.starts_with("5 bad samples among 25, over max_bad_samples, 4; `claims-"),
        "{text}"
    );
    assert!(text.contains("set bad_sample_report"), "{text}");
    assert_eq!(stub.calls(), 0);
}

#[test]
fn the_report_names_each_bad_sample_once() {
    let (photos, stub) = (Photos::new(20), picky());
    photos.write("empty.jpg", b"");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bad.jsonl");
    let mut config = substituting(&photos, &stub);
    config.epochs = Some(3);
    config.bad_sample_report = Some(path.clone());
    for _ in 0..2 {
        drain(&mut DataLoader::new(config.clone()).unwrap(), 3);
        let text = std::fs::read_to_string(&path).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
        let lines: Vec<serde_json::Value> = lines.collect();
        let mut ids: Vec<_> = lines
            .iter()
            .map(|line| line["id"].as_u64().unwrap())
            .collect();
        ids.sort_unstable();
        assert_eq!(ids, [3, 4, 10, 20], "{text}");
        let empty = lines.iter().find(|line| line["id"] == 20).unwrap();
        assert_eq!(empty["key"], "empty.jpg");
        assert_eq!(empty["reason"], "is empty");
        assert!(empty["epoch"].is_u64() && empty["step"].is_u64());
    }
    // Under Fail the one that ends the run is in it as well; and no folder is no reason to stop.
    config.bad_samples = BadSamples::Fail;
    std::fs::remove_file(photos.root().join("empty.jpg")).unwrap();
    std::fs::remove_file(&path).unwrap();
    let mut loader = DataLoader::new(config.clone()).unwrap();
    assert!(loader.epoch().any(|batch| batch.is_err()));
    assert!(
        std::fs::read_to_string(&path)
            .unwrap()
            .contains("scripted BadImage")
    );
    config.bad_samples = BadSamples::Substitute;
    config.bad_sample_report = Some(dir.path().join("missing/bad.jsonl"));
    drain(&mut DataLoader::new(config).unwrap(), 3);
}

#[test]
fn substitutes_end() {
    let photos = Photos::new(80);
    let stub =
        Stub::start(|_, ids| Act::Items(ids.iter().map(|&id| (id, ItemCode::NotFinite)).collect()));
    let mut config = substituting(&photos, &stub);
    config.max_batches_ahead = 1;
    let error = DataLoader::new(config).unwrap().next_batch().unwrap_err();
    assert!(
        matches!(
            error,
            Error::NoSubstitute {
                tries: MAX_SUBSTITUTES,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn files_that_vanish_or_change_are_bad() {
    let (photos, stub) = (Photos::new(20), Stub::answering());
    let mut config = substituting(&photos, &stub);
    let dataset = photos.index(BadSamples::Fail);
    std::fs::remove_file(photos.root().join("003.png")).unwrap();
    let before = std::fs::read(photos.root().join("004.png")).unwrap();
    photos.write("004.png", &[&before, &b"more"[..]].concat());
    let jpeg = encode(
        1,
        preheat_client::plan::Size::new(36, 36),
        image::ImageFormat::Jpeg,
    );
    photos.write("010.png", &with_segment(&jpeg, 0xfe, b"hello"));
    let mut loader = DataLoader::with_dataset(config.clone(), dataset.clone()).unwrap();
    check_substitutes(&drain(&mut loader, 1), 20, &BAD);
    let reasons: Vec<_> = loader
        .stats()
        .bad
        .into_iter()
        .map(|bad| bad.reason)
        .collect();
    assert!(reasons[0].contains("is not there"), "{reasons:?}");
    assert!(
        reasons[1].contains("was replaced since it was indexed"),
        "{reasons:?}"
    );

    config.bad_samples = BadSamples::Fail;
    let mut loader = DataLoader::with_dataset(config, dataset).unwrap();
    let error = loader.epoch().find_map(Result::err).unwrap();
    assert!(matches!(error, Error::BadSample { .. }), "{error}");
}

#[test]
fn faults_of_items_are_not_the_samples_fault() {
    let photos = Photos::new(20);
    let stub = Stub::start(|call, ids| match call {
        0 => Act::Items(vec![(ids[0], ItemCode::Internal)]),
        _ => Act::Answer,
    });
    let mut loader = DataLoader::new(photos.config(&stub.uri())).unwrap();
    drain(&mut loader, 1);
    let stats = loader.stats();
    assert_eq!((stats.bad_samples, stats.retries), (0, 1));
}
