//! A folder of images: the walk, and the headers in parallel.

use std::path::Path;

use walkdir::WalkDir;

use crate::error::Error;

/// Extensions of images, in lower case; the content decides what a file is.
const EXTENSIONS: [&str; 4] = ["jpg", "jpeg", "png", "webp"];

/// Relative paths of all images below `root`, in the order of their bytes.
pub(super) fn walk(root: &Path) -> Result<Vec<String>, Error> {
    let name = root.display().to_string();
    let found =
        std::fs::metadata(root).map_err(|error| Error::dataset(&name, error.to_string()))?;
    if !found.is_dir() {
        return Err(Error::dataset(name, "is not a folder"));
    }
    let mut keys = Vec::new();
    for entry in WalkDir::new(root).follow_links(true) {
        let entry = entry.map_err(|error| {
            let path = error.path().unwrap_or(root).display().to_string();
            Error::dataset(path, error.to_string())
        })?;
        let path = entry.path();
        let extension = path.extension().and_then(|text| text.to_str());
        let image = extension.is_some_and(|text| {
            EXTENSIONS
                .iter()
                .any(|known| text.eq_ignore_ascii_case(known))
        });
        if !image || !entry.file_type().is_file() {
            continue;
        }
        let relative = path.strip_prefix(root).unwrap_or(path);
        let parts: Option<Vec<_>> = relative.iter().map(|part| part.to_str()).collect();
        let Some(parts) = parts else {
            let reason = "the name is not UTF-8: rename it";
            return Err(Error::dataset(path.display().to_string(), reason));
        };
        keys.push(parts.join("/"));
    }
    if keys.is_empty() {
        let reason = format!("has no images: looked for {EXTENSIONS:?} in it and below");
        return Err(Error::dataset(name, reason));
    }
    keys.sort_unstable();
    Ok(keys)
}
