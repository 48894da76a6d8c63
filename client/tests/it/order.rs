//! Order, world sizes, resuming: through the real loader.

use std::collections::BTreeMap;

use preheat_client::{BadSamples, Batch, Config, DataLoader, Error, State, Tail};

use crate::{
    photos::Photos,
    stub::{Stub, drain},
};

fn ids(batches: &[Batch]) -> Vec<u64> {
    batches.iter().flat_map(Batch::ids).collect()
}

/// The sequence of all ranks together: step by step, rank by rank.
fn all_ranks(photos: &Photos, config: &Config, world_size: u32) -> Vec<u64> {
    let dataset = photos.index(BadSamples::Fail);
    let ranks: Vec<_> = (0..world_size)
        .map(|rank| {
            let mut config = config.clone();
            (config.rank, config.world_size) = (rank, world_size);
            let mut loader = DataLoader::with_dataset(config.clone(), dataset.clone()).unwrap();
            drain(&mut loader, config.epochs.unwrap())
        })
        .collect();
    let steps = ranks[0].len();
    assert!(ranks.iter().all(|rank| rank.len() == steps));
    let mut sequence = Vec::new();
    for step in 0..steps {
        let bucket = ranks[0][step].bucket;
        for rank in &ranks {
            assert_eq!(rank[step].bucket, bucket, "all ranks see the same bucket");
            sequence.extend(rank[step].ids());
        }
    }
    sequence
}

#[test]
fn world_size_changes_nothing() {
    let (photos, stub) = (Photos::new(23), Stub::answering());
    for tail in [Tail::Pad, Tail::Short, Tail::Drop] {
        let mut config = photos.config(&stub.uri());
        config.epochs = Some(2);
        config.tail = tail;
        let one = all_ranks(&photos, &config, 1);
        for world_size in [1, 2, 4] {
            assert_eq!(one, all_ranks(&photos, &config, world_size), "{tail:?}");
        }
    }
}

#[test]
fn seeds_and_epochs_change_the_order() {
    let (photos, stub) = (Photos::new(23), Stub::answering());
    let mut config = photos.config(&stub.uri());
    config.epochs = Some(2);
    let mut loader = DataLoader::new(config.clone()).unwrap();
    let batches = drain(&mut loader, 2);
    let (first, second) = batches.split_at(batches.len() / 2);
    assert_ne!(ids(first), ids(second));
    config.seed = 8;
    let other = drain(&mut DataLoader::new(config).unwrap(), 2);
    assert_ne!(ids(&batches), ids(&other));
    assert!(
        loader.next_batch().unwrap().is_none(),
        "for ever after the last"
    );
    assert!(loader.next_batch().unwrap().is_none());
}

#[test]
fn every_sample_once_an_epoch() {
    let (photos, stub) = (Photos::new(23), Stub::answering());
    for tail in [Tail::Pad, Tail::Short, Tail::Drop] {
        let mut config = photos.config(&stub.uri());
        config.tail = tail;
        config.epochs = Some(2);
        let mut loader = DataLoader::new(config).unwrap();
        let report = loader.report();
        for epoch in 0..2 {
            let mut times = BTreeMap::new();
            let mut padding = 0;
            for batch in loader.epoch() {
                let batch = batch.unwrap();
                assert_eq!(batch.epoch, epoch);
                for sample in &batch.samples {
                    match sample.padding {
                        true => padding += 1,
                        false => *times.entry(sample.id).or_insert(0) += 1,
                    }
                }
            }
            assert!(times.values().all(|&times| times == 1));
            assert_eq!(times.len() as u64 + report.dropped, 23);
            assert_eq!(padding, report.padded);
        }
    }
}

#[test]
fn resuming_anywhere_goes_on_exactly() {
    let (photos, stub) = (Photos::new(13), Stub::answering());
    let dataset = photos.index(BadSamples::Fail);
    let mut config = photos.config(&stub.uri());
    config.epochs = Some(2);
    let mut whole = DataLoader::with_dataset(config.clone(), dataset.clone()).unwrap();
    let mut states = vec![whole.state()];
    let mut batches = Vec::new();
    let mut taken = vec![0];
    while whole.state().epoch < 2 {
        batches.extend(whole.next_batch().unwrap());
        states.push(whole.state());
        taken.push(batches.len());
    }
    assert!(states.len() > 10);
    for (state, taken) in states.iter().zip(taken) {
        let state = State::from_json(&state.to_json()).unwrap();
        for world_size in [1, 2] {
            let rest: Vec<Vec<Batch>> = (0..world_size)
                .map(|rank| {
                    let mut config = config.clone();
                    (config.rank, config.world_size) = (rank, world_size);
                    config.resume = Some(state.clone());
                    let mut loader = DataLoader::with_dataset(config, dataset.clone()).unwrap();
                    assert_eq!(loader.state(), state);
                    drain(&mut loader, 2)
                })
                .collect();
            assert_eq!(rest[0].len(), batches.len() - taken);
            for (at, batch) in batches[taken..].iter().enumerate() {
                let parts: Vec<_> = rest
                    .iter()
                    .flat_map(|rank| rank[at].samples.clone())
                    .collect();
                assert_eq!(parts, batch.samples);
                let data: Vec<u8> = rest
                    .iter()
                    .flat_map(|rank| rank[at].latents.data.to_vec())
                    .collect();
                assert_eq!(data, batch.latents.data);
            }
        }
    }
}

#[test]
fn world_sizes_may_change_at_every_step() {
    let (photos, stub) = (Photos::new(29), Stub::answering());
    let dataset = photos.index(BadSamples::Fail);
    let mut config = photos.config(&stub.uri());
    config.global_batch = 12;
    config.epochs = Some(2);
    let whole = drain(
        &mut DataLoader::with_dataset(config.clone(), dataset.clone()).unwrap(),
        2,
    );
    let mut worlds = [1, 2, 3, 4, 6, 12].into_iter().cycle();
    let mut at: Option<State> = None;
    let mut delivered = Vec::new();
    while at.as_ref().is_none_or(|state| state.epoch < 2) {
        config.world_size = worlds.next().unwrap();
        config.resume = at.clone();
        let mut samples = Vec::new();
        let mut states = Vec::new();
        for rank in 0..config.world_size {
            config.rank = rank;
            let mut loader = DataLoader::with_dataset(config.clone(), dataset.clone()).unwrap();
            samples.extend(loader.next_batch().unwrap().map(|batch| batch.samples));
            states.push(loader.state());
        }
        assert!(
            states.iter().all(|state| *state == states[0]),
            "all ranks save the same"
        );
        if !samples.is_empty() {
            delivered.push(samples.concat());
        }
        at = states.pop();
    }
    let whole: Vec<_> = whole.into_iter().map(|batch| batch.samples).collect();
    assert_eq!(delivered, whole);
}

#[test]
fn resuming_reads_and_skips_nothing() {
    let (photos, stub) = (Photos::new(60), Stub::answering());
    let mut config = photos.config(&stub.uri());
    config.chunk_pixels = Some(1 << 20);
    config.epochs = Some(1000);
    config.max_batches_ahead = 1;
    let mut state = DataLoader::new(config.clone()).unwrap().state();
    (state.epoch, state.step) = (999, 7);
    let before = stub.calls();
    config.resume = Some(state);
    let mut loader = DataLoader::new(config).unwrap();
    let batch = loader.next_batch().unwrap().unwrap();
    assert_eq!((batch.epoch, batch.step), (999, 7));
    assert!(
        stub.calls() - before <= 3,
        "its batch, and the one or two after it"
    );
}

#[test]
fn load_state_goes_back_and_forth() {
    let (photos, stub) = (Photos::new(13), Stub::answering());
    let mut loader = DataLoader::new(photos.config(&stub.uri())).unwrap();
    let start = loader.state();
    let whole = drain(&mut loader, 1);
    loader.load_state(&start).unwrap();
    assert_eq!(ids(&drain(&mut loader, 1)), ids(&whole));
    let late = State { step: 2, ..start };
    loader.load_state(&late).unwrap();
    assert_eq!(ids(&drain(&mut loader, 1)), ids(&whole[2..]));
    let wild = State { step: 99, ..late };
    let error = loader.load_state(&wild).unwrap_err().to_string();
    assert!(error.contains("step is 99, and an epoch has"), "{error}");
}

#[test]
fn a_state_of_another_run_is_refused() {
    let (photos, stub) = (Photos::new(13), Stub::answering());
    let saved = DataLoader::new(photos.config(&stub.uri())).unwrap().state();
    let mut config = photos.config(&stub.uri());
    config.seed = 8;
    config.tail = Tail::Drop;
    config.resume = Some(saved);
    photos.write("014.png", &crate::photos::png(14, 36, 36));
    let Err(Error::StateMismatch { fields }) = DataLoader::new(config).map(|_| ()) else {
        panic!("accepted");
    };
    let names: Vec<_> = fields
        .iter()
        .map(|field| field.split(' ').next().unwrap())
        .collect();
    let expected = ["dataset_fingerprint", "dataset_samples", "seed", "tail"];
    assert_eq!(names, expected);
}

#[test]
fn a_run_stays_with_its_weights_while_replicas_have_them() {
    let (photos, stub) = (Photos::new(13), Stub::answering());
    let mut config = photos.config(&stub.uri());
    let mut saved = DataLoader::new(config.clone()).unwrap().state();
    assert_eq!(saved.run.model_fingerprint, crate::stub::FINGERPRINT);
    saved.run.model_fingerprint = crate::stub::OLDER.into();
    config.resume = Some(saved.clone());
    let mut loader = DataLoader::new(config.clone()).unwrap();
    // Every answer is held against the fingerprint that its call pins.
    assert!(loader.next_batch().unwrap().is_some());
    assert_eq!(
        loader.state().run.model_fingerprint,
        saved.run.model_fingerprint
    );
    saved.run.model_fingerprint = "0000000000000000".into();
    config.resume = Some(saved);
    let Err(Error::StateMismatch { fields }) = DataLoader::new(config).map(|_| ()) else {
        panic!("accepted");
    };
    assert!(
        fields[0].starts_with("model_fingerprint") && fields.len() == 1,
        "{fields:?}"
    );
}

#[test]
fn works_inside_a_runtime() {
    let (photos, stub) = (Photos::new(5), Stub::answering());
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let mut loader = DataLoader::new(photos.config(&stub.uri())).unwrap();
        assert!(loader.next_batch().unwrap().is_some());
        drop(loader);
    });
}
