//! Small folders of real image files, all different.

use std::{
    fs,
    io::Cursor,
    path::{Path, PathBuf},
    sync::Arc,
};

use image::{DynamicImage, ImageFormat, Rgb, RgbImage};
use preheat_client::{BadSamples, Config, Dataset, Source, plan::Size};
use tempfile::TempDir;

pub(crate) struct Photos {
    pub(crate) dir: TempDir,
    /// Where the index is: not among the photos, and not in the user's cache.
    pub(crate) beside: TempDir,
}

impl Photos {
    /// `count` images of a few shapes.
    pub(crate) fn new(count: usize) -> Self {
        let photos = Self {
            dir: TempDir::new().unwrap(),
            beside: TempDir::new().unwrap(),
        };
        for at in 0..count {
            let (width, height) = [(40, 30), (30, 40), (36, 36)][at % 3];
            photos.write(&format!("{at:03}.png"), &png(at as u8, width, height));
        }
        photos
    }

    pub(crate) fn root(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn write(&self, key: &str, bytes: &[u8]) -> PathBuf {
        let path = self.root().join(key);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }

    pub(crate) fn index(&self, policy: BadSamples) -> Arc<Dataset> {
        Arc::new(Dataset::open(self.source(), policy, &|_| {}).unwrap())
    }

    pub(crate) fn source(&self) -> Source {
        Source {
            index: Some(self.beside.path().join("index")),
            ..Source::new(self.root())
        }
    }

    /// A small run over these photos: batches of 4, images of about 32 by 32.
    pub(crate) fn config(&self, endpoint: &str) -> Config {
        let mut config = Config::new(self.root(), endpoint, "stub");
        config.index = self.source().index;
        config.global_batch = 4;
        config.bucket_step = 8;
        config.target_area = 32 * 32;
        config.seed = 7;
        config.epochs = Some(1);
        config.crop = preheat_client::Crop::Random;
        config.flip = 0.5;
        config
    }
}

pub(crate) fn png(tint: u8, width: u32, height: u32) -> Vec<u8> {
    encode(tint, Size::new(width, height), ImageFormat::Png)
}

pub(crate) fn encode(tint: u8, size: Size, format: ImageFormat) -> Vec<u8> {
    let image = RgbImage::from_fn(size.width, size.height, |x, y| {
        Rgb([tint, x as u8, y as u8])
    });
    let mut bytes = Cursor::new(Vec::new());
    DynamicImage::from(image)
        .write_to(&mut bytes, format)
        .unwrap();
    bytes.into_inner()
}

/// A JPEG with a segment inserted after its first marker.
pub(crate) fn with_segment(jpeg: &[u8], marker: u8, body: &[u8]) -> Vec<u8> {
    let len = u16::try_from(body.len() + 2).unwrap().to_be_bytes();
    [&jpeg[..2], &[0xff, marker], &len, body, &jpeg[2..]].concat()
}

/// An EXIF block that says nothing but the orientation.
pub(crate) fn exif(orientation: u8) -> Vec<u8> {
    let tiff = [
        b"MM\0*\0\0\0\x08\0\x01".as_slice(),
        &[0x01, 0x12, 0, 3, 0, 0, 0, 1, 0, orientation, 0, 0],
        &[0, 0, 0, 0],
    ];
    [b"Exif\0\0".as_slice(), &tiff.concat()].concat()
}
