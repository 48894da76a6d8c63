//! From a URI to a store.

use std::{path::Path as FilePath, str::FromStr, sync::Arc, time::Duration};

use object_store::{
    BackoffConfig, ClientConfigKey, ObjectStore, ObjectStoreScheme, RetryConfig,
    aws::AmazonS3Builder, azure::MicrosoftAzureBuilder, gcp::GoogleCloudStorageBuilder,
    http::HttpBuilder, local::LocalFileSystem, path::Path,
};
use tokio::sync::Semaphore;
use url::Url;

use super::{
    FIRST_BACKOFF, Inner, LOCAL_READS, LONGEST_BACKOFF, REQUEST_RETRIES, StoreOptions,
    names::{Names, expand},
};
use crate::error::Error;

/// The schemes, for messages.
const SCHEMES: &str = "a path, file://, s3://, gs://, az:// or http(s)://";

pub(super) fn open(uri: &str, options: &StoreOptions) -> Result<Inner, Error> {
    let wrong = |reason: String| Error::dataset(uri, reason);
    let (base, names) = split(uri, options).map_err(wrong)?;
    let path = base.strip_prefix("file://").unwrap_or(base);
    if base.contains("://") && path.len() == base.len() {
        return remote(uri, base, names, options).map_err(wrong);
    }
    let folder = FilePath::new(if path.is_empty() { "." } else { path });
    let folder = std::fs::canonicalize(folder).map_err(|error| wrong(error.to_string()))?;
    if !folder.is_dir() {
        return Err(wrong("is not a folder, a tar or a Parquet file".into()));
    }
    let objects = LocalFileSystem::new_with_prefix(&folder);
    let objects = objects.map_err(|error| wrong(error.to_string()))?;
    Ok(Inner {
        local: Some(folder),
        permits: Semaphore::new(options.requests.clamp(1, LOCAL_READS)),
        ..inner(uri, Arc::new(objects), Path::ROOT, (names, options))
    })
}

fn inner(
    uri: &str,
    objects: Arc<dyn ObjectStore>,
    prefix: Path,
    (names, options): (Names, &StoreOptions),
) -> Inner {
    let requests = options.requests.clamp(1, Semaphore::MAX_PERMITS);
    Inner {
        uri: uri.to_owned(),
        objects,
        prefix,
        local: None,
        names,
        permits: Semaphore::new(requests),
        patience: options.retry_for + options.request_timeout,
        requests,
    }
}

/// The place, and which objects there are meant.
fn split<'a>(uri: &'a str, options: &StoreOptions) -> Result<(&'a str, Names), String> {
    if !options.objects.is_empty() {
        let names = options.objects.iter().map(|name| expand(name));
        let names: Vec<_> = names.collect::<Result<_, _>>()?;
        return Ok((uri, Names::Listed(names.concat())));
    }
    // A pattern may span directories: `s3://bucket/{00..09}/{000..099}.tar`.
    let pattern = uri.find(['{', '*']).unwrap_or(uri.len());
    let slash = uri[..pattern].rfind('/').map_or(0, |at| at + 1);
    let (base, last) = uri.split_at(slash);
    // A local folder may be called anything.
    if FilePath::new(uri).is_dir() {
        return Ok((uri, Names::All));
    }
    Ok(match Names::parse(last)? {
        Some(names) => (base, names),
        None => (uri, Names::All),
    })
}

fn remote(uri: &str, base: &str, names: Names, options: &StoreOptions) -> Result<Inner, String> {
    let url = Url::parse(base).map_err(|error| format!("is no URI: {error}"))?;
    let (scheme, path) =
        ObjectStoreScheme::parse(&url).map_err(|error| format!("is not {SCHEMES} ({error})"))?;
    trust_ring();
    let plain = options.endpoint.clone().or_else(endpoint_of_environment);
    let plain = plain.is_some_and(|endpoint| endpoint.starts_with("http://"));
    let mut settings = vec![
        ("timeout", millis(options.request_timeout)),
        ("connect_timeout", millis(options.connect_timeout)),
    ];
    if plain || url.scheme() == "http" {
        settings.push(("allow_http", "true".into()));
    }
    if let Some(endpoint) = &options.endpoint {
        settings.push(("endpoint", endpoint.clone()));
    }
    let given = options.settings.iter();
    settings.extend(given.map(|(key, value)| (key.as_str(), value.clone())));
    let retry = retry(options.retry_for);

    macro_rules! cloud {
        ($builder:ty) => {{
            let mut builder = <$builder>::from_env().with_url(base).with_retry(retry);
            for (key, value) in settings {
                builder = builder.with_config(key_of(key)?, value);
            }
            Arc::new(builder.build().map_err(|error| error.to_string())?)
        }};
    }
    let objects: Arc<dyn ObjectStore> = match scheme {
        ObjectStoreScheme::AmazonS3 => cloud!(AmazonS3Builder),
        ObjectStoreScheme::GoogleCloudStorage => cloud!(GoogleCloudStorageBuilder),
        ObjectStoreScheme::MicrosoftAzure => cloud!(MicrosoftAzureBuilder),
        ObjectStoreScheme::Http => {
            let host = &url[..url::Position::BeforePath];
            let mut builder = HttpBuilder::new().with_url(host).with_retry(retry);
            for (key, value) in settings {
                builder = builder.with_config(key_of::<ClientConfigKey>(key)?, value);
            }
            Arc::new(builder.build().map_err(|error| error.to_string())?)
        }
        _ => return Err(format!("is not {SCHEMES}")),
    };
    let prefix = Path::parse(path.as_ref().trim_matches('/')).map_err(|error| error.to_string())?;
    Ok(inner(
        &without_password(uri, &url),
        objects,
        prefix,
        (names, options),
    ))
}

fn millis(duration: Duration) -> String {
    format!("{}ms", duration.as_millis())
}

fn key_of<K: FromStr>(key: &str) -> Result<K, String> {
    let parsed = key.to_ascii_lowercase().parse();
    parsed.map_err(|_| format!("has no setting `{key}`: leave it out, or correct it"))
}

fn endpoint_of_environment() -> Option<String> {
    let names = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"];
    names.iter().find_map(|name| std::env::var(name).ok())
}

fn retry(retry_for: Duration) -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig {
            init_backoff: FIRST_BACKOFF,
            max_backoff: LONGEST_BACKOFF,
            base: 2.0,
        },
        max_retries: REQUEST_RETRIES,
        retry_timeout: retry_for,
    }
}

/// rustls asks for one provider of cryptography for the process. If the program has chosen none,
/// it is the one that the rest of this crate uses.
fn trust_ring() {
    use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
    if CryptoProvider::get_default().is_none() {
        // Fails only if another thread was faster, with the same result.
        let _ = ring::default_provider().install_default();
    }
}

fn without_password(uri: &str, url: &Url) -> String {
    match url.password() {
        Some(password) => uri.replacen(&format!(":{password}@"), "@", 1),
        None => uri.to_owned(),
    }
}
