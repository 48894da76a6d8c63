//! Names for frames that are not decoded yet: what the latent cache has under one needs no decoding.

use std::{fs, io};

use preheat_clips::Input;
use tokio::task::spawn_blocking;

use super::Decoders;
use crate::plan::{Size, Transform};

/// Separates these hashes from all others.
const CONTEXT: &str = "preheat latent cache: frames of a video";
/// Of files up to this the bytes are read, a small part of what decoding takes. A clip out of a long film
/// would have to wait for all of the film.
const HASHED_BYTES: u64 = 64 << 20;

impl Decoders {
    /// A name for what [`Self::frames`] gives of the same: other frames have another. A video goes by its
    /// bytes; one on a disk of more than [`HASHED_BYTES`] by its path, its size and when it was written.
    /// None where the file cannot be looked at.
    pub(crate) async fn name(
        &self,
        input: &Input,
        times: &[i64],
        (transform, size): (&Transform, Size),
    ) -> Option<blake3::Hash> {
        let version = self.ffmpeg.as_ref()?.version();
        let (encoding, scaler) = (self.encoding, self.scaler);
        let how = format!("{version} {encoding:?} {scaler:?} {transform:?} {size:?} {times:?}");
        let input = input.clone();
        let hash = move || {
            let mut hasher = blake3::Hasher::new_derive_key(CONTEXT);
            hasher.update(content(&input)?.as_bytes());
            hasher.update(how.as_bytes());
            Ok(hasher.finalize())
        };
        let hashed: io::Result<_> = spawn_blocking(hash).await.ok()?;
        hashed.ok()
    }
}

fn content(input: &Input) -> io::Result<blake3::Hash> {
    let path = match input {
        Input::Bytes(bytes) => return Ok(blake3::hash(bytes)),
        Input::Path(path) => path,
        Input::File(_) => return Err(io::ErrorKind::Unsupported.into()),
    };
    let meta = fs::metadata(path)?;
    let bytes = meta.len();
    if bytes <= HASHED_BYTES {
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(fs::File::open(path)?)?;
        return Ok(hasher.finalize());
    }
    let (path, written) = (fs::canonicalize(path)?, meta.modified()?);
    let about = format!("{bytes} {written:?} {path:?}");
    Ok(blake3::hash(about.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_files_go_by_their_bytes_and_large_ones_by_what_is_said_of_them() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.mp4");
        let named = |bytes: u64, first: u8| {
            let written = fs::metadata(&path).and_then(|meta| meta.modified());
            let mut file = fs::File::create(&path).unwrap();
            io::Write::write_all(&mut file, &[first]).unwrap();
            file.set_len(bytes).unwrap();
            if let Ok(written) = written {
                file.set_modified(written).unwrap();
            }
            content(&Input::Path(path.clone())).unwrap()
        };
        assert_ne!(named(HASHED_BYTES, 1), named(HASHED_BYTES, 2));
        let large = named(HASHED_BYTES + 1, 1);
        assert_eq!(named(HASHED_BYTES + 1, 2), large);
        assert_ne!(named(HASHED_BYTES + 2, 1), large);
        assert!(content(&Input::Path(folder.path().join("b.mp4"))).is_err());
        let bytes = content(&Input::Bytes(vec![1, 2].into())).unwrap();
        fs::write(&path, [1, 2]).unwrap();
        assert_eq!(content(&Input::Path(path.clone())).unwrap(), bytes);
    }
}
