//! The sample photos, carried inside the binary so that it works wherever it lies.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use include_dir::{Dir, include_dir};

static PHOTOS: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/photos");

/// Writes `count` photos into `folder`: the samples, again and again, each copy under its own name.
///
/// # Errors
/// Where the folder cannot be written.
pub fn unpack(folder: &Path, count: usize) -> anyhow::Result<()> {
    let photos = all();
    for (index, (name, bytes)) in photos.iter().cycle().take(count).enumerate() {
        let subfolder = folder.join(format!("{:03}", index / photos.len()));
        fs::create_dir_all(&subfolder).context("creating a folder for the photos")?;
        let path = subfolder.join(name);
        fs::write(&path, bytes).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

/// Name and bytes of every sample photo, sorted by name.
pub fn all() -> Vec<(PathBuf, &'static [u8])> {
    let jpegs = PHOTOS
        .files()
        .filter(|file| file.path().extension().is_some_and(|e| e == "jpg"));
    let mut photos: Vec<_> = jpegs
        .map(|file| (file.path().to_owned(), file.contents()))
        .collect();
    photos.sort();
    photos
}
