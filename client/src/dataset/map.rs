//! A file in memory, page by page as it is looked at.

use std::{fs, io, path::Path};

use mmap_io::{MemoryMappedFile, MmapIoError};

/// A file, mapped to be read. Files that are mapped are never written in place, by nobody here: they
/// are replaced by a rename, which leaves what is mapped as it was.
#[derive(Clone, Debug)]
pub struct Map {
    /// None of an empty file, which cannot be mapped.
    file: Option<MemoryMappedFile>,
}

impl Map {
    /// Maps a whole file. Nothing of it is read yet.
    ///
    /// # Errors
    /// Where it cannot be opened or mapped.
    pub fn open(path: &Path) -> io::Result<Self> {
        if fs::metadata(path)?.len() == 0 {
            return Ok(Self { file: None });
        }
        match MemoryMappedFile::open_ro(path) {
            Ok(file) => Ok(Self { file: Some(file) }),
            Err(MmapIoError::Io(error)) => Err(error),
            Err(error) => Err(io::Error::other(error.to_string())),
        }
    }

    /// All of it.
    pub fn as_slice(&self) -> &[u8] {
        let file = self.file.as_ref();
        // Fails only for mappings that are writable, or past their end.
        file.and_then(|file| file.as_slice_bytes(0, file.len()).ok())
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_file_stays_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let (path, other) = (dir.path().join("a"), dir.path().join("b"));
        fs::write(&path, b"before").unwrap();
        let map = Map::open(&path).unwrap();
        fs::write(&other, b"after").unwrap();
        fs::rename(&other, &path).unwrap();
        assert_eq!(map.as_slice(), b"before");
        assert_eq!(Map::open(&path).unwrap().as_slice(), b"after");
    }

    #[test]
    fn nothing_is_no_trouble() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("empty");
        fs::write(&path, b"").unwrap();
        assert_eq!(Map::open(&path).unwrap().as_slice(), b"");
        let missing = Map::open(&dir.path().join("nowhere")).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    }
}
