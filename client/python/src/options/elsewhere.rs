//! Where samples, replicas and kept latents are, and how to get in.

use std::path::PathBuf;

use preheat_client::{
    CacheConfig, CacheMode, CacheWhat, Check, Config, Security,
    dataset::{
        StoreOptions,
        format::{Columns, Format},
    },
};
use pyo3::prelude::*;

use super::take::Options;
use crate::error::config as refuse;

pub(super) fn apply(options: &Options<'_>, config: &mut Config) -> PyResult<()> {
    config.format = format(options)?;
    config.index = options.path("index")?;
    if let Some(false) = options.get("index_check", "True or False")? {
        config.index_check = Check::Never;
    }
    if let Some(store) = options.nested("store")? {
        config.store = self::store(&store)?;
    }
    config.security = security(options)?;
    Ok(())
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
        let must = "one of \"folder\", \"tar\", \"parquet\", \"mds\"";
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
            Err(refuse(options.py(), "columns", reason))
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
        return Err(refuse(given.py(), "cache.max_bytes", reason));
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
