//! A cache of moments: draws stay fresh although nothing is asked for.

use std::collections::BTreeMap;

use preheat_client::{
    CacheConfig, CacheWhat, Config, Crop, DType, DataLoader, Posterior, Scale, Tail,
};
use tempfile::TempDir;

use crate::{
    photos::Photos,
    stub::{OLDER, Stub, digest_of, eventually, mean},
};

const SAMPLES: usize = 23;

fn config(photos: &Photos, stub: &Stub, folder: &TempDir) -> Config {
    let mut config = photos.config(&stub.uri());
    (config.crop, config.flip, config.tail) = (Crop::Center, 0.0, Tail::Short);
    // No epoch begins before the one before it has ended.
    config.max_batches_ahead = 1;
    config.posterior = Posterior::Sample;
    let mut cache = CacheConfig::new(folder.path(), 1 << 30);
    cache.what = CacheWhat::Moments;
    config.cache = Some(cache);
    config
}

/// One sample as delivered, as numbers, and the mean of its posterior.
struct Seen {
    id: u64,
    epoch: u64,
    latent: Vec<f32>,
    mean: Vec<f32>,
}

/// All samples of a run that delivers f32.
fn run(config: Config) -> Vec<Seen> {
    let epochs = config.epochs.unwrap();
    let mut loader = DataLoader::new(config).unwrap();
    let mut seen = Vec::new();
    while loader.state().epoch < epochs {
        let Some(batch) = loader.next_batch().unwrap() else {
            continue;
        };
        assert_eq!(batch.latents.dtype, DType::F32);
        let sides: Vec<_> = batch
            .latents
            .shape
            .iter()
            .map(|&side| side as usize)
            .collect();
        let [count, channels, height, width] = sides[..] else {
            panic!("{sides:?}")
        };
        assert_eq!((count, channels), (batch.samples.len(), 4));
        let values: Vec<f32> = batch
            .latents
            .data
            .as_chunks()
            .0
            .iter()
            .copied()
            .map(f32::from_le_bytes)
            .collect();
        let latents = values.chunks_exact(channels * height * width);
        assert_eq!(latents.len(), count);
        for (sample, latent) in batch.samples.iter().zip(latents) {
            seen.push(Seen {
                id: sample.id,
                epoch: batch.epoch,
                latent: latent.to_vec(),
                mean: mean(digest_of(sample, 0, &loader))
                    .take(latent.len())
                    .collect(),
            });
        }
    }
    eventually("all is written", || loader.stats().cache.waiting == 0);
    seen
}

fn latents(seen: &[Seen]) -> Vec<&[f32]> {
    seen.iter().map(|seen| &*seen.latent).collect()
}

#[test]
fn draws_are_fresh_and_nothing_is_asked_for_twice() {
    let (photos, folder) = (Photos::new(SAMPLES), TempDir::new().unwrap());
    let stub = Stub::answering();
    let mut config = config(&photos, &stub, &folder);
    config.epochs = Some(1);
    run(config.clone());
    let calls = stub.calls();
    config.epochs = Some(3);
    let seen = run(config.clone());
    assert_eq!(stub.calls(), calls, "all is there");
    assert_eq!(seen.len(), 3 * SAMPLES);

    // Normalised by (z - 0.5) / 2; the log-variance is 0, so what is added to the mean is noise.
    let noise: Vec<f64> = seen
        .iter()
        .flat_map(|seen| seen.latent.iter().zip(&seen.mean))
        .map(|(z, mean)| f64::from(z * 2.0 + 0.5 - mean))
        .collect();
    let n = noise.len() as f64;
    let average = noise.iter().sum::<f64>() / n;
    let variance = noise.iter().map(|x| x * x).sum::<f64>() / n;
    // Five standard errors each.
    assert!(average.abs() < 5.0 / n.sqrt(), "{average}");
    assert!(
        (variance - 1.0).abs() < 5.0 * (2.0 / n).sqrt(),
        "{variance}"
    );

    let mut draws: BTreeMap<u64, Vec<(u64, &[f32])>> = BTreeMap::new();
    for seen in &seen {
        draws
            .entry(seen.id)
            .or_default()
            .push((seen.epoch, &seen.latent));
    }
    for (id, draws) in draws {
        let [(0, a), (1, b), (2, c)] = draws[..] else {
            panic!("{id}");
        };
        assert!(a != b && b != c && a != c, "{id}");
    }
    let again = run(config);
    assert_eq!(
        latents(&again),
        latents(&seen),
        "the same run draws the same"
    );
}

#[test]
fn one_entry_serves_every_choice() {
    let (photos, folder) = (Photos::new(SAMPLES), TempDir::new().unwrap());
    let stub = Stub::answering();
    let mut config = config(&photos, &stub, &folder);
    run(config.clone());
    let calls = stub.calls();
    config.posterior = Posterior::Mode;
    for seen in run(config.clone()) {
        let expected: Vec<_> = seen.mean.iter().map(|z| (z - 0.5) / 2.0).collect();
        assert_eq!(seen.latent, expected);
    }
    config.scale = Scale::Raw;
    for seen in run(config.clone()) {
        assert_eq!(seen.latent, seen.mean);
    }
    (config.posterior, config.dtype) = (Posterior::Moments, DType::BF16);
    let mut loader = DataLoader::new(config).unwrap();
    let batch = loader.next_batch().unwrap().unwrap();
    assert_eq!(batch.latents.dtype, DType::BF16);
    assert_eq!(batch.latents.shape[1], 8);
    let values = batch
        .latents
        .shape
        .iter()
        .map(|&side| side as usize)
        .product::<usize>();
    assert_eq!(batch.latents.data.len(), values * 2);
    assert_eq!(stub.calls(), calls, "all is there");
}

#[test]
fn models_that_cannot_be_drawn_from_are_refused() {
    let (photos, folder) = (Photos::new(4), TempDir::new().unwrap());
    let stub = Stub::answering();
    let mut config = config(&photos, &stub, &folder);
    let refused = |config: &Config| DataLoader::new(config.clone()).err().unwrap().to_string();
    let mut without = config.clone();
    (without.model, without.posterior) = ("other".into(), Posterior::Mode);
    let error = refused(&without);
    assert!(
        error.contains("no moments: set `cache.what` to Latents"),
        "{error}"
    );
    // Replicas describe their newest weights only.
    let mut state = DataLoader::new(config.clone()).unwrap().state();
    state.run.model_fingerprint = OLDER.into();
    config.resume = Some(state);
    let error = refused(&config);
    assert!(error.contains("does not say how"), "{error}");
}
