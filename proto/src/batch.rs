//! The rkyv metadata of a call: validated once, then viewed in place.
//!
//! Payloads and tensors are not in the archive: they travel beside it as protobuf `bytes`, where
//! alignment does not matter. The archive is small, so [`Meta`] copies it once into aligned memory.

mod check;

use std::marker::PhantomData;

use rkyv::{
    Archive, Deserialize, Portable, Serialize,
    api::high::{HighSerializer, HighValidator},
    bytecheck::CheckBytes,
    rancor::BoxedError,
    ser::allocator::ArenaHandle,
    util::AlignedVec,
};

use crate::{
    dtype::{DType, tensor_bytes, tensor_stride},
    error::{Code, Error, ItemCode},
    limits,
};

/// Layout version of the archives of this module; sent beside each of them.
pub const META_VERSION: u32 = 2;

/// What of the posterior to send back.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[rkyv(derive(Clone, Copy, Debug, PartialEq, Eq))]
#[repr(u8)]
pub enum Posterior {
    /// The mean. The only choice for models without a posterior.
    Mode = 0,
    /// One draw, keyed by the item's seed.
    Sample = 1,
    /// Mean and log-variance, stacked along channels (so twice the channels), always raw.
    Moments = 2,
}

/// The scale of a latent.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[rkyv(derive(Clone, Copy, Debug, PartialEq, Eq))]
#[repr(u8)]
pub enum Scale {
    /// As the encoder leaves it.
    Raw = 0,
    /// As the diffusion model sees it: shift, scale or per-channel statistics applied.
    Normalized = 1,
}

/// Interpolation of a resize. All antialias when they shrink, as PIL does.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[rkyv(derive(Clone, Copy, Debug, PartialEq, Eq))]
#[repr(u8)]
pub enum Filter {
    /// Triangle, support 1.
    Bilinear = 0,
    /// Keys cubic with a = -0.5, support 2.
    Bicubic = 1,
    /// Windowed sinc, support 3.
    Lanczos = 2,
}

/// What the payloads of an item are.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[rkyv(derive(Clone, Copy, Debug, PartialEq, Eq))]
#[repr(u8)]
pub enum Source {
    /// JPEG, PNG or WebP files, recognised by content.
    Encoded = 0,
    /// Row-major RGB bytes, `source_height * source_width * 3` of them.
    Rgb8 = 1,
    /// One video file as it lies on disk, decoded beside the device; [`ItemMeta::times`] says which
    /// of its frames are wanted.
    Video = 2,
}

/// One item of a request and its whole transform, the same for each of its frames, in this order:
/// decode, apply the orientation (EXIF, or the rotation of a video), resize to `resize_width` x `resize_height`, cut out the output rectangle at
/// (`crop_x`, `crop_y`), flip left to right.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[rkyv(derive(Debug))]
pub struct ItemMeta {
    /// The caller's name for it, returned as sent.
    pub id: u64,
    /// Key of the posterior draw.
    pub seed: u64,
    /// Size as shown, orientation applied, as the caller read it from the header, in pixels.
    pub source_width: u32,
    /// See `source_width`.
    pub source_height: u32,
    /// Size to resize to, in pixels; equal to the source size for no resize.
    pub resize_width: u32,
    /// See `resize_width`.
    pub resize_height: u32,
    /// Left edge of the output rectangle in the resized image, in pixels.
    pub crop_x: u32,
    /// Top edge, likewise.
    pub crop_y: u32,
    /// How many payloads it consumes: one a frame, or 1 for [`Source::Video`].
    pub payloads: u32,
    /// What those payloads are.
    pub source: Source,
    /// Interpolation of the resize.
    pub filter: Filter,
    /// Whether to mirror left to right, last.
    pub flip: bool,
    /// For [`Source::Video`] the presentation timestamps of the frames that are wanted, one a frame,
    /// in the time base of the stream, ascending; one that comes twice is a frame shown twice. Empty
    /// for other sources.
    pub times: Vec<i64>,
}

/// Metadata of an [`EncodeRequest`](crate::v1::EncodeRequest).
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[rkyv(derive(Debug))]
pub struct RequestMeta {
    /// Output size of every item, in pixels.
    pub width: u32,
    /// See `width`.
    pub height: u32,
    /// Frames of every item; 1 for images.
    pub frames: u32,
    /// Element type of the answer.
    pub dtype: DType,
    /// What of the posterior to return.
    pub posterior: Posterior,
    /// Raw or normalised; ignored for [`Posterior::Moments`].
    pub scale: Scale,
    /// The items, in the order of their payloads.
    pub items: Vec<ItemMeta>,
}

/// What became of one item.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[rkyv(derive(Debug))]
pub struct ItemReply {
    /// The caller's name for it.
    pub id: u64,
    /// Byte offset of its tensor in `latents`; 0 where it failed.
    pub offset: u64,
    /// Ok, or why not.
    pub code: ItemCode,
    /// Why it failed, in words; empty where it did not.
    pub message: String,
}

/// Metadata of an [`EncodeResponse`](crate::v1::EncodeResponse).
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[rkyv(derive(Debug))]
pub struct ReplyMeta {
    /// Element type of the tensors.
    pub dtype: DType,
    /// What they hold.
    pub posterior: Posterior,
    /// Their scale.
    pub scale: Scale,
    /// Shape of one tensor: `[channels, height, width]` for images, `[channels, frames, height,
    /// width]` for clips, in latent cells.
    pub shape: Vec<u32>,
    /// One entry for each item of the request, in its order.
    pub items: Vec<ItemReply>,
}

/// A metadata struct that [`Meta`] can carry.
pub trait Layout:
    Archive<Archived: Portable + for<'a> CheckBytes<HighValidator<'a, BoxedError>>>
    + for<'a> Serialize<HighSerializer<AlignedVec, ArenaHandle<'a>, BoxedError>>
{
    /// Name for error messages.
    const NAME: &'static str;
}

impl Layout for RequestMeta {
    const NAME: &'static str = "request meta";
}

impl Layout for ReplyMeta {
    const NAME: &'static str = "reply meta";
}

/// Serialises metadata for the `meta` field.
///
/// # Errors
/// [`Code::TooLarge`] past [`limits::MAX_META_BYTES`].
pub fn archive<T: Layout>(meta: &T) -> Result<bytes::Bytes, Error> {
    let archive = rkyv::to_bytes::<BoxedError>(meta)
        .map_err(|error| Error::new(Code::Internal, format!("{}: {error}", T::NAME)))?;
    if archive.len() > limits::MAX_META_BYTES {
        return Err(too_long(T::NAME, archive.len()));
    }
    Ok(bytes::Bytes::from_owner(archive))
}

/// A received archive: checked, aligned, and viewed without deserialising.
#[derive(Debug)]
pub struct Meta<T> {
    aligned: AlignedVec,
    layout: PhantomData<fn() -> T>,
}

impl<T: Layout> Meta<T> {
    /// Checks version, size and structure. The one door for archives from strangers.
    ///
    /// # Errors
    /// [`Code::BadRequest`] or [`Code::TooLarge`], naming the field.
    pub fn open(version: u32, archive: &[u8]) -> Result<Self, Error> {
        if version != META_VERSION {
            return Err(bad(format!(
                "meta_version is {version}, but this side speaks {META_VERSION}: use the same \
                 release of Preheat on both"
            )));
        }
        if archive.len() > limits::MAX_META_BYTES {
            return Err(too_long(T::NAME, archive.len()));
        }
        let mut aligned = AlignedVec::with_capacity(archive.len());
        aligned.extend_from_slice(archive);
        let meta = Self {
            aligned,
            layout: PhantomData,
        };
        meta.access()
            .map_err(|error| bad(format!("{}: not a valid archive: {error}", T::NAME)))?;
        Ok(meta)
    }

    /// The archive. Structure is checked again (tens of nanoseconds), which spares us `unsafe`.
    pub fn view(&self) -> &T::Archived {
        self.access()
            .expect("the bytes were valid in `open` and have not changed")
    }

    fn access(&self) -> Result<&T::Archived, BoxedError> {
        rkyv::access::<T::Archived, BoxedError>(&self.aligned)
    }
}

impl ArchivedReplyMeta {
    /// Checks that the answer fits the request: as many items, same names, tensors inside
    /// `latents` at aligned offsets. Returns the bytes of one tensor.
    ///
    /// # Errors
    /// [`Code::Internal`]: the replica broke the contract.
    pub fn check(&self, ids: &[u64], latents: usize) -> Result<usize, Error> {
        let broken = |what: String| Error::new(Code::Internal, format!("broken reply: {what}"));
        if self.items.len() != ids.len() {
            return Err(broken(format!(
                "{} items for {}",
                self.items.len(),
                ids.len()
            )));
        }
        let shape: Vec<u32> = self.shape.iter().map(|side| side.to_native()).collect();
        let bytes = tensor_bytes(&shape, self.dtype.into())
            .filter(|bytes| *bytes > 0 && tensor_stride(*bytes).is_some())
            .ok_or_else(|| broken(format!("impossible shape {shape:?}")))?;
        for (item, &id) in self.items.iter().zip(ids) {
            if item.id.to_native() != id {
                return Err(broken(format!("item {} where {id} was expected", item.id)));
            }
            let offset = usize::try_from(item.offset.to_native()).unwrap_or(usize::MAX);
            let inside = offset.checked_add(bytes).is_some_and(|end| end <= latents);
            if ItemCode::from(item.code) == ItemCode::Ok
                && (!inside || offset % limits::TENSOR_ALIGN != 0)
            {
                return Err(broken(format!(
                    "item {id} at {offset}, latents end at {latents}"
                )));
            }
        }
        Ok(bytes)
    }
}

macro_rules! view_enum {
    ($archived:ident => $plain:ident { $($variant:ident),+ }) => {
        impl From<$archived> for $plain {
            fn from(value: $archived) -> Self {
                match value { $($archived::$variant => Self::$variant),+ }
            }
        }
    };
}
view_enum!(ArchivedPosterior => Posterior { Mode, Sample, Moments });
view_enum!(ArchivedScale => Scale { Raw, Normalized });
view_enum!(ArchivedFilter => Filter { Bilinear, Bicubic, Lanczos });
view_enum!(ArchivedSource => Source { Encoded, Rgb8, Video });

fn bad(message: String) -> Error {
    Error::new(Code::BadRequest, message)
}

fn too_long(name: &str, bytes: usize) -> Error {
    let limit = limits::MAX_META_BYTES;
    Error::new(
        Code::TooLarge,
        format!("{name} has {bytes} bytes, over {limit}: send fewer items"),
    )
}
