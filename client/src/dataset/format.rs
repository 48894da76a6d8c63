//! What lies in a store: a folder of images, tar, Parquet or MDS shards.

mod folder;
mod frames;
mod mds;
mod parquet;
mod recent;
mod tar;
mod videos;

use bytes::Bytes;

pub(crate) use self::videos::{Media, Read};
pub use self::{mds::Mds, parquet::Parquet, videos::Videos};
use super::{
    MAX_FILE_BYTES,
    prober::{MAX_CLIP_BYTES, MAX_VIDEO_BYTES},
    sample::{Found, Located, Part, Sample, Shard, Span},
    store::{Store, Version},
};
use crate::{
    error::Error,
    plan::{Rate, Size},
};

/// Extensions of images, in lower case; the content decides what a file is.
const EXTENSIONS: [&str; 4] = ["jpg", "jpeg", "png", "webp"];
/// Extensions of videos, likewise.
const VIDEOS: [&str; 6] = ["mp4", "m4v", "mov", "mkv", "webm", "avi"];
/// What a scan says of the size of a video, which is looked into afterwards.
const UNPROBED: &str = "";
/// Parts that are text and must be UTF-8.
const TEXTS: [&str; 4] = ["txt", "json", "cls", "caption"];
/// Bytes of one part: captions and metadata are small, and a window holds thousands.
pub const MAX_PART_BYTES: u64 = 16 * 1024 * 1024;
/// Decoded pages and shards that each format holds, for the samples beside one just read.
pub const MAX_DECODED_BYTES: u64 = 256 * 1024 * 1024;

/// Which columns of Parquet and MDS shards matter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Columns {
    /// The image. None finds it: `image` where there is one, else the only column that can be.
    pub image: Option<String>,
    /// What travels along. None takes all columns but binary ones.
    pub parts: Option<Vec<String>>,
}

/// How samples lie in a store; a clone shares what it has decoded.
#[derive(Clone, Debug)]
pub enum Format {
    /// Images in directories, with `.txt`, `.json`, `.cls` or `.caption` files beside them.
    Folder,
    /// WebDataset shards.
    Tar,
    /// Parquet files with encoded images, as Hugging Face `datasets` writes them.
    Parquet(Parquet),
    /// Mosaic streaming's shards, with an `index.json`.
    Mds(Mds),
    /// Videos, and images among them, in directories or in WebDataset shards.
    Videos(Videos),
    /// Directories of numbered images, each a clip that is shown at this rate, with a text of the
    /// directory's name beside it.
    Frames(Rate),
}

impl Format {
    /// What lies there, by the names of its objects: of images.
    ///
    /// # Errors
    /// [`Error::Dataset`] if the store cannot be listed, holds nothing that is known, or several
    /// kinds of it.
    pub async fn detect(store: &Store) -> Result<Self, Error> {
        let listed = match store.list().await {
            Ok(listed) => listed,
            // An index names its shards, so a server that cannot list will do.
            Err(error) => match store.has(mds::INDEX).await {
                Ok(true) => return Ok(Self::Mds(Mds::default())),
                _ => return Err(error),
            },
        };
        if listed.iter().any(|object| object.path == mds::INDEX) {
            return Ok(Self::Mds(Mds::default()));
        }
        let count = |wanted: &[&str]| {
            let names = listed.iter().map(|object| object.path.as_str());
            names.filter(|name| has_extension(name, wanted)).count()
        };
        let (tars, parquets) = (count(&["tar"]), count(&["parquet"]));
        match (tars, parquets, count(&EXTENSIONS)) {
            (1.., 0, 0) => Ok(Self::Tar),
            (0, 1.., 0) => Ok(Self::Parquet(Parquet::default())),
            (0, 0, 1..) => Ok(Self::Folder),
            (0, 0, 0) => Err(Error::dataset(
                store.uri(),
                format!(
                    "has no images: looked for {EXTENSIONS:?}, .tar and .parquet in it and below, \
                     and for an index.json, among {} files",
                    listed.len()
                ),
            )),
            (tars, parquets, images) => Err(Error::dataset(
                store.uri(),
                format!(
                    "has {tars} tar and {parquets} Parquet files and {images} images: say which \
                     of them are the dataset, by its format or by a pattern such as \
                     train-*.parquet"
                ),
            )),
        }
    }

    /// By its name: `folder`, `tar`, `parquet`, `mds`; `videos` and `videos in tar`; `frames at 24`, or at
    /// another [rate](Rate::parse).
    pub fn named(name: &str) -> Option<Self> {
        if let Some(rate) = name.strip_prefix(FRAMES_AT) {
            return Rate::parse(rate).map(Self::Frames);
        }
        Some(match name {
            videos::IN_FOLDERS => Self::Videos(Videos::in_folders()),
            videos::IN_TARS => Self::Videos(Videos::in_tars()),
            "folder" => Self::Folder,
            "tar" => Self::Tar,
            "parquet" => Self::Parquet(Parquet::default()),
            "mds" => Self::Mds(Mds::default()),
            _ => return None,
        })
    }

    /// Its name, as [`Format::named`] takes it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Folder => "folder",
            Self::Tar => "tar",
            Self::Parquet(_) => "parquet",
            Self::Mds(_) => "mds",
            Self::Videos(videos) => videos.name(),
            Self::Frames(_) => "frames",
        }
    }

    /// Whether it finds videos.
    pub(crate) fn has_videos(&self) -> bool {
        matches!(self, Self::Videos(_) | Self::Frames(_))
    }

    /// What an index made with it depends on: its name and its columns.
    pub(crate) fn describe(&self) -> String {
        let columns = match self {
            Self::Folder | Self::Tar | Self::Videos(_) => return self.name().to_owned(),
            Self::Frames(rate) => return format!("{FRAMES_AT}{rate}"),
            Self::Parquet(parquet) => parquet.columns(),
            Self::Mds(mds) => mds.columns(),
        };
        match columns == &Columns::default() {
            true => self.name().to_owned(),
            false => format!("{} {columns:?}", self.name()),
        }
    }

    /// The same with these columns; of a folder and of tars it takes every part there is.
    #[must_use]
    pub fn with_columns(self, columns: Columns) -> Self {
        match self {
            Self::Parquet(_) => Self::Parquet(Parquet::new(columns)),
            Self::Mds(_) => Self::Mds(Mds::new(columns)),
            other => other,
        }
    }

    /// All shards, in the order of their paths' bytes.
    ///
    /// # Errors
    /// [`Error::Dataset`] if the store cannot be listed or has no such shard.
    pub async fn shards(&self, store: &Store) -> Result<Vec<Shard>, Error> {
        let shards = match self {
            Self::Folder => return folder::shards(store, false).await,
            Self::Videos(videos) if !videos.packed() => return folder::shards(store, true).await,
            Self::Frames(_) => return frames::shards(store).await,
            Self::Mds(mds) => return mds.shards(store).await,
            Self::Tar | Self::Videos(_) => ending(store, "tar").await?,
            Self::Parquet(_) => ending(store, "parquet").await?,
        };
        if shards.is_empty() {
            let name = match self {
                Self::Videos(_) => "tar",
                other => other.name(),
            };
            let reason = format!("has no .{name} files: correct the path, or the format");
            return Err(Error::dataset(store.uri(), reason));
        }
        Ok(shards)
    }

    /// All samples of a shard, in order. What is wrong with one of them is in [`Found::size`];
    /// that also ends a shard that is truncated.
    ///
    /// # Errors
    /// In words, if the shard cannot be read, or is wrong as a whole: which, where, what to do.
    pub async fn scan(&self, store: &Store, shard: &Shard) -> Result<Vec<Found>, String> {
        match self {
            Self::Folder => folder::scan(store, shard, false).await,
            Self::Tar => tar::scan(store, shard, false).await,
            Self::Videos(videos) => videos.scan(store, shard).await,
            Self::Frames(rate) => frames::scan(store, shard, *rate).await,
            Self::Parquet(parquet) => parquet.scan(store, shard).await,
            Self::Mds(mds) => mds.scan(store, shard).await,
        }
    }

    /// One sample's image and parts; ranges of one object are read together.
    ///
    /// # Errors
    /// In words, if it cannot be read, is not what it was when indexed, or a text is not UTF-8.
    pub async fn read(
        &self,
        store: &Store,
        shard: &Shard,
        found: &Located<'_>,
    ) -> Result<Sample, String> {
        let mut sample = match self {
            Self::Folder => folder::read(store, found).await,
            Self::Tar => tar::read(store, shard, found).await,
            Self::Videos(videos) => videos.read(store, shard, found).await,
            Self::Frames(_) => Err("is a directory: its frames are read one by one".to_owned()),
            Self::Parquet(parquet) => parquet.read(store, shard, found).await,
            Self::Mds(mds) => mds.read(store, shard, found).await,
        }?;
        if sample.image.is_empty() {
            return Err("is empty".into());
        }
        // Rows are cut out of pages and of unpacked shards, which their bytes would keep in memory.
        if matches!(self, Self::Parquet(_) | Self::Mds(_)) {
            sample.image = Bytes::copy_from_slice(&sample.image);
        }
        // A caption is held until its batch is taken, and must not hold the image that it was read with.
        for (_, part) in &mut sample.parts {
            *part = Bytes::copy_from_slice(part);
        }
        Ok(sample)
    }
}

/// Before the rate in the name of [`Format::Frames`].
const FRAMES_AT: &str = "frames at ";

async fn ending(store: &Store, extension: &str) -> Result<Vec<Shard>, Error> {
    let mut shards = store.list().await?;
    shards.retain(|shard| has_extension(&shard.path, &[extension]));
    Ok(shards)
}

fn has_extension(path: &str, wanted: &[&str]) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    let extension = name.rsplit_once('.').map(|(_, extension)| extension);
    extension.is_some_and(|is| wanted.iter().any(|wanted| is.eq_ignore_ascii_case(wanted)))
}

/// A length that an image can have.
fn image_bytes(bytes: u64) -> Result<u32, String> {
    limited(bytes, MAX_FILE_BYTES)
}

/// A length that a video can have.
fn video_bytes(bytes: u64, local: bool) -> Result<u32, String> {
    let most = if local {
        MAX_VIDEO_BYTES
    } else {
        MAX_CLIP_BYTES
    };
    limited(bytes, most).map_err(|reason| format!("{reason}: cut it into shorter videos"))
}

/// A size, or that it will be known later; else why the sample is bad.
fn sized(size: Result<Size, String>) -> Result<Result<Size, String>, String> {
    match size {
        Err(reason) if reason != UNPROBED => Err(reason),
        known => Ok(known),
    }
}

/// A length that a part can have.
fn part_bytes(name: &str, bytes: u64) -> Result<u32, String> {
    limited(bytes, MAX_PART_BYTES).map_err(|reason| format!("`{name}` {reason}"))
}

fn limited(bytes: u64, most: u64) -> Result<u32, String> {
    let fits = u32::try_from(bytes).ok().filter(|_| bytes <= most);
    fits.ok_or_else(|| format!("has {bytes} bytes, over {most}"))
}

/// A sample that could not even be found whole.
fn bad(key: String, reason: String) -> Found {
    Found {
        key,
        image: Span::default(),
        size: Err(reason),
        parts: Vec::new(),
        clip: Vec::new(),
    }
}

/// By its extension, or the last of several: `txt`, `caption.txt`.
fn is_text(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or(name);
    TEXTS.contains(&last)
}

/// A text as it is, if it is one.
fn text(name: &str, bytes: Bytes) -> Result<Bytes, String> {
    match std::str::from_utf8(&bytes) {
        Ok(_) => Ok(bytes),
        Err(error) => Err(format!(
            "its `{name}` is not UTF-8 from byte {} on: save it as UTF-8, or leave it out",
            error.valid_up_to()
        )),
    }
}
