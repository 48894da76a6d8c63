//! A pass over the whole file, shard by shard: for `verify`, and to take shards over into the next
//! index.

use std::borrow::Cow;

use super::{
    Base, Index,
    columns::{COLUMNS, Column, Columns, PART_BYTES},
    file::{BAD_IDS, SECTIONS},
};

impl Index {
    /// Reads everything: that the sections are as they were written, and fit together.
    ///
    /// # Errors
    /// In words: what is wrong, and what to do.
    pub fn verify(&self) -> Result<(), String> {
        let damaged = |what: &str| format!("is damaged ({what}): delete and rebuild it");
        for section in 0..SECTIONS {
            let hash = blake3::Hasher::new()
                .update(self.section(section))
                .finalize();
            if hash != self.hashes[section] {
                return Err(damaged("a section has changed"));
            }
        }
        for shard in 0..self.shards.len() {
            self.columns(shard).check().map_err(damaged)?;
        }
        Ok(())
    }

    /// One shard's samples.
    pub(super) fn columns(&self, shard: usize) -> Columns<'_> {
        let first = self.starts[shard];
        let next = self.starts.get(shard + 1).copied();
        let end = next.unwrap_or(self.samples);
        let Base { keys, parts, clips } = self.bases[shard];
        let last = self.bases.get(shard + 1).copied().unwrap_or(Base {
            keys: self.column(Column::Keys).len() as u64,
            parts: (self.column(Column::Parts).len() / PART_BYTES) as u64,
            clips: self.column(Column::Clips).len() as u64,
        });
        let mut data: [Cow<'_, [u8]>; COLUMNS] = Default::default();
        for column in Column::ALL {
            let (start, end) = match column {
                Column::Keys => (keys, last.keys),
                Column::Parts => (parts * PART_BYTES as u64, last.parts * PART_BYTES as u64),
                Column::Clips => (clips, last.clips),
                _ => {
                    let width = column.width().unwrap_or(0) as u64;
                    (first * width, end * width)
                }
            };
            // A column that takes no bytes takes none in any shard.
            let bytes = self.column(column).get(start as usize..end as usize);
            data[column as usize] = Cow::Borrowed(bytes.unwrap_or_default());
        }
        Columns {
            samples: end - first,
            data,
            names: self.names.iter().map(|name| name.to_string()).collect(),
            bad: self.bad_between(first, end),
        }
    }

    /// The bad ones among these ids, counted from the first.
    fn bad_between(&self, first: u64, end: u64) -> Vec<(u64, String)> {
        let (ids, _) = self.section(BAD_IDS).as_chunks::<8>();
        let start = ids.partition_point(|&id| u64::from_le_bytes(id) < first);
        let bad = ids[start..].iter().zip(start as u64..);
        bad.map(|(&id, at)| (u64::from_le_bytes(id), at))
            .take_while(|&(id, _)| id < end)
            .map(|(id, at)| (id.saturating_sub(first), self.reason(at).to_owned()))
            .collect()
    }
}
