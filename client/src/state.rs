//! What to save with a checkpoint: where the run is, and everything that its order and content
//! depend on. A few hundred bytes of JSON that a person can read.

use std::collections::BTreeSet;

use preheat_proto::{Posterior, Scale};
use serde::{Deserialize, Serialize};

use crate::{
    config::{Bucketing, ClipEncoding, Config, Pace, Start},
    dataset::{Mix, MixSource},
    error::Error,
    filter,
    plan::{Block, Crop, ORDER_VERSION, Share, Shuffle, SmallBuckets, Subset, Tail, Weights},
};

/// Version of the layout of [`State`].
pub const STATE_VERSION: u32 = 2;
/// Longest JSON that is read as a state.
pub const MAX_STATE_BYTES: usize = 64 * 1024;
/// Bytes of a mix that is written out; a longer one is named by its hash.
const MAX_MIX: usize = 4096;

/// The next batch to deliver, and what must not have changed until then. Neither rank nor world
/// size is part of it: every rank saves the same state, and any number of ranks can restore it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// [`STATE_VERSION`].
    pub state_version: u32,
    /// Epoch of the next batch.
    pub epoch: u64,
    /// Its step; equal to the number of steps where the end of the epoch comes next.
    pub step: u64,
    /// What the sequence depends on.
    pub run: Identity,
}

/// Everything that changes the order or the content of what is delivered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "named after the fields of `Config`")]
pub struct Identity {
    /// [`ORDER_VERSION`].
    pub order_version: u32,
    pub seed: u64,
    /// Hash of all keys, image sizes in bytes and pixels, and parts.
    pub dataset_fingerprint: String,
    pub dataset_samples: u64,
    pub model_fingerprint: String,
    pub global_batch: u32,
    pub shuffle: String,
    pub tail: String,
    pub target_area: u64,
    pub bucket_step: u32,
    pub max_aspect: f64,
    pub bucketing: String,
    /// How clips are cut; left out of a run of images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clips: Option<String>,
    pub small_buckets: String,
    pub subset: String,
    pub repeats: u32,
    #[serde(default = "equal")]
    pub weights: String,
    /// Names and shares of the sources.
    #[serde(default = "no_mix")]
    pub mix: String,
    pub filter: String,
    pub crop: String,
    pub flip: f32,
    pub caption_dropout: f32,
    pub posterior: String,
    pub scale: String,
    pub dtype: String,
}

impl State {
    /// As JSON, for a person to read and for [`Self::from_json`].
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("strings and finite numbers only")
    }

    /// Reads what [`Self::to_json`] wrote.
    ///
    /// # Errors
    /// [`Error::State`] for anything else, or another version.
    pub fn from_json(json: &str) -> Result<Self, Error> {
        if json.len() > MAX_STATE_BYTES {
            let bytes = json.len();
            return Err(Error::State(format!(
                "{bytes} bytes, over {MAX_STATE_BYTES}"
            )));
        }
        let value: serde_json::Value = serde_json::from_str(json)
            .map_err(|error| Error::State(format!("not JSON: {error}")))?;
        // The version first: the fields of another version would only confuse the message.
        match value
            .get("state_version")
            .and_then(serde_json::Value::as_u64)
        {
            Some(version) if version == u64::from(STATE_VERSION) => {}
            Some(version) => {
                return Err(Error::State(format!(
                    "state_version is {version}, this release reads {STATE_VERSION}: use the \
                     release that wrote it"
                )));
            }
            None => return Err(Error::State("has no state_version".into())),
        }
        serde_json::from_value(value).map_err(|error| Error::State(error.to_string()))
    }
}

impl Identity {
    pub(crate) fn new(config: &Config, dataset: (String, u64), model_fingerprint: String) -> Self {
        let (dataset_fingerprint, dataset_samples) = dataset;
        let posterior = match config.posterior {
            Posterior::Mode => "mode",
            Posterior::Sample => "sample",
            Posterior::Moments => "moments",
        };
        let scale = match config.scale {
            Scale::Raw => "raw",
            Scale::Normalized => "normalized",
        };
        let tail = match config.tail {
            Tail::Pad => "pad",
            Tail::Drop => "drop",
            Tail::Short => "short",
        };
        Self {
            order_version: ORDER_VERSION,
            seed: config.seed,
            dataset_fingerprint,
            dataset_samples,
            model_fingerprint,
            global_batch: config.global_batch,
            shuffle: shuffle(&config.shuffle),
            tail: tail.into(),
            target_area: config.target_area,
            bucket_step: config.bucket_step,
            max_aspect: config.max_aspect,
            bucketing: bucketing(&config.bucketing),
            clips: clips(config),
            small_buckets: small_buckets(config.small_buckets),
            subset: subset(&config.subset),
            repeats: config.repeats,
            weights: weights(&config.weights),
            mix: config.mix.as_ref().map_or_else(no_mix, mix),
            filter: filter::name(config.filter).into(),
            crop: crop(config.crop),
            flip: config.flip,
            caption_dropout: config.caption_dropout,
            posterior: posterior.into(),
            scale: scale.into(),
            dtype: config.dtype.to_string(),
        }
    }

    /// Compares with a saved one.
    ///
    /// # Errors
    /// [`Error::StateMismatch`] with every field that differs.
    pub(crate) fn accept(&self, saved: &Self) -> Result<(), Error> {
        // Over the serialised form, so that a new field cannot be forgotten here.
        let table = |identity| match serde_json::to_value(identity) {
            Ok(serde_json::Value::Object(fields)) => fields,
            _ => serde_json::Map::new(),
        };
        let (saved, now) = (table(saved), table(self));
        let names: BTreeSet<_> = saved.keys().chain(now.keys()).collect();
        let none = serde_json::Value::Null;
        let fields: Vec<_> = names
            .into_iter()
            .map(|name| (name, saved.get(name), now.get(name)))
            .filter(|(_, was, is)| was != is)
            .map(|(name, was, is)| {
                let (was, is) = (was.unwrap_or(&none), is.unwrap_or(&none));
                format!("{name} was {was}, is {is}")
            })
            .collect();
        if fields.is_empty() {
            return Ok(());
        }
        Err(Error::StateMismatch { fields })
    }
}

fn shuffle(shuffle: &Shuffle) -> String {
    match shuffle {
        Shuffle::Full => "full".into(),
        Shuffle::None => "none".into(),
        Shuffle::Blocked(Block::Shards(shards)) => format!("blocked by {shards} shards"),
        Shuffle::Blocked(Block::Samples(samples)) => format!("blocked by {samples} samples"),
        Shuffle::Given(ids) => format!("given, {}", list(ids)),
    }
}

fn bucketing(bucketing: &Bucketing) -> String {
    match bucketing {
        Bucketing::Aspect => "aspect".into(),
        Bucketing::Areas(areas) => format!("areas {}", join(areas)),
        Bucketing::Sizes(sizes) => format!("sizes {}", join(sizes)),
    }
}

/// What changes which frames are delivered, and in what form.
fn clips(config: &Config) -> Option<String> {
    let spec = config.clip_spec()?;
    let pace = match spec.pace {
        Pace::Rate(rate) => format!("{rate} a second"),
        Pace::Stride(stride) => format!("stride {stride}"),
    };
    let start = match spec.start {
        Start::Random => "random",
        Start::First => "first",
        Start::Center => "center",
        Start::Windows => "windows",
    };
    let encoding = match config.clip_encoding {
        ClipEncoding::Jpeg { quality } => format!("jpeg {quality}"),
        ClipEncoding::Png => "png".into(),
        ClipEncoding::Rgb8 => "rgb8".into(),
        ClipEncoding::AsIs => "as is".into(),
    };
    let frames = join(&spec.frames);
    Some(format!("{frames} frames, {pace}, {start}, {encoding}"))
}

fn small_buckets(rule: SmallBuckets) -> String {
    match rule {
        SmallBuckets::Keep => "keep".into(),
        SmallBuckets::Merge { below } => format!("merge below {below}"),
        SmallBuckets::Drop { below } => format!("drop below {below}"),
    }
}

fn subset(subset: &Subset) -> String {
    match subset {
        Subset::All => "all".into(),
        Subset::Range { start, end } => format!("ids {start}..{end}"),
        Subset::Fraction { from, to, seed } => format!("{from} to {to} by seed {seed}"),
        Subset::Ids(ids) => list(ids),
    }
}

/// Of states that were saved when there was nothing else.
fn equal() -> String {
    weights(&Weights::Equal)
}

fn weights(weights: &Weights) -> String {
    match weights {
        Weights::Equal => "equal".into(),
        Weights::Given(list) => {
            let bytes = list.iter().map(|weight| weight.to_le_bytes());
            format!("{} weights, blake3 {}", list.len(), hash(bytes))
        }
    }
}

fn no_mix() -> String {
    "none".into()
}

fn mix(mix: &Mix) -> String {
    let source = |source: &MixSource| {
        let MixSource { name, share, .. } = source;
        match share {
            Share::Repeats(times) => format!("{name:?} {times} times"),
            Share::Weight(weight) => format!("{name:?} by weight {weight}"),
        }
    };
    let sources: Vec<_> = mix.sources.iter().map(source).collect();
    let mut text = sources.join(", ");
    if text.len() > MAX_MIX {
        let hash = blake3::hash(text.as_bytes()).to_hex();
        text = format!("{} sources, blake3 {hash}", sources.len());
    }
    match mix.epoch_samples {
        Some(samples) => format!("{text}, {samples} samples an epoch"),
        None => text,
    }
}

fn crop(crop: Crop) -> String {
    match crop {
        Crop::Center => "center".into(),
        Crop::Random => "random".into(),
        Crop::RandomResized { least, most } => format!("random resized, {least} to {most}"),
    }
}

/// Sorted: their order does not count.
fn join<T: ToString + Ord>(all: &[T]) -> String {
    let mut all: Vec<_> = all.iter().collect();
    all.sort_unstable();
    let all: Vec<_> = all.into_iter().map(T::to_string).collect();
    all.join(" ")
}

/// A long list by its hash.
fn list(ids: &[u64]) -> String {
    let bytes = ids.iter().map(|id| id.to_le_bytes());
    format!("{} ids, blake3 {}", ids.len(), hash(bytes))
}

fn hash<const N: usize>(numbers: impl Iterator<Item = [u8; N]>) -> String {
    let mut hasher = blake3::Hasher::new();
    // In large pieces: a hundred million numbers are a second else.
    let mut piece = Vec::with_capacity(1 << 16);
    for number in numbers {
        piece.extend(number);
        if piece.len() >= 1 << 16 {
            hasher.update(&piece);
            piece.clear();
        }
    }
    hasher.update(&piece);
    hasher.finalize().to_hex().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> State {
        let config = Config::new("photos", "http://[::1]:1", "vae");
        State {
            state_version: STATE_VERSION,
            epoch: 3,
            step: 14,
            run: Identity::new(&config, ("ab".into(), 100), "cd".into()),
        }
    }

    #[test]
    fn json_round_trip() {
        let json = state().to_json();
        assert!(json.contains("\"tail\": \"pad\""), "{json}");
        assert_eq!(State::from_json(&json).unwrap(), state());
        // Saved before there were weights.
        let older = json.replace("    \"weights\": \"equal\",\n    \"mix\": \"none\",\n", "");
        assert_ne!(older, json);
        assert_eq!(State::from_json(&older).unwrap(), state());
    }

    #[test]
    fn rubbish_is_refused() {
        let text = |json: &str| State::from_json(json).unwrap_err().to_string();
        assert!(text("{").contains("not JSON"));
        assert!(text("{}").contains("has no state_version"));
        let newer = state()
            .to_json()
            .replace("\"state_version\": 2", "\"state_version\": 3");
        assert!(text(&newer).contains("state_version is 3, this release reads 2"));
        let odd = state().to_json().replace("\"flip\"", "\"flop\"");
        assert!(text(&odd).contains("flop"));
    }

    #[test]
    fn all_differences_are_named() {
        let ours = state().run;
        let mut saved = ours.clone();
        ours.accept(&saved).unwrap();
        saved.subset = subset(&Subset::Ids([3, 4].into()));
        saved.seed = 9;
        saved.weights = weights(&Weights::Given([1.0, 2.0].into()));
        saved.crop = "random".into();
        let text = ours.accept(&saved).unwrap_err().to_string();
        assert!(text.contains("seed was 9, is 0"), "{text}");
        assert!(
            text.contains("crop was \"random\", is \"center\""),
            "{text}"
        );
        assert!(text.contains("subset was \"2 ids, blake3 "), "{text}");
        assert!(text.contains("weights was \"2 weights, blake3 "), "{text}");
        assert!(!text.contains("tail"), "{text}");
    }
}
