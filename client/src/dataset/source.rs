//! Where a dataset is, and where its index.

use std::{
    env,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

use super::{
    format::Format,
    index::{Builder, Fault, Index, Progress, VERSION, fits, scan},
    sample::Shard,
    store::{Store, StoreOptions},
};
use crate::{config::Config, error::Error};

/// Whether an index is compared with the store that it was made from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Check {
    /// Whenever it is opened: shards are listed, and those that are new or changed are scanned.
    #[default]
    Always,
    /// Only where there is none: for a dataset that is known not to change, and takes long to list.
    /// What has changed all the same is found when it is read.
    Never,
}

/// Where a dataset is, and where its index.
#[derive(Clone, Debug)]
pub struct Source {
    /// A path or a URI. See [`Store::open`].
    pub uri: PathBuf,
    /// How to reach it.
    pub store: StoreOptions,
    /// How samples lie in it; `None` to find out.
    pub format: Option<Format>,
    /// The file of its index, made where there is none. `None` for one in the user's cache folder
    /// (`$XDG_CACHE_HOME/preheat`, else `~/.cache/preheat`), or, where that cannot be written to, one
    /// that is gone with the dataset.
    pub index: Option<PathBuf>,
    /// Whether to compare the index with the store.
    pub check: Check,
}

impl Source {
    /// A path or a URI, with an index in the user's cache folder.
    pub fn new(uri: impl Into<PathBuf>) -> Self {
        Self {
            uri: uri.into(),
            store: StoreOptions::default(),
            format: None,
            index: None,
            check: Check::Always,
        }
    }

    /// Opens the store.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_store(&self) -> Result<Store, Error> {
        let uri = self.uri.to_str();
        let uri = uri.ok_or_else(|| Error::config("dataset", "is not UTF-8: rename the folder"))?;
        Store::open(uri, &self.store)
    }

    /// Where the index of this dataset is: as configured, or in the user's cache folder; `None` where
    /// there is no such folder.
    pub fn index_path(&self, store: &Store, format: &Format) -> Option<PathBuf> {
        self.index.clone().or_else(|| in_cache(store, format))
    }

    /// What the dataset's index is, made or brought up to date where it needs be.
    pub(super) async fn index(
        &self,
        store: &Store,
        format: &Format,
        progress: &(dyn Fn(Progress) + Sync),
    ) -> Result<(Index, Option<TempDir>), Error> {
        let name = format!("{format:?}");
        let path = self.index_path(store, format);
        let mut shards = None;
        if let Some(path) = &path {
            let index = usable(path, &name)?;
            if self.check == Check::Never
                && let Some(index) = index
            {
                return Ok((index, None));
            }
            let listed = shards.insert(listed(store, format).await?);
            if let Some(index) = index.filter(|index| fits(index, listed)) {
                return Ok((index, None));
            }
        }
        let shards = match shards {
            Some(shards) => shards,
            None => listed(store, format).await?,
        };
        let failed = match &path {
            Some(path) => match Builder::begin(path, &name).await {
                Ok(builder) => {
                    // Whoever held the lock before may have built it.
                    if let Some(index) = usable(path, &name)?.filter(|index| fits(index, &shards)) {
                        return Ok((index, None));
                    }
                    let index = build((store, format), builder, shards, progress).await?;
                    return Ok((index, None));
                }
                Err(error) if self.index.is_some() => return Err(error),
                Err(error) => error.to_string(),
            },
            None => "there is no home folder".to_owned(),
        };
        let folder = TempDir::with_prefix("preheat-");
        let folder = folder.map_err(|error| {
            let reason =
                format!("its index has no place: {failed}; nor in the temporary folder: {error}");
            Error::dataset(store.uri(), reason)
        })?;
        tracing::warn!(
            dataset = store.uri(),
            failed,
            "the index cannot be kept and is made anew for every run: name a file for it"
        );
        let builder = Builder::begin(&folder.path().join("index"), &name).await?;
        let index = build((store, format), builder, shards, progress).await?;
        Ok((index, Some(folder)))
    }
}

/// The shards in the order in which an index has them.
async fn listed(store: &Store, format: &Format) -> Result<Vec<Shard>, Error> {
    let mut shards = format.shards(store).await?;
    shards.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    Ok(shards)
}

async fn build(
    from: (&Store, &Format),
    mut builder: Builder,
    shards: Vec<Shard>,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<Index, Error> {
    scan(from, &mut builder, &shards, progress).await?;
    builder.finish(shards)
}

/// The index at `path`, if it can be used; an error if something else is there.
fn usable(path: &Path, format: &str) -> Result<Option<Index>, Error> {
    let name = path.display();
    match Index::read(path) {
        Ok(index) if index.format() == format => Ok(Some(index)),
        Ok(index) => {
            let (before, now) = (index.format(), format);
            tracing::info!(index = %name, before, now, "made for something else: building it anew");
            Ok(None)
        }
        Err(fault @ Fault::Foreign) => Err(Error::dataset(name.to_string(), fault.to_string())),
        Err(Fault::Io(error)) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(fault) => {
            tracing::warn!(index = %name, %fault, "building it anew");
            Ok(None)
        }
    }
}

fn in_cache(store: &Store, format: &Format) -> Option<PathBuf> {
    let cache = env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(|| Some(env::home_dir()?.join(".cache")))?;
    // The same folder by another path is the same dataset.
    let whole = store
        .local_path("")
        .and_then(|path| path.canonicalize().ok());
    let uri = whole.map_or_else(|| store.uri().into(), |path| path.display().to_string());
    let hash = blake3::hash(format!("{VERSION} {uri} {format:?}").as_bytes());
    let name = format!("{}.index", &hash.to_hex()[..32]);
    Some(cache.join("preheat").join(name))
}

impl From<&Path> for Source {
    fn from(path: &Path) -> Self {
        Self::new(path)
    }
}

impl From<&str> for Source {
    fn from(uri: &str) -> Self {
        Self::new(uri)
    }
}

impl From<&Config> for Source {
    fn from(config: &Config) -> Self {
        Self {
            index: config.index.clone(),
            check: config.index_check,
            ..Self::new(&config.dataset)
        }
    }
}
