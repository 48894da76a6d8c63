//! What a dataset is made of: shards, samples in them, and where their bytes are.

use std::sync::Arc;

use bytes::Bytes;

use crate::plan::Size;

/// One object of the store: a tar, a Parquet or an MDS shard; in an image folder one directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shard {
    /// Relative to the dataset, with `/` between its parts; empty for the folder itself.
    pub path: String,
    /// Bytes of the object; of a directory, of all files that belong to samples.
    pub bytes: u64,
    /// The store's name for this content. None on local disks, where copies of a dataset differ.
    /// Of a directory: a hash of its files' names, bytes and times.
    pub etag: Option<String>,
    /// When it was last written, in ms since 1970; 0 where the store does not say.
    pub modified_ms: i64,
}

/// Where some bytes of a shard are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// Offset in the object. In a folder 0: the key names the object. In Parquet and in compressed
    /// MDS shards the row within the shard.
    pub at: u64,
    /// Length of the value, decoded.
    pub bytes: u32,
}

/// What travels with a sample.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// `txt`, `json`, `cls`, or a column's name.
    pub name: String,
    /// Where it is.
    pub span: Span,
}

/// A sample as a scan of its shard finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its name: a path relative to the dataset (folder), a WebDataset key, or `SHARD#ROW`.
    pub key: String,
    /// Where the image is.
    pub image: Span,
    /// The image's size with its EXIF orientation applied, or that of a video's frames as they are
    /// shown; or why the sample is bad.
    pub size: Result<Size, String>,
    /// Its parts, in the order of their names.
    pub parts: Vec<Part>,
    /// Of a video, what clips are cut by: see [`Clip`](super::Clip). Empty of an image.
    pub clip: Vec<u8>,
}

/// Where the bytes of a sample are, as an index remembers it.
#[derive(Clone, Copy, Debug)]
pub struct Located<'a> {
    /// [`Found::key`].
    pub key: &'a str,
    /// [`Found::image`].
    pub image: Span,
    /// Name and place of each part that is wanted.
    pub parts: &'a [(Arc<str>, Span)],
}

/// A sample's bytes, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// The image, encoded as it was stored.
    pub image: Bytes,
    /// The parts that were asked for, in that order.
    pub parts: Vec<(Arc<str>, Bytes)>,
}
