//! Where a dataset is, and where its index.

use std::{
    env,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

use super::{
    format::Format,
    index::{Builder, Fault, Index, Progress, fits, scan},
    mix::Sources,
    sample::Shard,
    store::{Store, StoreOptions},
};
use crate::{config::Config, error::Error};

/// Of the names in the cache folder: not the version of the files, since older ones are read too.
const PLACES: u32 = 1;

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
    /// Whether videos are samples too, as in a run of clips. They have an index of their own.
    pub videos: bool,
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
            videos: false,
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
    pub fn index_path(&self, store: &Store) -> Option<PathBuf> {
        self.index.clone().or_else(|| self.in_cache(store))
    }

    /// How samples lie in it: as configured, or found out.
    ///
    /// # Errors
    /// As [`Format::detect`].
    pub async fn find_format(&self, store: &Store) -> Result<Format, Error> {
        match self.wanted()? {
            Some(format) => Ok(format),
            None if self.videos => Format::detect_videos(store).await,
            None => Format::detect(store).await,
        }
    }

    /// The format that was asked for, with videos where they are samples.
    fn wanted(&self) -> Result<Option<Format>, Error> {
        match &self.format {
            Some(format) if self.videos => {
                let format = format.clone().with_videos();
                Ok(Some(
                    format.map_err(|reason| Error::config("format", reason))?,
                ))
            }
            Some(format) if format.has_videos() => {
                let name = format.name();
                let reason = format!("is {name}, and `frames` says no length of clips: give some");
                Err(Error::config("format", reason))
            }
            format => Ok(format.clone()),
        }
    }

    /// How samples lie in it, and the index, made or brought up to date where it needs be.
    pub(super) async fn resolve(
        &self,
        store: &Store,
        progress: &(dyn Fn(Progress) + Sync),
    ) -> Result<(Format, Index, Option<TempDir>), Error> {
        let path = self.index_path(store);
        if self.check == Check::Never
            && let Some(path) = &path
            && let Some(index) = usable(path)?
            && let Some(format) = self.format_of(&index)?
        {
            return Ok((format, index, None));
        }
        let format = self.find_format(store).await?;
        let mut shards = format.shards(store).await?;
        shards.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        let from = (store, &format);
        let failed = match &path {
            Some(path) => match self.bring_up(path, from, &shards, progress).await? {
                Ok(index) => return Ok((format, index, None)),
                Err(error) if self.index.is_some() => return Err(error),
                Err(error) => error.to_string(),
            },
            None => "there is no home folder".to_owned(),
        };
        let (index, folder) = temporary(from, shards, &failed, progress).await?;
        Ok((format, index, Some(folder)))
    }

    /// The format of an index, if it is the one that is wanted.
    fn format_of(&self, index: &Index) -> Result<Option<Format>, Error> {
        let format = match self.wanted()? {
            Some(format) => Some(format).filter(|format| format.describe() == index.format()),
            None => Format::named(index.format()),
        };
        Ok(format.filter(|format| format.has_videos() == self.videos))
    }

    /// The index at a path, as it is or built. The inner error: that nothing can be written there.
    async fn bring_up(
        &self,
        path: &Path,
        (store, format): (&Store, &Format),
        shards: &[Shard],
        progress: &(dyn Fn(Progress) + Sync),
    ) -> Result<Result<Index, Error>, Error> {
        let wanted = format.describe();
        let fitting = || {
            let index = usable(path)?;
            Ok(index.filter(|index| index.format() == wanted && fits(index, shards)))
        };
        if let Some(index) = fitting()? {
            return Ok(Ok(index));
        }
        let builder = match Builder::begin(path, &wanted).await {
            Ok(builder) => builder,
            Err(error) => return Ok(Err(error)),
        };
        // Whoever held the lock before may have built it.
        if let Some(index) = fitting()? {
            return Ok(Ok(index));
        }
        build((store, format), builder, shards, progress)
            .await
            .map(Ok)
    }

    fn in_cache(&self, store: &Store) -> Option<PathBuf> {
        let cache = env::var_os("XDG_CACHE_HOME")
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
            .or_else(|| Some(env::home_dir()?.join(".cache")))?;
        // The same folder by another path is the same dataset; other objects in it are another.
        let folder = self.uri.canonicalize().ok();
        let place = folder.map_or_else(|| store.uri().into(), |path| path.display().to_string());
        let (objects, endpoint) = (&self.store.objects, &self.store.endpoint);
        let format = self.format.as_ref().map(Format::describe);
        let mut what = format!("{PLACES} {place:?} {objects:?} {endpoint:?} {format:?}");
        if self.videos {
            what.push_str(" videos");
        }
        let name = format!("{}.index", &blake3::hash(what.as_bytes()).to_hex()[..32]);
        Some(cache.join("preheat").join(name))
    }
}

async fn build(
    from: (&Store, &Format),
    mut builder: Builder,
    shards: &[Shard],
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<Index, Error> {
    scan(from, &mut builder, shards, progress).await?;
    builder.finish(shards.to_vec())
}

/// An index that is gone with its folder.
async fn temporary(
    (store, format): (&Store, &Format),
    shards: Vec<Shard>,
    failed: &str,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<(Index, TempDir), Error> {
    let folder = TempDir::with_prefix("preheat-").map_err(|error| {
        let reason =
            format!("its index has no place: {failed}; nor in the temporary folder: {error}");
        Error::dataset(store.uri(), reason)
    })?;
    tracing::warn!(
        dataset = store.uri(),
        failed,
        "the index cannot be kept and is made anew for every run: name a file for it"
    );
    let builder = Builder::begin(&folder.path().join("index"), &format.describe()).await?;
    let index = build((store, format), builder, &shards, progress).await?;
    Ok((index, folder))
}

/// The index at `path`, if it can be used; an error if something else is there.
fn usable(path: &Path) -> Result<Option<Index>, Error> {
    let name = path.display();
    match Index::read(path) {
        Ok(index) => Ok(Some(index)),
        Err(fault @ Fault::Foreign) => Err(Error::dataset(name.to_string(), fault.to_string())),
        Err(Fault::Io(error)) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(fault) => {
            tracing::warn!(index = %name, %fault, "building it anew");
            Ok(None)
        }
    }
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

impl From<&Config> for Sources {
    fn from(config: &Config) -> Self {
        let videos = !config.frames.is_empty();
        if let Some(mix) = &config.mix {
            let mut mix = mix.clone();
            for source in &mut mix.sources {
                source.source.videos = videos;
            }
            return mix.into();
        }
        Self::One(Source {
            videos,
            store: config.store.clone(),
            format: config.format.clone(),
            index: config.index.clone(),
            check: config.index_check,
            ..Source::new(&config.dataset)
        })
    }
}
