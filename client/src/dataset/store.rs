//! A store of objects: a local folder, S3, GCS, Azure or HTTP.

mod advice;
mod local;
mod names;
mod open;
mod read;
mod window;

use std::{path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt, path::Path};
use tokio::{sync::Semaphore, time::Instant};

use self::names::Names;
pub(in crate::dataset) use self::window::Window;
use super::sample::Shard;
use crate::error::Error;

/// Ranges closer than this are read as one: at 1 GB/s the bytes between cost a quarter of a
/// millisecond, a request costs ten.
pub const COALESCE_GAP: u64 = 256 * 1024;
/// But no request is made longer than this by its neighbours, so that several can run at once.
pub const COALESCE_BYTES: u64 = 8 * 1024 * 1024;
/// Reads of local files under way at once, at most: each has a thread, and a thread has memory of its own
/// that outlives the read. Disks are no faster for more.
pub const LOCAL_READS: usize = 16;
/// Tries of a body that breaks off, is too slow or too short, each with the request's own retries.
pub const BODY_TRIES: u32 = 4;
/// Retries of one request that is answered with 5xx, 429 or not at all.
pub const REQUEST_RETRIES: usize = 10;
/// The first wait before a retry; twice as long each time.
pub const FIRST_BACKOFF: Duration = Duration::from_millis(50);
/// The longest wait before a retry.
pub const LONGEST_BACKOFF: Duration = Duration::from_secs(5);

/// How to reach a store. What is left out comes from the usual environment variables, such as
/// `AWS_ACCESS_KEY_ID`, `GOOGLE_APPLICATION_CREDENTIALS` or `AZURE_STORAGE_ACCOUNT_NAME`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreOptions {
    /// Where an S3-compatible server is, such as `http://127.0.0.1:9000`; else
    /// `AWS_ENDPOINT_URL`, else the cloud's own.
    pub endpoint: Option<String>,
    /// More settings by object_store's names: `("aws_region", "eu-north-1")`,
    /// `("skip_signature", "true")`. They win over the environment.
    pub settings: Vec<(String, String)>,
    /// Paths below the URI that are the whole dataset, for stores that cannot be listed. Braces
    /// and a range, as in `{000..099}.tar`, stand for several.
    pub objects: Vec<String>,
    /// Requests under way at once, over all readers; of local files [`LOCAL_READS`] at most.
    pub requests: usize,
    /// How long connecting may take.
    pub connect_timeout: Duration,
    /// How long one request may take from its start to the last byte: slow bytes are asked for
    /// again from where they stopped.
    pub request_timeout: Duration,
    /// How long one request is retried.
    pub retry_for: Duration,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            endpoint: None,
            settings: Vec::new(),
            objects: Vec::new(),
            requests: 64,
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(30),
            retry_for: Duration::from_secs(60),
        }
    }
}

/// An open store; a clone is the same one.
#[derive(Clone, Debug)]
pub struct Store(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// As the user wrote it, without a password.
    uri: String,
    objects: Arc<dyn ObjectStore>,
    prefix: Path,
    /// Root of a local folder.
    local: Option<PathBuf>,
    names: Names,
    permits: Semaphore,
    patience: Duration,
    requests: usize,
}

impl Store {
    /// Opens a path or a URI: `photos`, `file:///photos`, `s3://bucket/photos`, `gs://…`,
    /// `az://…`, `https://…`. The last part may be a pattern, `{000..099}.tar` or `train-*.parquet`,
    /// or one tar or Parquet file. Nothing is asked of a remote store yet.
    ///
    /// # Errors
    /// [`Error::Dataset`] if the URI makes no sense, a setting is unknown, or the folder is missing.
    pub fn open(uri: &str, options: &StoreOptions) -> Result<Self, Error> {
        open::open(uri, options).map(|inner| Self(Arc::new(inner)))
    }

    /// Where it is, as given.
    pub fn uri(&self) -> &str {
        &self.0.uri
    }

    /// The file of an object, if this is a local disk.
    pub fn local_path(&self, path: &str) -> Option<PathBuf> {
        self.0.local.as_ref().map(|root| root.join(path))
    }

    /// All objects, in the order of their paths' bytes.
    ///
    /// # Errors
    /// [`Error::Dataset`] if the store cannot be reached or listed, or an object that was named is
    /// not there.
    pub async fn list(&self) -> Result<Vec<Shard>, Error> {
        let mut found = match &self.0.names {
            Names::Listed(names) => self.heads(names).await,
            names => self.listed("").await.map(|mut found| {
                found.retain(|object| names.take(&object.path) && !names::is_hidden(&object.path));
                found
            }),
        }
        .map_err(|reason| Error::dataset(&self.0.uri, reason))?;
        found.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        Ok(found)
    }

    /// All objects of one directory, not of those below it, in the order of their paths' bytes.
    ///
    /// # Errors
    /// In words, as all that follow.
    pub async fn list_in(&self, directory: &str) -> Result<Vec<Shard>, String> {
        let mut found = if let Some(path) = self.local_path(directory) {
            self.walk(path, 1).await?
        } else {
            let prefix = self.full(directory)?;
            let list = || self.0.objects.list_with_delimiter(Some(&prefix));
            let listed = self.listing(list).await?;
            let found = listed.objects.iter().map(|meta| self.shard(meta));
            let shown = found.filter(|object| !names::is_hidden(&object.path));
            shown.collect()
        };
        found.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        Ok(found)
    }

    /// All objects of one directory and of those below it, in the order of their paths' bytes.
    ///
    /// # Errors
    /// As [`Self::list_in`].
    pub async fn list_below(&self, directory: &str) -> Result<Vec<Shard>, String> {
        let mut found = self.listed(directory).await?;
        found.retain(|object| !names::is_hidden(&object.path));
        found.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        Ok(found)
    }

    async fn listed(&self, directory: &str) -> Result<Vec<Shard>, String> {
        if let Some(path) = self.local_path(directory) {
            return self.walk(path, usize::MAX).await;
        }
        let prefix = self.full(directory)?;
        let list = || {
            let listed = self.0.objects.list(Some(&prefix));
            listed.map_ok(|meta| self.shard(&meta)).try_collect()
        };
        self.listing(list).await
    }

    /// object_store does not list again where a list breaks off.
    async fn listing<T, F>(&self, list: impl Fn() -> F) -> Result<T, String>
    where
        F: Future<Output = object_store::Result<T>>,
    {
        let started = Instant::now();
        let mut tries = 0;
        loop {
            tries += 1;
            match list().await {
                Ok(listed) => return Ok(listed),
                // Most HTTP servers never list.
                Err(object_store::Error::Generic { store, .. })
                    if store != "HTTP"
                        && tries < BODY_TRIES
                        && started.elapsed() < self.0.patience =>
                {
                    tokio::time::sleep(FIRST_BACKOFF * 2_u32.pow(tries)).await;
                }
                Err(error) => return Err(advice::list(&self.0.uri, &error)),
            }
        }
    }

    /// By hand, because object_store leaves out broken links and odd names without a word.
    async fn walk(&self, path: PathBuf, depth: usize) -> Result<Vec<Shard>, String> {
        let root = self.0.local.clone().unwrap_or_default();
        let walked = tokio::task::spawn_blocking(move || names::walk(&root, &path, depth)).await;
        walked.map_err(|error| error.to_string())?
    }

    async fn heads(&self, names: &[String]) -> Result<Vec<Shard>, String> {
        // By number: a closure over borrowed items makes futures that cannot change threads.
        stream::iter(0..names.len())
            .map(|at| self.head(&names[at]))
            .buffer_unordered(self.0.requests)
            .try_collect()
            .await
    }

    /// What the store knows of one object.
    ///
    /// # Errors
    /// In words: which object, what was seen, what to do.
    pub async fn head(&self, path: &str) -> Result<Shard, String> {
        let full = self.full(path)?;
        let _permit = self.0.permits.acquire().await.map_err(|e| e.to_string())?;
        let meta = self.0.objects.head(&full).await;
        let meta = meta.map_err(|error| self.advice(path, &error))?;
        Ok(self.shard(&meta))
    }

    /// Whether there is such an object.
    ///
    /// # Errors
    /// In words, if the store does not say.
    pub async fn has(&self, path: &str) -> Result<bool, String> {
        let full = self.full(path)?;
        match self.0.objects.head(&full).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(self.advice(path, &error)),
        }
    }

    /// A whole object of at most `most` bytes.
    ///
    /// # Errors
    /// In words: which object, what was seen, what to do.
    pub async fn get(&self, path: &str, most: u64) -> Result<Bytes, String> {
        let object = self.head(path).await?;
        if object.bytes > most {
            let (name, bytes) = (self.name(path), object.bytes);
            return Err(format!("{name} has {bytes} bytes, over {most}"));
        }
        self.range(&object, 0..object.bytes).await
    }

    /// In words, if an object is not what it was when it was indexed.
    fn differs(&self, object: &Shard, now: &Shard) -> Option<String> {
        let same = match (&object.etag, &now.etag) {
            (Some(before), Some(now)) => before == now,
            // Not every HTTP server says, and of a file in a folder only the length is known.
            _ => {
                let (before, after) = (object.modified_ms, now.modified_ms);
                // Headers have whole seconds, lists may have more.
                let unit = if self.0.local.is_some() { 1 } else { 1000 };
                before == 0 || after == 0 || before / unit == after / unit
            }
        };
        if same && object.bytes == now.bytes {
            return None;
        }
        let name = self.name(&object.path);
        let (before, now) = (names::version(object), names::version(now));
        Some(format!(
            "{name} was replaced since it was indexed: {before} then, {now} now; put the old one \
             back, or index the dataset again"
        ))
    }

    /// A key of what was decoded of an object: one store's and one content's.
    pub(in crate::dataset) fn version(&self, object: &Shard) -> Version {
        let Shard {
            etag, modified_ms, ..
        } = object;
        let name = self.name(&object.path);
        (name, object.bytes, etag.clone(), *modified_ms)
    }

    fn shard(&self, meta: &ObjectMeta) -> Shard {
        let path = meta.location.as_ref();
        let path = path.strip_prefix(self.0.prefix.as_ref()).unwrap_or(path);
        Shard {
            path: path.trim_start_matches('/').to_owned(),
            bytes: meta.size,
            // On a local disk it holds the inode: a copy of the dataset would be another one.
            etag: meta.e_tag.clone().filter(|_| self.0.local.is_none()),
            modified_ms: meta.last_modified.timestamp_millis(),
        }
    }

    fn full(&self, path: &str) -> Result<Path, String> {
        let prefix = self.0.prefix.as_ref();
        let between = if prefix.is_empty() || path.is_empty() {
            ""
        } else {
            "/"
        };
        Path::parse(format!("{prefix}{between}{path}"))
            .map_err(|error| format!("{}: no path of an object: {error}", self.name(path)))
    }

    /// An object's name for messages.
    pub fn name(&self, path: &str) -> String {
        format!("`{path}` of {}", self.0.uri)
    }

    fn advice(&self, path: &str, error: &object_store::Error) -> String {
        advice::read(&self.name(path), self.0.local.is_some(), error)
    }
}

/// Name, length, etag and time.
pub(in crate::dataset) type Version = (String, u64, Option<String>, i64);
