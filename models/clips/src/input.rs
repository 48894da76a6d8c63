//! Where a clip's bytes are.

use std::{
    fs::File,
    io::{Seek, SeekFrom, Write},
    path::PathBuf,
    sync::Arc,
};

use bytes::Bytes;

use crate::ClipError;

/// A file of video.
#[derive(Clone, Debug)]
pub enum Input {
    /// A file on a disk.
    Path(PathBuf),
    /// A file in memory. Each process is given it as a file without a name in the directory for
    /// temporary files; [`Input::held`] writes it once for several.
    Bytes(Bytes),
    /// An open file. One process at a time may read it.
    File(Arc<File>),
}

/// What a child finds its file as: its standard input, opened anew where the system does that, so
/// that it can seek. The name of the file never reaches FFmpeg, whatever it looks like.
pub(crate) const NAME: &str = "file:/dev/fd/0";

impl Input {
    /// Writes bytes to a file without a name, which is gone with its last user however that ends.
    ///
    /// # Errors
    ///
    /// [`ClipError::Io`] where the directory for temporary files takes no more.
    pub fn held(bytes: &[u8]) -> Result<Self, ClipError> {
        let file = unnamed(bytes)?;
        Ok(Self::File(Arc::new(file)))
    }

    /// The file, for a child's standard input.
    pub(crate) fn open(&self) -> Result<File, ClipError> {
        let io = |doing: &str| {
            let doing = doing.to_owned();
            move |source| ClipError::Io { doing, source }
        };
        let file = match self {
            Self::Path(path) => {
                let unreadable = |source| ClipError::Unreadable { source };
                let kind = std::fs::metadata(path).map_err(unreadable)?;
                // Opening a pipe would wait for its writer.
                if !kind.is_file() {
                    return Err(ClipError::NotVideo {
                        reason: "it is not a regular file".into(),
                    });
                }
                File::open(path).map_err(unreadable)?
            }
            Self::Bytes(bytes) => unnamed(bytes)?,
            Self::File(file) => {
                let mut file = file.try_clone().map_err(io("a file handle"))?;
                file.seek(SeekFrom::Start(0))
                    .map_err(io("the video cannot be read"))?;
                file
            }
        };
        Ok(file)
    }
}

fn unnamed(bytes: &[u8]) -> Result<File, ClipError> {
    let write = || {
        let mut file = tempfile::tempfile()?;
        file.write_all(bytes)?;
        file.seek(SeekFrom::Start(0))?;
        Ok(file)
    };
    write().map_err(|source| ClipError::Io {
        doing: "a temporary file for the video".into(),
        source,
    })
}
