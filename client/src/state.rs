//! What to save with a checkpoint: where the run is, and everything that its order and content
//! depend on. A few hundred bytes of JSON that a person can read.

use preheat_proto::{Filter, Posterior, Scale};
use serde::{Deserialize, Serialize};

use crate::{
    config::Config,
    error::Error,
    plan::{Crop, ORDER_VERSION, Shuffle, Tail},
};

/// Version of the layout of [`State`].
pub const STATE_VERSION: u32 = 1;
/// Longest JSON that is read as a state.
pub const MAX_STATE_BYTES: usize = 64 * 1024;

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
    pub filter: String,
    pub crop: String,
    pub flip: bool,
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
        let filter = match config.filter {
            Filter::Bilinear => "bilinear",
            Filter::Bicubic => "bicubic",
            Filter::Lanczos => "lanczos",
        };
        let posterior = match config.posterior {
            Posterior::Mode => "mode",
            Posterior::Sample => "sample",
            Posterior::Moments => "moments",
        };
        let scale = match config.scale {
            Scale::Raw => "raw",
            Scale::Normalized => "normalized",
        };
        let crop = match config.crop {
            Crop::Center => "center",
            Crop::Random => "random",
        };
        let shuffle = match config.shuffle {
            Shuffle::Full => "full",
            Shuffle::None => "none",
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
            shuffle: shuffle.into(),
            tail: tail.into(),
            target_area: config.target_area,
            bucket_step: config.bucket_step,
            max_aspect: config.max_aspect,
            filter: filter.into(),
            crop: crop.into(),
            flip: config.flip,
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
        let saved = table(saved);
        let fields: Vec<_> = table(self)
            .iter()
            .filter(|(name, now)| saved.get(*name) != Some(now))
            .map(|(name, now)| format!("{name} was {}, is {now}", saved[name]))
            .collect();
        if fields.is_empty() {
            return Ok(());
        }
        Err(Error::StateMismatch { fields })
    }
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
    }

    #[test]
    fn rubbish_is_refused() {
        let text = |json: &str| State::from_json(json).unwrap_err().to_string();
        assert!(text("{").contains("not JSON"));
        assert!(text("{}").contains("has no state_version"));
        let newer = state()
            .to_json()
            .replace("\"state_version\": 1", "\"state_version\": 2");
        assert!(text(&newer).contains("state_version is 2, this release reads 1"));
        let odd = state().to_json().replace("\"flip\"", "\"flop\"");
        assert!(text(&odd).contains("flop"));
    }

    #[test]
    fn all_differences_are_named() {
        let ours = state().run;
        let mut saved = ours.clone();
        ours.accept(&saved).unwrap();
        saved.seed = 9;
        saved.crop = "random".into();
        let text = ours.accept(&saved).unwrap_err().to_string();
        assert!(text.contains("seed was 9, is 0"), "{text}");
        assert!(
            text.contains("crop was \"random\", is \"center\""),
            "{text}"
        );
        assert!(!text.contains("tail"), "{text}");
    }
}
