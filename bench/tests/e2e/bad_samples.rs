//! Bad files among good ones: named, or replaced; the replica lives on.

use std::{collections::BTreeMap, fs, path::Path};

use preheat_client::{BadSamples, Config, DataLoader};

use crate::{config, folder, replica, run};

const BAD: [&str; 4] = [
    "claims-65500x65500.jpg",
    "empty.jpg",
    "not-an-image.jpg",
    "truncated.jpg",
];

fn spoil(folder: &Path, name: &str) {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/data");
    fs::copy(data.join(name), folder.join("000").join(name)).unwrap();
}

#[test]
fn by_default_a_bad_file_stops_the_run_by_name() {
    let replica = replica("builtin:tiny");
    for name in BAD {
        let folder = folder(1);
        spoil(folder.path(), name);
        let error = match DataLoader::new(config(&folder, &replica)) {
            Err(error) => error,
            Ok(mut loader) => loop {
                match loader.next_batch() {
                    Ok(Some(_)) => {}
                    Ok(None) => panic!("{name} was not noticed"),
                    Err(error) => break error,
                }
            },
        };
        assert!(error.to_string().contains(name), "{error}");
    }
    let good = folder(1);
    assert_eq!(
        run(config(&good, &replica)).len(),
        6,
        "the replica lives on"
    );
}

#[test]
fn substitutes_come_from_the_same_bucket_and_are_the_same_every_time() {
    let (folder, replica) = (folder(1), replica("builtin:tiny"));
    for name in BAD {
        spoil(folder.path(), name);
    }
    let bad_samples = BadSamples::Substitute;
    let config = Config {
        bad_samples,
        epochs: Some(2),
        ..config(&folder, &replica)
    };
    let mut loader = DataLoader::new(config.clone()).unwrap();
    let mut delivered = Vec::new();
    for epoch in 0..2 {
        let mut places = BTreeMap::new();
        while let Some(batch) = loader.next_batch().unwrap() {
            assert_eq!(batch.epoch, epoch);
            for sample in batch.samples.iter().filter(|sample| !sample.padding) {
                // Whose place it is, and who stands there.
                let place = sample.substitute_of.unwrap_or(sample.id);
                assert!(
                    places.insert(place, sample.id).is_none(),
                    "{place} came twice"
                );
                assert!(
                    !BAD.iter().any(|bad| sample.key.ends_with(bad)),
                    "{}",
                    sample.key
                );
            }
        }
        assert_eq!(places.len(), 28, "every place once");
        assert_eq!(places.iter().filter(|(place, id)| place != id).count(), 4);
        delivered.push(places);
    }
    let stats = loader.stats();
    assert_eq!(stats.bad_samples, 4);
    for name in BAD {
        let bad = stats.bad.iter().find(|bad| bad.key.ends_with(name));
        assert!(
            bad.is_some_and(|bad| !bad.reason.is_empty()),
            "{name} is not in the report"
        );
    }
    let again = run(config);
    let repeated = again
        .iter()
        .filter(|batch| batch.epoch == 1)
        .flat_map(|batch| &batch.samples);
    for sample in repeated.filter(|sample| !sample.padding) {
        let place = sample.substitute_of.unwrap_or(sample.id);
        assert_eq!(
            delivered[1][&place], sample.id,
            "another substitute at {place}"
        );
    }
}
