//! The header of version 1, from before there were videos: read, and no longer written.

use rkyv::{Archive, Deserialize, Serialize, rancor};

use super::{COLUMNS, Column, PREFIX, SECTIONS, Section};

/// Its version.
pub(super) const VERSION: u32 = 1;
/// It had all columns up to this one.
const COLUMNS_THEN: usize = Column::ClipEnds as usize;
/// And the same three sections about bad samples.
const SECTIONS_THEN: usize = COLUMNS_THEN + SECTIONS - COLUMNS;

#[derive(Archive, Serialize, Deserialize)]
pub(super) struct Header {
    pub(super) format: String,
    pub(super) samples: u64,
    pub(super) fingerprint: [u8; 32],
    pub(super) names: Vec<String>,
    pub(super) shards: Vec<Entry>,
    pub(super) sections: [Section; SECTIONS_THEN],
}

#[derive(Archive, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) path: String,
    pub(super) bytes: u64,
    pub(super) etag: Option<String>,
    pub(super) modified_ms: i64,
    pub(super) first: u64,
    pub(super) keys: u64,
    pub(super) parts: u64,
}

/// The header as it would be written now, where nothing is a video.
pub(super) fn decode(header: &[u8]) -> Result<super::Header, rancor::Error> {
    let then = rkyv::from_bytes::<Header, rancor::Error>(header)?;
    let mut sections: [Section; SECTIONS] = std::array::from_fn(|_| Section {
        at: PREFIX as u64,
        bytes: 0,
        hash: *blake3::hash(&[]).as_bytes(),
    });
    for (at, section) in then.sections.into_iter().enumerate() {
        let added = if at < COLUMNS_THEN {
            0
        } else {
            COLUMNS - COLUMNS_THEN
        };
        sections[at + added] = section;
    }
    let shard = |entry: Entry| super::Entry {
        path: entry.path,
        bytes: entry.bytes,
        etag: entry.etag,
        modified_ms: entry.modified_ms,
        first: entry.first,
        keys: entry.keys,
        parts: entry.parts,
        clips: 0,
    };
    Ok(super::Header {
        format: then.format,
        samples: then.samples,
        fingerprint: then.fingerprint,
        names: then.names,
        shards: then.shards.into_iter().map(shard).collect(),
        sections,
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use crate::dataset::index::{Builder, Index, Span, file};
    use crate::{
        dataset::sample::{Found, Part, Shard},
        plan::Size,
    };

    use super::*;

    fn shard(path: &str) -> Shard {
        Shard {
            path: path.into(),
            bytes: 1000,
            etag: None,
            modified_ms: 5,
        }
    }

    fn found(key: &str) -> Found {
        let span = Span { at: 512, bytes: 7 };
        let part = Part {
            name: "txt".into(),
            span,
        };
        Found {
            key: key.into(),
            image: span,
            size: Ok(Size::new(640, 480)),
            parts: vec![part],
            clip: Vec::new(),
        }
    }

    fn version_1(index: &[u8]) -> Vec<u8> {
        let now = file::decode(index).unwrap();
        let at = u64::from_le_bytes(index[16..24].try_into().unwrap());
        let mut sections = now.sections.to_vec();
        sections.drain(COLUMNS_THEN..COLUMNS);
        let shards = now.shards.into_iter().map(|entry| Entry {
            path: entry.path,
            bytes: entry.bytes,
            etag: entry.etag,
            modified_ms: entry.modified_ms,
            first: entry.first,
            keys: entry.keys,
            parts: entry.parts,
        });
        let then = Header {
            format: now.format,
            samples: now.samples,
            fingerprint: now.fingerprint,
            names: now.names,
            shards: shards.collect(),
            sections: sections
                .try_into()
                .unwrap_or_else(|_| panic!("ten sections")),
        };
        let header = rkyv::to_bytes::<rancor::Error>(&then).unwrap();
        let mut bytes = index[..at as usize].to_vec();
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&(header.len() as u32).to_le_bytes());
        bytes[24..56].copy_from_slice(blake3::hash(&header).as_bytes());
        bytes.extend(header.as_slice());
        bytes
    }

    /// An index of before opens as it is: that of a large dataset takes hours to make.
    #[test]
    fn an_index_of_version_1_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("index");
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_time().build().unwrap();
        let mut builder = runtime.block_on(Builder::begin(&path, "test")).unwrap();
        let shards = [shard("a"), shard("b")];
        builder
            .add(&shards[0], &[found("a1"), found("a2")])
            .unwrap();
        builder.add(&shards[1], &[found("b1")]).unwrap();
        let now = builder.finish(shards.to_vec()).unwrap();
        let before = dir.path().join("before");
        fs::write(&before, version_1(&fs::read(&path).unwrap())).unwrap();
        let then = Index::open(&before).unwrap();
        assert_eq!(then.verify(), Ok(()));
        assert_eq!(then.fingerprint(), now.fingerprint());
        for id in 0..4 {
            assert_eq!(then.key(id), now.key(id));
            assert_eq!(
                (then.size(id), then.bytes(id)),
                (now.size(id), now.bytes(id))
            );
            assert_eq!(then.parts(id), now.parts(id));
            assert!(then.clip(id).is_empty());
        }
    }
}
