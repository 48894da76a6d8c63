//! What the package passes on, as a config of the core.
//!
//! The package's signature says what there is and what it defaults to; an option that is not given, or
//! `None`, is the core's own default.

mod choices;
mod elsewhere;
mod take;

use preheat_client::{Config, EncoderConfig, Pace, State};
use pyo3::{prelude::*, types::PyDict};

pub(crate) use self::{choices::crop, take::Options};
use crate::error::raise;

/// Sets a field where an option is given.
macro_rules! set {
    ($config:ident.$field:ident, $given:expr) => {
        if let Some(value) = $given? {
            $config.$field = value;
        }
    };
}

/// A config of everything that is given.
pub(crate) fn parse(given: &Bound<'_, PyDict>) -> PyResult<Config> {
    let options = Options::new(given)?;
    let config = convert(&options)?;
    options.all_taken()?;
    config.check().map_err(|error| raise(given.py(), &error))?;
    Ok(config)
}

/// What an encoder is asked to be.
pub(crate) fn encoder(options: &Options<'_>) -> PyResult<EncoderConfig> {
    let text = |name| options.get::<String>(name, "a string");
    let (endpoint, model) = (text("endpoint")?, text("model")?);
    let mut config = EncoderConfig::new(endpoint.unwrap_or_default(), model.unwrap_or_default());
    config.security = elsewhere::security(options)?;
    set!(
        config.posterior,
        options.read("posterior", choices::posterior)
    );
    set!(config.scale, options.read("scale", choices::scale));
    set!(config.dtype, options.read("dtype", choices::dtype));
    set!(config.filter, options.read("filter", choices::filter));
    set!(config.connect_timeout, options.seconds("connect_timeout"));
    set!(config.attempt_timeout, options.seconds("attempt_timeout"));
    set!(config.patience, options.seconds("patience"));
    Ok(config)
}

/// Checks what can be checked without a dataset or a replica.
#[pyfunction]
pub(crate) fn check(options: &Bound<'_, PyDict>) -> PyResult<()> {
    parse(options).map(drop)
}

/// The core's defaults, for the package's signature to be held against.
#[pyfunction]
pub(crate) fn defaults(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let ours = Config::new("", "", "");
    let all = PyDict::new(py);
    all.set_item("batch_size", ours.global_batch)?;
    all.set_item("target_area", ours.target_area)?;
    all.set_item("bucket_step", ours.bucket_step)?;
    all.set_item("max_aspect", ours.max_aspect)?;
    all.set_item("window_bytes", ours.window_bytes)?;
    all.set_item("max_batches_ahead", ours.max_batches_ahead)?;
    all.set_item("max_bad_share", ours.max_bad_share)?;
    all.set_item("connections", ours.connections)?;
    all.set_item("weight", ours.weight)?;
    all.set_item("connect_timeout", ours.connect_timeout.as_secs_f64())?;
    all.set_item("attempt_timeout", ours.attempt_timeout.as_secs_f64())?;
    all.set_item("patience", ours.patience.as_secs_f64())?;
    all.set_item("clip_timeout", ours.clip_timeout.as_secs_f64())?;
    Ok(all)
}

fn convert(options: &Options<'_>) -> PyResult<Config> {
    let text = "a string";
    let mut config = Config::new(
        "",
        options.get("endpoint", text)?.unwrap_or(String::new()),
        options.get("model", text)?.unwrap_or(String::new()),
    );
    elsewhere::apply(options, &mut config)?;
    order(options, &mut config)?;
    pictures(options, &mut config)?;
    clips(options, &mut config)?;
    bad_samples(options, &mut config)?;
    fleet(options, &mut config)?;
    Ok(config)
}

fn order(options: &Options<'_>, config: &mut Config) -> PyResult<()> {
    let count = "a whole number, 0 or more";
    set!(config.global_batch, options.get("global_batch", count));
    set!(config.rank, options.get("rank", count));
    set!(config.world_size, options.get("world_size", count));
    set!(config.seed, options.get("seed", count));
    config.epochs = options.get("epochs", count)?;
    set!(config.repeats, options.get("repeats", count));
    set!(config.weights, options.read("weights", choices::weights));
    set!(config.shuffle, options.read("shuffle", choices::shuffle));
    set!(config.tail, options.read("tail", choices::tail));
    set!(config.subset, options.read("subset", choices::subset));
    if let Some(state) = options.get::<String>("resume", "a state, as state_dict() returns it")? {
        let state = State::from_json(&state).map_err(|error| raise(options.py(), &error))?;
        config.resume = Some(state);
    }
    Ok(())
}

fn pictures(options: &Options<'_>, config: &mut Config) -> PyResult<()> {
    let (count, number) = ("a whole number, 0 or more", "a number");
    set!(config.target_area, options.get("target_area", count));
    set!(config.bucket_step, options.get("bucket_step", count));
    set!(config.max_aspect, options.get("max_aspect", number));
    set!(config.bucketing, options.read("buckets", choices::buckets));
    let rule = options.read("small_buckets", choices::small_buckets);
    set!(config.small_buckets, rule);
    set!(config.filter, options.read("filter", choices::filter));
    set!(config.flip, options.get("flip", number));
    set!(config.crop, options.read("crop", choices::crop));
    set!(
        config.caption_dropout,
        options.get("caption_dropout", number)
    );
    set!(
        config.posterior,
        options.read("posterior", choices::posterior)
    );
    set!(config.scale, options.read("scale", choices::scale));
    set!(config.dtype, options.read("dtype", choices::dtype));
    Ok(())
}

fn clips(options: &Options<'_>, config: &mut Config) -> PyResult<()> {
    set!(config.frames, options.read("frames", choices::frames));
    let stride = options.get("stride", "a whole number, 1 or more")?;
    match (options.read("fps", choices::rate)?, stride) {
        (Some(_), Some(_)) => {
            let reason = "is given, and so is `fps`: a clip has one of them";
            return Err(options.refuse("stride", reason));
        }
        (Some(rate), None) => config.pace = Pace::Rate(rate),
        (None, Some(stride)) => config.pace = Pace::Stride(stride),
        (None, None) => {}
    }
    set!(
        config.clip_start,
        options.read("clip_start", choices::clip_start)
    );
    set!(
        config.clip_encoding,
        options.read("clip_encoding", choices::clip_encoding)
    );
    config.clip_decoders = options.get("clip_decoders", "a whole number, 1 or more")?;
    set!(config.clip_timeout, options.seconds("clip_timeout"));
    Ok(())
}

fn bad_samples(options: &Options<'_>, config: &mut Config) -> PyResult<()> {
    let policy = options.read("bad_samples", choices::bad_samples);
    set!(config.bad_samples, policy);
    let count = "a whole number, 0 or more";
    config.max_bad_samples = options.get("max_bad_samples", count)?;
    set!(
        config.max_bad_share,
        options.get("max_bad_share", "a number, 0 to 1")
    );
    config.bad_sample_report = options.path("bad_sample_report")?;
    Ok(())
}

fn fleet(options: &Options<'_>, config: &mut Config) -> PyResult<()> {
    let count = "a whole number, 0 or more";
    set!(config.window_bytes, options.get("window_bytes", count));
    set!(
        config.max_batches_ahead,
        options.get("max_batches_ahead", count)
    );
    config.chunk_items = options.get("chunk_items", count)?;
    config.chunk_pixels = options.get("chunk_pixels", count)?;
    config.trainer = options.get("trainer", "a string")?;
    set!(config.weight, options.get("weight", "a number above 0"));
    set!(config.connections, options.get("connections", count));
    set!(config.connect_timeout, options.seconds("connect_timeout"));
    set!(config.attempt_timeout, options.seconds("attempt_timeout"));
    set!(config.patience, options.seconds("patience"));
    set!(config.headspace, options.get("headspace", "True or False"));
    if let Some(cache) = options.nested("cache")? {
        config.cache = Some(elsewhere::cache(&cache)?);
    }
    Ok(())
}
