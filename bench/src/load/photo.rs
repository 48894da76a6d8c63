//! What is sent: photos as they lie on disk, or made to have a size in bytes.

use std::{io::Cursor, path::Path, thread};

use anyhow::{Context as _, anyhow, bail, ensure};
use bytes::Bytes;
use image::{
    DynamicImage, ImageReader, codecs::jpeg::JpegEncoder, imageops::FilterType, load_from_memory,
};
use preheat_client::{BadSamples, dataset::Dataset, plan::Size};
use preheat_proto::limits;
use tokio::runtime::Builder;

use crate::photos;

/// Photos of a folder that are sent, at most: a replica keeps nothing of them, so more would only
/// cost memory here.
const MAX_PHOTOS: usize = 1024;
/// Bytes of photos held here, at most.
const MAX_BYTES: u64 = 1 << 30;
/// Bundled photos that are made larger or smaller: each takes tries.
const REMADE: usize = 8;
/// Quality of remade photos: that of a good camera.
const QUALITY: u8 = 90;
/// Tries to meet a size in bytes, each guided by the one before.
const TRIES: usize = 6;
/// How much of a remade photo may be padding, as a share.
const PADDING: f64 = 0.1;
/// Pixels of a remade photo, at most: half of what the wire allows, twice a common camera's.
const MAX_PIXELS: f64 = (limits::MAX_SOURCE_PIXELS / 2) as f64;
/// Bytes of one comment segment, without its marker and its length.
const COMMENT: usize = 65_533;

/// One photo.
#[derive(Clone, Debug)]
pub(crate) struct Photo {
    pub(crate) bytes: Bytes,
    /// With its EXIF orientation applied.
    pub(crate) size: Size,
}

/// Photos and what a reader of the figures must know of them.
pub(crate) struct Photos {
    pub(crate) photos: Vec<Photo>,
    pub(crate) about: String,
}

impl Photos {
    /// Those of a folder, or the bundled ones; remade to `bytes` each, where given.
    ///
    /// # Errors
    /// Where the folder has no usable image.
    pub(crate) fn open(
        folder: Option<&Path>,
        bytes: Option<usize>,
        seed: u64,
    ) -> anyhow::Result<Self> {
        let (mut photos, mut about) = match folder {
            Some(folder) => of_folder(folder, seed)?,
            None => bundled()?,
        };
        if let Some(bytes) = bytes {
            photos.truncate(REMADE);
            photos = remake_all(&photos, bytes)?;
            about = format!(
                "{about}, of which {} were scaled and saved again as JPEG of {} KiB",
                photos.len(),
                bytes >> 10
            );
        }
        Ok(Self { photos, about })
    }
}

fn bundled() -> anyhow::Result<(Vec<Photo>, String)> {
    let photo = |(_, bytes)| {
        let size = ImageReader::new(Cursor::new(bytes))
            .with_guessed_format()
            .context("a bundled photo")?
            .into_dimensions()
            .context("a bundled photo")?;
        Ok(Photo {
            bytes: Bytes::from_static(bytes),
            size: Size::new(size.0, size.1),
        })
    };
    let photos: Vec<Photo> = photos::all()
        .into_iter()
        .map(photo)
        .collect::<anyhow::Result<_>>()?;
    let about = format!("the {} bundled photos", photos.len());
    Ok((photos, about))
}

fn of_folder(folder: &Path, seed: u64) -> anyhow::Result<(Vec<Photo>, String)> {
    let dataset = Dataset::open(folder, BadSamples::Substitute, &|_| ())?;
    let mut ids: Vec<u64> = (0..dataset.len())
        .filter(|&id| dataset.size(id).is_some())
        .collect();
    if ids.is_empty() {
        let (id, reason) = dataset
            .bad()
            .first_key_value()
            .context("an empty dataset")?;
        bail!(
            "{} has no usable image: {} {reason}",
            folder.display(),
            dataset.key(*id)
        );
    }
    let usable = ids.len();
    fastrand::Rng::with_seed(seed).shuffle(&mut ids);
    ids.truncate(MAX_PHOTOS);
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("a runtime to read with")?;
    let (mut photos, mut held) = (Vec::new(), 0);
    for id in ids {
        held += dataset.file_bytes(id);
        if held > MAX_BYTES && !photos.is_empty() {
            break;
        }
        let read = runtime.block_on(dataset.read(id));
        let bytes = read
            .map_err(|reason| anyhow!("{}: {reason}", dataset.key(id)))?
            .image;
        let size = dataset.size(id).context("a photo without a size")?;
        photos.push(Photo { bytes, size });
    }
    let bad = dataset.bad().len();
    let about = format!("{} of {usable} photos of the folder", photos.len());
    Ok(match bad {
        0 => (photos, about),
        _ => (photos, format!("{about} ({bad} bad ones left out)")),
    })
}

fn remake_all(photos: &[Photo], bytes: usize) -> anyhow::Result<Vec<Photo>> {
    thread::scope(|scope| {
        let remake = |photo| scope.spawn(move || remake(photo, bytes));
        let remaking: Vec<_> = photos.iter().map(remake).collect();
        let join = |thread: thread::ScopedJoinHandle<'_, _>| {
            thread
                .join()
                .unwrap_or_else(|_| bail!("a photo cannot be remade: its codec gave up"))
        };
        remaking.into_iter().map(join).collect()
    })
}

/// The same picture, scaled until its JPEG just fits into `bytes`; the rest is filled with comments,
/// which every decoder skips.
fn remake(photo: &Photo, bytes: usize) -> anyhow::Result<Photo> {
    let picture = load_from_memory(&photo.bytes).context("a photo cannot be decoded")?;
    let picture = DynamicImage::from(picture.to_rgb8());
    let pixels = f64::from(picture.width()) * f64::from(picture.height());
    // Of good JPEGs, roughly: a fifth of a byte a pixel.
    let mut scale = (bytes as f64 * 5.0 / pixels).sqrt();
    let mut best: Option<(Vec<u8>, Size)> = None;
    for _ in 0..TRIES {
        scale = scale.min((MAX_PIXELS / pixels).sqrt());
        let side = |side: u32| ((f64::from(side) * scale).round() as u32).max(1);
        let size = Size::new(side(picture.width()), side(picture.height()));
        let scaled = picture.resize_exact(size.width, size.height, FilterType::CatmullRom);
        let mut jpeg = Vec::new();
        scaled
            .write_with_encoder(JpegEncoder::new_with_quality(&mut jpeg, QUALITY))
            .context("a photo cannot be saved as JPEG")?;
        let part = jpeg.len() as f64 / bytes as f64;
        let better = best.as_ref().is_none_or(|(old, _)| old.len() < jpeg.len());
        if part <= 1.0 && better {
            best = Some((jpeg, size));
        }
        if (1.0 - PADDING..=1.0).contains(&part) {
            break;
        }
        // Aims at the middle of what is good enough.
        scale *= ((1.0 - PADDING / 2.0) / part).sqrt();
    }
    let (jpeg, size) = best.with_context(|| {
        format!(
            "no JPEG fits into {} KiB: raise --bytes",
            bytes as f64 / 1024.0
        )
    })?;
    Ok(Photo {
        bytes: pad(&jpeg, bytes)?.into(),
        size,
    })
}

/// Comment segments behind the first marker, so that the file has `bytes` bytes, or up to 3 fewer:
/// a segment has 4 at least.
fn pad(jpeg: &[u8], bytes: usize) -> anyhow::Result<Vec<u8>> {
    ensure!(jpeg.starts_with(&[0xff, 0xd8]), "not a JPEG");
    let mut padded = Vec::with_capacity(bytes);
    padded.extend_from_slice(&jpeg[..2]);
    let mut missing = bytes.saturating_sub(jpeg.len());
    while missing >= 4 {
        let comment = (missing - 4).min(COMMENT);
        padded.extend_from_slice(&[0xff, 0xfe]);
        padded.extend_from_slice(&(comment as u16 + 2).to_be_bytes());
        padded.resize(padded.len() + comment, b' ');
        missing -= comment + 4;
    }
    padded.extend_from_slice(&jpeg[2..]);
    Ok(padded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remade_photos_have_the_bytes_and_are_pictures() {
        for kib in [4, 60] {
            let photos = Photos::open(None, Some(kib << 10), 0).unwrap().photos;
            assert_eq!(photos.len(), REMADE);
            for Photo { bytes, size } in photos {
                let short = (kib << 10) - bytes.len();
                assert!(short < 4, "{short} bytes short of {kib} KiB");
                let raw = preheat_models::image::decode(&bytes, limits::MAX_SOURCE_PIXELS).unwrap();
                assert_eq!(Size::new(raw.width as u32, raw.height as u32), size);
                // Spaces do not hide in entropy-coded data in such numbers.
                let padding = bytes
                    .windows(64)
                    .filter(|run| run.iter().all(|&b| b == b' '));
                assert!(padding.count() < (kib << 10) / 4, "mostly padding");
            }
        }
    }

    #[test]
    fn padding_in_several_segments() {
        let jpeg = [0xff, 0xd8, 0xff, 0xd9];
        let padded = pad(&jpeg, 200_000).unwrap();
        assert_eq!(padded.len(), 200_000);
        assert_eq!(padded[2..4], [0xff, 0xfe]);
        assert_eq!(padded[padded.len() - 2..], [0xff, 0xd9]);
        assert_eq!(pad(&jpeg, 6).unwrap(), jpeg);
    }

    #[test]
    fn folders_without_images_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let said = |folder: &Path| {
            let opened = Photos::open(Some(folder), None, 0);
            opened.err().unwrap().to_string()
        };
        assert!(said(folder.path()).contains("has no images"));
        std::fs::write(folder.path().join("a.jpg"), "nothing").unwrap();
        assert!(said(folder.path()).contains("no usable image"));
        let missing = folder.path().join("missing");
        assert!(said(&missing).contains("No such file"));
    }
}
