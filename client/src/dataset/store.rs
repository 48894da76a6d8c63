//! A folder.

use std::path::PathBuf;

use crate::error::Error;

/// How to reach a store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreOptions {}

/// An open store; a clone is the same one.
#[derive(Clone, Debug)]
pub struct Store(PathBuf);

impl Store {
    /// Opens a folder.
    ///
    /// # Errors
    /// [`Error::Dataset`] if it is missing.
    pub fn open(uri: &str, _: &StoreOptions) -> Result<Self, Error> {
        let found = std::fs::metadata(uri).map_err(|e| Error::dataset(uri, e.to_string()))?;
        if !found.is_dir() {
            return Err(Error::dataset(uri, "is not a folder"));
        }
        Ok(Self(uri.into()))
    }

    /// Where it is, as given.
    pub fn uri(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }

    /// The file of an object, if this is a local disk.
    pub fn local_path(&self, path: &str) -> Option<PathBuf> {
        Some(self.0.join(path))
    }
}
