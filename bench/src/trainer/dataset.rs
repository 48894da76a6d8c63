//! What is trained on: a folder that is there, or photos of about a size in bytes, or videos.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressStyle};
use tempfile::TempDir;

use super::Args;
use crate::load::photo::{Photo, Photos};

/// Photos of one folder.
const FOLDER: usize = 1000;
/// Bytes by which the photos of a size differ, at most, as a share of it.
const SPREAD: usize = 20;

/// A folder of photos or videos; made ones go with it.
pub(super) struct Samples {
    pub(super) folder: PathBuf,
    pub(super) about: String,
    _made: Option<TempDir>,
}

impl Samples {
    /// # Errors
    /// Where there is no room for them.
    pub(super) fn open(args: &Args) -> anyhow::Result<Self> {
        if let Some(folder) = &args.dataset {
            let what = match args.film.frames.is_empty() {
                true => "photos",
                false => "videos",
            };
            return Ok(Self {
                about: format!("the {what} in {}", folder.display()),
                folder: folder.clone(),
                _made: None,
            });
        }
        let made = tempfile::tempdir().context("creating a temporary folder")?;
        if !args.film.frames.is_empty() {
            return Ok(Self {
                about: args.film.make(made.path())?,
                folder: made.path().to_owned(),
                _made: Some(made),
            });
        }
        let bytes = (args.photo_kib as usize) << 10;
        // Of several sizes around the one asked for, so that no two batches have the same bytes.
        let sizes = [bytes - bytes / SPREAD, bytes, bytes + bytes / SPREAD];
        let mut photos = Vec::new();
        for size in sizes {
            photos.extend(Photos::open(None, Some(size), 0)?.photos);
        }
        write(made.path(), &photos, args.photos as usize)?;
        Ok(Self {
            about: format!(
                "{} made photos of about {} KiB",
                args.photos, args.photo_kib
            ),
            folder: made.path().to_owned(),
            _made: Some(made),
        })
    }
}

pub(super) fn progress(count: u64, what: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template("{prefix:22} {bar:32} {pos}/{len}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(count).with_style(style).with_prefix(what)
}

fn write(folder: &Path, photos: &[Photo], count: usize) -> anyhow::Result<()> {
    let progress = progress(count as u64, "writing photos");
    for (number, photo) in photos.iter().cycle().take(count).enumerate() {
        let folder = folder.join(format!("{:03}", number / FOLDER));
        if number % FOLDER == 0 {
            fs::create_dir(&folder).context("creating a folder for the photos")?;
        }
        let path = folder.join(format!("{number:07}.jpg"));
        fs::write(&path, &photo.bytes).with_context(|| format!("writing {}", path.display()))?;
        progress.inc(1);
    }
    progress.finish_and_clear();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use preheat_client::{BadSamples, Dataset};

    #[test]
    fn made_photos_have_about_the_size_and_are_a_dataset() {
        let typed = [
            "x",
            "--start",
            "synthetic",
            "--photos",
            "50",
            "--photo-kib",
            "8",
        ];
        let args = super::super::tests::parse(&typed).unwrap();
        let photos = Samples::open(&args).unwrap();
        let spec = &args.specs("", &photos.folder)[0];
        let dataset = Dataset::open(&spec.config(), BadSamples::Fail, &|_| ()).unwrap();
        assert_eq!(dataset.len(), 50);
        for id in 0..50 {
            let bytes = dataset.file_bytes(id);
            assert!((7700..=8700).contains(&bytes), "{bytes}");
        }
    }
}
