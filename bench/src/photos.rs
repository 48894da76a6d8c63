//! The sample photos, carried inside the binary so that it works wherever it lies.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use include_dir::{Dir, include_dir};

static PHOTOS: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/photos");

/// Writes `copies` of every sample photo into `folder`, each under its own name.
///
/// # Errors
/// Where the folder cannot be written.
pub fn unpack(folder: &Path, copies: usize) -> anyhow::Result<()> {
    for copy in 0..copies {
        let subfolder = folder.join(format!("{copy:03}"));
        fs::create_dir_all(&subfolder).context("creating a folder for the photos")?;
        for (name, bytes) in all() {
            let path = subfolder.join(name);
            fs::write(&path, bytes).with_context(|| format!("writing {}", path.display()))?;
        }
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
