//! Videos, and images among them: found by folder and tar, looked into side by side, read whole or by
//! path.

use std::{fs, path::PathBuf, sync::Arc};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use preheat_clips::Input;

use super::{
    EXTENSIONS, Format, Found, Located, Sample, Shard, Span, Store, UNPROBED, VIDEOS, folder,
    frames, has_extension, tar,
};
use crate::{
    dataset::{
        clip::{Clip, Made},
        prober::Prober,
    },
    error::Error,
};

/// Names of the two.
pub(super) const IN_FOLDERS: &str = "videos";
pub(super) const IN_TARS: &str = "videos in tar";
/// Videos of one shard that are looked into, or wait to be: more than any machine has cores.
const PROBES: usize = 256;

/// Videos in directories or in tars; a clone shares the bound on processes that look into them.
#[derive(Clone, Debug)]
pub struct Videos {
    packed: bool,
    prober: Prober,
}

/// What frames are to be had from.
#[derive(Clone, Debug)]
pub(crate) enum Media {
    /// An image file.
    Image(Bytes),
    /// A video file.
    Video(Input),
    /// Image files: the frames that were asked for.
    Frames(Vec<Bytes>),
}

/// What was read of a sample, and its parts.
pub(crate) type Read = (Media, Vec<(Arc<str>, Bytes)>);

impl Videos {
    /// `.mp4`, `.m4v`, `.mov`, `.mkv`, `.webm`, `.avi` and images in directories.
    pub fn in_folders() -> Self {
        Self {
            packed: false,
            prober: Prober::default(),
        }
    }

    /// The same in WebDataset shards.
    pub fn in_tars() -> Self {
        Self {
            packed: true,
            prober: Prober::default(),
        }
    }

    /// Whether they are in tars.
    pub(crate) fn packed(&self) -> bool {
        self.packed
    }

    pub(super) fn name(&self) -> &'static str {
        if self.packed { IN_TARS } else { IN_FOLDERS }
    }

    pub(super) async fn scan(&self, store: &Store, shard: &Shard) -> Result<Vec<Found>, String> {
        let mut found = match self.packed {
            true => tar::scan(store, shard, true).await?,
            false => folder::scan(store, shard, true).await?,
        };
        let at: Vec<usize> = found
            .iter()
            .enumerate()
            .filter(|(_, found)| matches!(&found.size, Err(reason) if reason == UNPROBED))
            .map(|(at, _)| at)
            .collect();
        // By number, and owned: a closure over borrowed items makes futures that cannot change threads.
        let probes: Vec<_> = at
            .iter()
            .map(|&at| self.probe(store, shard, (found[at].key.clone(), found[at].image)))
            .collect();
        let probed: Vec<_> = stream::iter(probes).buffered(PROBES).try_collect().await?;
        for (at, probed) in at.into_iter().zip(probed) {
            match probed {
                Ok((size, clip)) => (found[at].size, found[at].clip) = (Ok(size), clip),
                Err(reason) => found[at].size = Err(reason),
            }
        }
        Ok(found)
    }

    fn probe(
        &self,
        store: &Store,
        shard: &Shard,
        (key, span): (String, Span),
    ) -> impl Future<Output = Result<Result<(crate::plan::Size, Vec<u8>), String>, String>> + use<>
    {
        let (prober, store, shard) = (self.prober.clone(), store.clone(), shard.clone());
        let packed = self.packed;
        async move {
            let fetch = async {
                if let Some(path) = store.local_path(&key).filter(|_| !packed) {
                    return Ok(Input::Path(path));
                }
                let file = if packed { shard } else { file(&key, span) };
                let range = span.at..span.at + u64::from(span.bytes);
                store.range(&file, range).await.map(Input::Bytes)
            };
            prober.probe(fetch).await
        }
    }

    pub(super) async fn read(
        &self,
        store: &Store,
        shard: &Shard,
        found: &Located<'_>,
    ) -> Result<Sample, String> {
        match self.packed {
            true => tar::read(store, shard, found).await,
            false => folder::read(store, found).await,
        }
    }

    /// The path of a file on this machine, which must be as long as it was, with what travels along.
    async fn by_path(store: &Store, path: PathBuf, found: &Located<'_>) -> Result<Read, String> {
        let bytes = fs::metadata(&path)
            .map_err(|error| format!("cannot open: {error}"))?
            .len();
        let before = u64::from(found.image.bytes);
        if bytes != before {
            return Err(format!(
                "has {bytes} bytes, and had {before} when it was indexed: put the old file back, or \
                 index the dataset again"
            ));
        }
        let stem = found.key.rsplit_once('.').map_or("", |(stem, _)| stem);
        let parts = folder::parts(store, stem, found.parts).await?;
        Ok((Media::Video(Input::Path(path)), parts))
    }
}

fn file(key: &str, span: Span) -> Shard {
    Shard {
        path: key.to_owned(),
        bytes: u64::from(span.bytes),
        etag: None,
        modified_ms: 0,
    }
}

impl Format {
    /// What lies there, of videos.
    ///
    /// # Errors
    /// [`Error::Dataset`] if the store cannot be listed, or holds neither videos nor tars, or both.
    pub(crate) async fn detect_videos(store: &Store) -> Result<Self, Error> {
        let listed = store.list().await?;
        let count = |wanted: &[&str]| {
            let names = listed.iter().map(|object| object.path.as_str());
            names.filter(|name| has_extension(name, wanted)).count()
        };
        let refuse = |reason: String| Err(Error::dataset(store.uri(), reason));
        match (count(&["tar"]), count(&VIDEOS), count(&EXTENSIONS)) {
            (1.., 0, 0) => Ok(Self::Videos(Videos::in_tars())),
            (0, 1.., _) => Ok(Self::Videos(Videos::in_folders())),
            (0, 0, 0) => refuse(format!(
                "has no videos: looked for {VIDEOS:?} and .tar in it and below, among {} files",
                listed.len()
            )),
            (0, 0, images) => refuse(format!(
                "has {images} images and no videos: if they are the frames of clips, one directory for \
                 each, set `format` to Frames and say at which rate they are shown; if they are to be \
                 images of a run of clips, set it to `videos`"
            )),
            (tars, videos, images) => refuse(format!(
                "has {tars} tars, {videos} videos and {images} images: say which of them are the dataset, \
                 by its format or by a pattern such as train-*.tar"
            )),
        }
    }

    /// The same for a run of clips: with videos.
    ///
    /// # Errors
    /// In words, where it holds images alone.
    pub(crate) fn with_videos(self) -> Result<Self, String> {
        match self {
            Self::Folder => Ok(Self::Videos(Videos::in_folders())),
            Self::Tar => Ok(Self::Videos(Videos::in_tars())),
            Self::Videos(_) | Self::Frames(_) => Ok(self),
            Self::Parquet(_) | Self::Mds(_) => Err(format!(
                "is {}, which is read for images alone: clips come from folders, tars or directories \
                 of frames; leave `frames` empty for images",
                self.name()
            )),
        }
    }

    /// What frames are to be had from, and what travels with it. `frames` are those that are wanted, by
    /// number.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub(crate) async fn media(
        &self,
        (store, shard): (&Store, &Shard),
        found: &Located<'_>,
        (clip, frames): (Option<&Clip>, &[u32]),
    ) -> Result<Read, String> {
        match (self, clip.map(|clip| &clip.made)) {
            (_, Some(Made::Files)) => {
                let (read, Sample { parts, .. }) = frames::read(store, found, frames).await?;
                Ok((Media::Frames(read), parts))
            }
            (Self::Videos(videos), Some(Made::Video(_))) if !videos.packed => {
                if let Some(path) = store.local_path(found.key) {
                    return Videos::by_path(store, path, found).await;
                }
                let Sample { image, parts } = self.read(store, shard, found).await?;
                Ok((Media::Video(Input::Bytes(image)), parts))
            }
            (_, Some(Made::Video(_))) => {
                let Sample { image, parts } = self.read(store, shard, found).await?;
                Ok((Media::Video(Input::Bytes(image)), parts))
            }
            (_, None) => {
                let Sample { image, parts } = self.read(store, shard, found).await?;
                Ok((Media::Image(image), parts))
            }
        }
    }
}
