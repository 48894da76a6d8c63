//! One entry as it lies on disk: a header, then the tensor. Whatever happened to the file is seen.
//!
//! ```text
//! 0   8  "preheat1"
//! 8   8  bytes of the tensor, little-endian
//! 16 32  the entry's name
//! 48 32  BLAKE3 of the 48 bytes above and the tensor
//! 80     the tensor
//! ```

use std::fmt;

use super::key::Key;

/// Bytes before the tensor.
pub(crate) const HEADER_BYTES: usize = 80;
const MAGIC: [u8; 8] = *b"preheat1";
const HASHED: usize = 48;

/// What is wrong with an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Damage {
    /// Longer or shorter than its tensor.
    Length { seen: u64, expected: u64 },
    /// Not an entry, or that of another name.
    Header,
    /// Its bytes are not those that were written.
    Checksum,
    /// The disk does not give it back.
    Unreadable(std::io::ErrorKind),
}

impl Damage {
    /// For counting kinds.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Length { .. } => "length",
            Self::Header => "header",
            Self::Checksum => "checksum",
            Self::Unreadable(_) => "unreadable",
        }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length { seen, expected } => {
                write!(f, "has {seen} bytes instead of {expected}")
            }
            Self::Header => f.write_str("is not what its name says"),
            Self::Checksum => f.write_str("does not have the bytes that were written"),
            Self::Unreadable(kind) => write!(f, "cannot be read ({kind})"),
        }
    }
}

/// What goes before a tensor.
pub(crate) fn header(key: &Key, tensor: &[u8]) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..8].copy_from_slice(&MAGIC);
    header[8..16].copy_from_slice(&(tensor.len() as u64).to_le_bytes());
    header[16..HASHED].copy_from_slice(&key.0);
    let hash = hash(&header[..HASHED], tensor);
    header[HASHED..].copy_from_slice(hash.as_bytes());
    header
}

/// Whether `file` is the entry of this name, with a tensor of so many bytes.
pub(crate) fn check(key: &Key, file: &[u8], bytes: usize) -> Result<(), Damage> {
    let expected = (HEADER_BYTES + bytes) as u64;
    if file.len() as u64 != expected {
        let seen = file.len() as u64;
        return Err(Damage::Length { seen, expected });
    }
    let (header, tensor) = file.split_at(HEADER_BYTES);
    let (hashed, stored) = header.split_at(HASHED);
    let named = hashed[..8] == MAGIC
        && hashed[8..16] == (bytes as u64).to_le_bytes()
        && hashed[16..] == key.0;
    if !named {
        return Err(Damage::Header);
    }
    if hash(hashed, tensor).as_bytes()[..] != *stored {
        return Err(Damage::Checksum);
    }
    Ok(())
}

fn hash(header: &[u8], tensor: &[u8]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(header);
    hasher.update(tensor);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bit_counts() {
        let (key, tensor) = (Key([7; 32]), [1_u8, 2, 3, 4]);
        let file = [&header(&key, &tensor)[..], &tensor].concat();
        assert_eq!(check(&key, &file, 4), Ok(()));
        for bit in 0..file.len() * 8 {
            let mut file = file.clone();
            file[bit / 8] ^= 1 << (bit % 8);
            let damage = check(&key, &file, 4).unwrap_err();
            let in_header = bit / 8 < HASHED;
            assert_eq!(damage == Damage::Header, in_header, "{bit}: {damage}");
        }
        for length in 0..file.len() {
            let damage = check(&key, &file[..length], 4).unwrap_err();
            assert_eq!(damage.word(), "length");
        }
        assert_eq!(check(&Key([8; 32]), &file, 4), Err(Damage::Header));
    }
}
