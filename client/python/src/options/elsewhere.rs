//! Where samples, replicas and kept latents are, and how to get in.

use std::path::PathBuf;

use preheat_client::{
    CacheConfig, CacheMode, CacheWhat, Check, Config, Mix, MixSource, Security, Share, Source,
    dataset::{
        StoreOptions,
        format::{Columns, Format},
    },
};
use pyo3::prelude::*;

use super::take::Options;

pub(super) fn apply(options: &Options<'_>, config: &mut Config) -> PyResult<()> {
    let Source {
        uri,
        store,
        format,
        index,
        check,
        ..
    } = source(options)?;
    (config.dataset, config.store, config.format) = (uri, store, format);
    (config.index, config.index_check) = (index, check);
    let epoch_samples = options.get("epoch_samples", "a whole number, 1 or more")?;
    if let Some(given) = options.each("mix")? {
        let sources = given
            .iter()
            .map(|(name, options)| mix_source(name, options));
        config.mix = Some(Mix {
            sources: sources.collect::<PyResult<_>>()?,
            epoch_samples,
        });
    }
    config.security = security(options)?;
    Ok(())
}

/// One dataset of several.
fn mix_source(name: &str, options: &Options<'_>) -> PyResult<MixSource> {
    let number = "a number, 0 or more";
    let (weight, repeats) = (
        options.get("weight", number)?,
        options.get("repeats", number)?,
    );
    // That a source has one of them, and all the same one, the package has seen to.
    let share = match weight {
        Some(weight) => Share::Weight(weight),
        None => Share::Repeats(repeats.unwrap_or(1.0)),
    };
    let source = source(options)?;
    options.all_taken()?;
    Ok(MixSource::new(name, source, share))
}

/// Where one dataset is.
fn source(options: &Options<'_>) -> PyResult<Source> {
    let mut source = Source::new(options.path("dataset")?.unwrap_or_default());
    source.format = format(options)?;
    source.index = options.path("index")?;
    if let Some(false) = options.get("index_check", "True or False")? {
        source.check = Check::Never;
    }
    if let Some(store) = options.nested("store")? {
        source.store = self::store(&store)?;
    }
    Ok(source)
}

pub(crate) fn security(options: &Options<'_>) -> PyResult<Security> {
    Ok(Security {
        ca_file: options.path("ca_file")?,
        client_cert: options.path("client_cert")?,
        client_key: options.path("client_key")?,
        server_name: options.get("server_name", "a string")?,
        token_file: options.path("token_file")?,
    })
}

fn format(options: &Options<'_>) -> PyResult<Option<Format>> {
    let columns = Columns {
        image: options.get("image_column", "the name of a column")?,
        parts: options.get("columns", "a list of names of columns")?,
    };
    let given = columns != Columns::default();
    let found = options.read("format", |name| {
        let must =
            "one of \"folder\", \"tar\", \"parquet\", \"mds\", \"frames at 24\" (or another rate)";
        let name = super::take::extract::<String>(name, must)?;
        let format = Format::named(&name);
        format.ok_or_else(|| format!("is \"{name}\", must be {must}"))
    })?;
    match found {
        Some(columned @ (Format::Parquet(_) | Format::Mds(_))) => {
            Ok(Some(columned.with_columns(columns)))
        }
        _ if given => {
            let reason = "are for format=\"parquet\" and format=\"mds\": say which of them it is";
            Err(options.refuse("columns", reason))
        }
        other => Ok(other),
    }
}

fn store(given: &Options<'_>) -> PyResult<StoreOptions> {
    let objects = given.get("objects", "a list of paths")?;
    let mut store = StoreOptions {
        endpoint: given.get("endpoint", "a URI")?,
        objects: objects.unwrap_or_default(),
        ..StoreOptions::default()
    };
    let settings = given.nested("settings")?;
    if let Some(settings) = settings {
        store.settings = settings.texts()?;
    }
    if let Some(requests) = given.get("requests", "a whole number")? {
        store.requests = requests;
    }
    for (name, time) in [
        ("connect_timeout", &mut store.connect_timeout),
        ("request_timeout", &mut store.request_timeout),
        ("retry_for", &mut store.retry_for),
    ] {
        if let Some(seconds) = given.seconds(name)? {
            *time = seconds;
        }
    }
    given.all_taken()?;
    Ok(store)
}

pub(super) fn cache(given: &Options<'_>) -> PyResult<CacheConfig> {
    let folder: PathBuf = given.path("folder")?.unwrap_or_default();
    let bytes = given.get("max_bytes", "a number of bytes")?;
    let Some(bytes) = bytes else {
        let reason = "is missing: say how many bytes the folder may hold";
        return Err(given.refuse("max_bytes", reason));
    };
    let mut cache = CacheConfig::new(folder, bytes);
    let modes = [
        ("read", CacheMode::Read),
        ("write", CacheMode::Write),
        ("both", CacheMode::Both),
    ];
    if let Some(mode) = given.read("mode", |value| super::choices::named(value, &modes, ""))? {
        cache.mode = mode;
    }
    let whats = [
        ("latents", CacheWhat::Latents),
        ("moments", CacheWhat::Moments),
    ];
    if let Some(what) = given.read("what", |value| super::choices::named(value, &whats, ""))? {
        cache.what = what;
    }
    if let Some(keep) = given.seconds("keep")? {
        cache.keep = keep;
    }
    given.all_taken()?;
    Ok(cache)
}
