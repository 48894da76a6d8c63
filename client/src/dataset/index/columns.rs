//! The samples of one shard, column by column: what a record of the journal holds, and what the
//! sections of an index are made of, end to end.

use std::{borrow::Cow, collections::HashMap};

use crate::{
    dataset::sample::{Found, Span},
    plan::Size,
};

/// Parts of one sample, at most: a bound on what one look-up in a damaged index can cost.
pub(super) const MAX_PARTS: usize = 1024;
/// Bytes of one entry of [`Column::Parts`]: offset, length, number of the name.
pub(super) const PART_BYTES: usize = 16;
/// How many columns there are.
pub(super) const COLUMNS: usize = 9;

/// The columns, all little-endian, in the order in which they are stored.
///
/// A column of fixed width whose numbers are all zero takes no bytes: that of the offsets in a folder
/// of images, those of the parts and of videos where there are none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Column {
    /// Width in the upper half, height in the lower; 0 of a bad sample.
    Sizes,
    /// Where the image is.
    At,
    /// Bytes of the image.
    Bytes,
    /// Where the key ends in the shard's part of [`Self::Keys`]: 32 bits, so that this is half as
    /// large as it would be over the whole dataset.
    KeyEnds,
    /// The keys, one after the other, in UTF-8.
    Keys,
    /// How many parts the samples of the shard have up to this one, likewise.
    PartEnds,
    /// See [`PART_BYTES`].
    Parts,
    /// Where what is known of a video ends in the shard's part of [`Self::Clips`].
    ClipEnds,
    /// What is known of videos, one after the other; see [`Clip`](crate::dataset::Clip).
    Clips,
}

impl Column {
    pub(super) const ALL: [Self; COLUMNS] = [
        Self::Sizes,
        Self::At,
        Self::Bytes,
        Self::KeyEnds,
        Self::Keys,
        Self::PartEnds,
        Self::Parts,
        Self::ClipEnds,
        Self::Clips,
    ];

    /// Bytes that every sample takes in it; `None` where that differs.
    pub(super) const fn width(self) -> Option<usize> {
        match self {
            Self::Sizes | Self::Bytes | Self::KeyEnds | Self::PartEnds | Self::ClipEnds => Some(4),
            Self::At => Some(8),
            Self::Keys | Self::Parts | Self::Clips => None,
        }
    }
}

/// One shard's samples. See [`Column`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Columns<'a> {
    pub(super) samples: u64,
    pub(super) data: [Cow<'a, [u8]>; COLUMNS],
    /// The names that the entries of [`Column::Parts`] mean.
    pub(super) names: Vec<String>,
    /// The bad samples, counted within the shard, ascending, and why.
    pub(super) bad: Vec<(u64, String)>,
}

impl Columns<'static> {
    /// # Errors
    /// In words, where a shard holds more than an index can.
    pub(super) fn pack(found: &[Found]) -> Result<Self, String> {
        let mut data: [Vec<u8>; COLUMNS] = Default::default();
        let mut columns = Self {
            samples: found.len() as u64,
            ..Self::default()
        };
        let mut known = HashMap::new();
        for (at, sample) in (0_u64..).zip(found) {
            let size = packed(&sample.size).unwrap_or_else(|reason| {
                columns.bad.push((at, reason));
                0
            });
            let mut put = |column: Column, bytes: &[u8]| {
                data[column as usize].extend_from_slice(bytes);
                data[column as usize].len()
            };
            put(Column::Sizes, &size.to_le_bytes());
            put(Column::At, &sample.image.at.to_le_bytes());
            put(Column::Bytes, &sample.image.bytes.to_le_bytes());
            let end = put(Column::Keys, sample.key.as_bytes());
            let end = u32::try_from(end).map_err(|_| "its keys take more than 4 GiB: split it")?;
            put(Column::KeyEnds, &end.to_le_bytes());
            if sample.parts.len() > MAX_PARTS {
                let (key, count) = (&sample.key, sample.parts.len());
                return Err(format!("`{key}` has {count} parts, over {MAX_PARTS}"));
            }
            let mut end = put(Column::Parts, &[]);
            for part in &sample.parts {
                let next = known.len() as u32;
                let name = *known.entry(part.name.clone()).or_insert_with(|| {
                    columns.names.push(part.name.clone());
                    next
                });
                end = put(Column::Parts, &part_entry(part.span, name));
            }
            let end = u32::try_from(end / PART_BYTES).map_err(|_| "it has 2^32 parts: split it")?;
            put(Column::PartEnds, &end.to_le_bytes());
            let end = put(Column::Clips, &sample.clip);
            let end =
                u32::try_from(end).map_err(|_| "its videos' timestamps take 4 GiB: split it")?;
            put(Column::ClipEnds, &end.to_le_bytes());
        }
        for column in Column::ALL {
            let bytes = std::mem::take(&mut data[column as usize]);
            if column.width().is_none() || bytes.iter().any(|&byte| byte != 0) {
                columns.data[column as usize] = Cow::Owned(bytes);
            }
        }
        Ok(columns)
    }
}

impl Columns<'_> {
    /// One column's bytes.
    pub(super) fn column(&self, column: Column) -> &[u8] {
        &self.data[column as usize]
    }

    /// Whether everything can be looked up: lengths, ends and names fit together, keys are text.
    ///
    /// # Errors
    /// What is wrong.
    pub(super) fn check(&self) -> Result<(), &'static str> {
        for column in Column::ALL {
            let len = self.column(column).len() as u64;
            let full = |width| self.samples.checked_mul(width as u64);
            if column
                .width()
                .is_some_and(|width| len != 0 && Some(len) != full(width))
            {
                return Err("a column of another length");
            }
        }
        let (keys, parts) = (self.column(Column::Keys), self.column(Column::Parts));
        let text = str::from_utf8(keys).map_err(|_| "a key that is not UTF-8")?;
        let (mut key_end, mut part_end, mut clip_end) = (0, 0, 0);
        for at in 0..self.samples {
            let next = number32(self.column(Column::KeyEnds), at) as usize;
            if next < key_end || !text.is_char_boundary(next) {
                return Err("keys out of place");
            }
            key_end = next;
            let next = number32(self.column(Column::PartEnds), at) as usize;
            if next < part_end || next - part_end > MAX_PARTS {
                return Err("parts out of place");
            }
            part_end = next;
            let next = number32(self.column(Column::ClipEnds), at) as usize;
            if next < clip_end {
                return Err("videos out of place");
            }
            clip_end = next;
        }
        if clip_end != self.column(Column::Clips).len() {
            return Err("timestamps of nobody");
        }
        let (entries, rest) = parts.as_chunks::<PART_BYTES>();
        if key_end != keys.len() || part_end != entries.len() || !rest.is_empty() {
            return Err("keys or parts of nobody");
        }
        if entries
            .iter()
            .any(|entry| part(entry).1 as usize >= self.names.len())
        {
            return Err("a part without a name");
        }
        let mut after = 0;
        for (at, _) in &self.bad {
            if *at < after || *at >= self.samples {
                return Err("a bad sample that is none");
            }
            after = at + 1;
        }
        Ok(())
    }

    /// The key of a sample; empty where the columns do not fit together.
    pub(super) fn key(&self, at: u64) -> &str {
        let ends = self.column(Column::KeyEnds);
        let start = at.checked_sub(1).map_or(0, |before| number32(ends, before));
        let range = start as usize..number32(ends, at) as usize;
        let key = self.column(Column::Keys).get(range).unwrap_or_default();
        str::from_utf8(key).unwrap_or_default()
    }

    /// What is known of a video; empty of an image.
    pub(super) fn clip(&self, at: u64) -> &[u8] {
        let ends = self.column(Column::ClipEnds);
        let start = at.checked_sub(1).map_or(0, |before| number32(ends, before));
        let range = start as usize..number32(ends, at) as usize;
        self.column(Column::Clips).get(range).unwrap_or_default()
    }

    /// The entries of a sample's parts.
    pub(super) fn parts(&self, at: u64) -> &[[u8; PART_BYTES]] {
        let ends = self.column(Column::PartEnds);
        let start = at.checked_sub(1).map_or(0, |before| number32(ends, before));
        let range = start as usize..number32(ends, at) as usize;
        let (entries, _) = self.column(Column::Parts).as_chunks();
        entries.get(range).unwrap_or_default()
    }
}

/// A number of a column; 0 of one that takes no bytes.
pub(super) fn number32(column: &[u8], at: u64) -> u32 {
    let (numbers, _) = column.as_chunks();
    let number = usize::try_from(at).ok().and_then(|at| numbers.get(at));
    number.map_or(0, |&bytes| u32::from_le_bytes(bytes))
}

/// The same with 64 bits.
pub(super) fn number64(column: &[u8], at: u64) -> u64 {
    let (numbers, _) = column.as_chunks();
    let number = usize::try_from(at).ok().and_then(|at| numbers.get(at));
    number.map_or(0, |&bytes| u64::from_le_bytes(bytes))
}

/// `None` of a bad sample.
pub(super) fn unpacked(size: u32) -> Option<Size> {
    let size = Size::new(size >> 16, size & 0xffff);
    (size.area() > 0).then_some(size)
}

fn packed(size: &Result<Size, String>) -> Result<u32, String> {
    let size = size.clone()?;
    match (u16::try_from(size.width), u16::try_from(size.height)) {
        (Ok(width), Ok(height)) if width > 0 && height > 0 => {
            Ok(u32::from(width) << 16 | u32::from(height))
        }
        _ => Err(format!("declares {size} pixels")),
    }
}

/// As it is stored.
pub(super) fn part_entry(span: Span, name: u32) -> [u8; PART_BYTES] {
    let mut entry = [0; PART_BYTES];
    entry[..8].copy_from_slice(&span.at.to_le_bytes());
    entry[8..12].copy_from_slice(&span.bytes.to_le_bytes());
    entry[12..].copy_from_slice(&name.to_le_bytes());
    entry
}

/// Where a part is, and the number of its name.
pub(super) fn part(entry: &[u8; PART_BYTES]) -> (Span, u32) {
    let span = Span {
        at: number64(&entry[..8], 0),
        bytes: number32(&entry[8..12], 0),
    };
    (span, number32(&entry[12..], 0))
}
