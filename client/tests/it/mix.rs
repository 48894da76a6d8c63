//! Several datasets as one.

use std::{collections::BTreeMap, fs};

use preheat_client::{
    BadSamples, Block, Config, DataLoader, Dataset, Error, Mix, MixSource, Share, Shuffle, Source,
    Weights,
};
use preheat_proto::ItemCode;
use tempfile::TempDir;

use crate::{
    formats::has,
    photos::{Photos, png},
    stub::{Act, Stub, drain},
};

/// A folder, and two tar shards with captions.
pub(crate) struct Both {
    pub(crate) photos: Photos,
    pub(crate) tars: TempDir,
}

impl Both {
    pub(crate) fn new(photos: Photos, in_each: [u8; 2]) -> Self {
        let tars = TempDir::new().unwrap();
        for (shard, count) in in_each.into_iter().enumerate() {
            let mut tar = tar::Builder::new(Vec::new());
            let mut add = |name: String, bytes: &[u8]| {
                let mut header = tar::Header::new_ustar();
                header.set_size(bytes.len() as u64);
                header.set_mode(0o644);
                tar.append_data(&mut header, name, bytes).unwrap();
            };
            for at in 0..count {
                let (width, height) = [(40, 30), (30, 40), (36, 36)][at as usize % 3];
                let tint = 128 + 16 * shard as u8 + at;
                add(format!("{shard}-{at:03}.png"), &png(tint, width, height));
                add(
                    format!("{shard}-{at:03}.txt"),
                    format!("number {at}").as_bytes(),
                );
            }
            let path = tars.path().join(format!("{shard}.tar"));
            fs::write(path, tar.into_inner().unwrap()).unwrap();
        }
        Self { photos, tars }
    }

    pub(crate) fn mix(&self, shares: [Share; 2]) -> Mix {
        let tars = Source {
            index: Some(self.photos.beside.path().join("tars.index")),
            ..Source::new(self.tars.path())
        };
        Mix::new([
            MixSource::new("folder", self.photos.source(), shares[0]),
            MixSource::new("tars", tars, shares[1]),
        ])
    }

    pub(crate) fn config(&self, shares: [Share; 2], endpoint: &str) -> Config {
        let mut config = self.photos.config(endpoint);
        config.dataset = "".into();
        config.index = None;
        config.mix = Some(self.mix(shares));
        config
    }
}

fn dataset(mix: &Mix) -> Result<Dataset, Error> {
    Dataset::open(mix, BadSamples::Substitute, &|_| {})
}

#[test]
fn sources_are_one_after_the_other() {
    let both = Both::new(Photos::new(5), [3, 2]);
    let mix = both.mix([Share::Repeats(1.0); 2]);
    let dataset = dataset(&mix).unwrap();
    let keys: Vec<_> = (0..dataset.len()).map(|id| dataset.key(id)).collect();
    assert_eq!(keys.len(), 10);
    assert_eq!((&*keys[4], &*keys[5]), ("folder/004.png", "tars/0-000"));
    assert_eq!(
        (&*keys[8], dataset.source_of(4), dataset.source_of(5)),
        ("tars/1-000", 0, 1)
    );
    assert_eq!(dataset.shard_starts(), [0, 5, 8]);
    let names: Vec<_> = dataset.sources().iter().map(|one| one.name()).collect();
    assert_eq!(names, ["folder", "tars"]);
    // Names are part of what the samples are called.
    let mut renamed = mix.clone();
    renamed.sources[0].name = "photos".into();
    let renamed = Dataset::open(renamed, BadSamples::Fail, &|_| {}).unwrap();
    assert_ne!(renamed.fingerprint(), dataset.fingerprint());
}

#[test]
fn shares_are_delivered_with_what_travels_along() {
    let both = Both::new(Photos::new(6), [3, 2]);
    let stub = Stub::answering();
    let orders = [
        Shuffle::Full,
        Shuffle::Blocked(Block::Shards(1)),
        Shuffle::None,
    ];
    for shuffle in orders {
        let mut config = both.config([Share::Repeats(0.5), Share::Repeats(2.0)], &stub.uri());
        config.shuffle = shuffle;
        config.epochs = Some(4);
        let mut loader = DataLoader::new(config).unwrap();
        let mut times = BTreeMap::new();
        for sample in drain(&mut loader, 4)
            .into_iter()
            .flat_map(|batch| batch.samples)
        {
            assert_eq!(sample.source, usize::from(sample.id >= 6));
            let name = ["folder", "tars"][sample.source];
            assert!(
                sample.key.starts_with(&format!("{name}/")),
                "{}",
                sample.key
            );
            assert_eq!(sample.parts.len(), sample.source);
            if !sample.padding {
                *times.entry((sample.source, sample.id)).or_insert(0) += 1;
            }
        }
        let tars: Vec<_> = times
            .iter()
            .filter(|((source, _), _)| *source == 1)
            .collect();
        assert!(
            tars.len() == 5 && tars.iter().all(|(_, times)| **times == 8),
            "{tars:?}"
        );
        // Two of each shape: a half of them is one, in every epoch.
        let folder = times.iter().filter(|((source, _), _)| *source == 0);
        assert_eq!(folder.map(|(_, times)| times).sum::<i32>(), 12);
    }
}

#[test]
fn states_belong_to_the_shares_and_the_weights() {
    let both = Both::new(Photos::new(6), [3, 2]);
    let stub = Stub::answering();
    let config = both.config([Share::Weight(0.5), Share::Weight(0.5)], &stub.uri());
    let state = DataLoader::new(config.clone()).unwrap().state();
    let refused = |change: fn(&mut Config)| {
        let mut config = config.clone();
        config.resume = Some(state.clone());
        change(&mut config);
        DataLoader::new(config).err().unwrap().to_string()
    };
    let shares = refused(|config| {
        config.mix.as_mut().unwrap().sources[1].share = Share::Weight(0.75);
    });
    has(&shares, &["mix was", "by weight 0.5", "by weight 0.75"]);
    assert!(!shares.contains("fingerprint"), "{shares}");
    let longer = refused(|config| config.mix.as_mut().unwrap().epoch_samples = Some(40));
    has(&longer, &["mix was", "40 samples an epoch"]);
    let weights = refused(|config| config.weights = Weights::Given(vec![2.0; 11].into()));
    has(
        &weights,
        &["weights was \"equal\", is \"11 weights, blake3"],
    );
    let names = refused(|config| config.mix.as_mut().unwrap().sources[1].name = "shards".into());
    has(&names, &["dataset_fingerprint was", "mix was"]);
}

#[test]
fn bad_samples_are_named_with_their_source() {
    let both = Both::new(Photos::new(6), [3, 2]);
    // Of the second shard.
    let stub = Stub::start(|_, _| Act::Items(vec![(9, ItemCode::BadImage)]));
    let report = both.photos.beside.path().join("bad.jsonl");
    let mut config = both.config([Share::Repeats(1.0); 2], &stub.uri());
    config.bad_samples = BadSamples::Skip;
    config.bad_sample_report = Some(report.clone());
    drain(&mut DataLoader::new(config.clone()).unwrap(), 1);
    let report = fs::read_to_string(report).unwrap();
    has(
        &report,
        &[r#""key":"tars/1-000","source":"tars","shard":"1.tar""#],
    );
    // What the index finds.
    both.photos.write("bad.png", b"no image");
    config.bad_samples = BadSamples::Fail;
    let text = DataLoader::new(config).err().unwrap().to_string();
    has(&text, &["`folder/bad.png`"]);
}

#[test]
fn nonsense_is_refused_by_name() {
    let both = Both::new(Photos::new(3), [2, 0]);
    let mix = both.mix([Share::Repeats(1.0); 2]);
    // The second shard is an empty tar.
    has(
        &dataset(&mix).unwrap_err().to_string(),
        &["1.tar", "source `tars` of `mix`"],
    );
    let refused = |change: &dyn Fn(&mut Mix)| {
        let mut mix = mix.clone();
        change(&mut mix);
        dataset(&mix).unwrap_err().to_string()
    };
    let gone = refused(&|mix| mix.sources[1].source = Source::new(both.tars.path().join("gone")));
    has(&gone, &["gone", "source `tars` of `mix`"]);
    let empty = TempDir::new().unwrap();
    has(
        &refused(&|mix| mix.sources[1].source = Source::new(empty.path())),
        &["has no", "source `tars`"],
    );
    has(
        &refused(&|mix| mix.sources.clear()),
        &["`mix` has 0 sources"],
    );
    has(
        &refused(&|mix| mix.sources[1].name = "folder".into()),
        &["two sources named `folder`"],
    );
    has(
        &refused(&|mix| mix.sources[1].name = "a/b".into()),
        &["named \"a/b\"", "without `/`"],
    );
    let both = Both::new(Photos::new(3), [2, 1]);
    let config = both.config([Share::Repeats(1.0); 2], "http://[::1]:1");
    let refused = |change: &dyn Fn(&mut Config)| {
        let mut config = config.clone();
        change(&mut config);
        DataLoader::new(config).err().unwrap().to_string()
    };
    has(
        &refused(&|config| config.dataset = "photos".into()),
        &["`dataset` is set, and so is `mix`"],
    );
    has(
        &refused(&|config| config.index = Some("x".into())),
        &["`index` is set"],
    );
    has(
        &refused(&|config| config.mix.as_mut().unwrap().sources[0].share = Share::Repeats(-1.0)),
        &["`mix` has the share Repeats(-1.0) for source 0"],
    );
    let given = refused(&|config| {
        config.mix.as_mut().unwrap().sources[0].share = Share::Repeats(2.0);
        config.shuffle = Shuffle::Given([0].into());
    });
    has(&given, &["`shuffle` is Given", "every source of `mix`"]);
    has(
        &refused(&|config| config.weights = Weights::Given([1.0; 5].into())),
        &["has 5 weights, and the dataset has 6 samples"],
    );
}
