//! Layouts of large datasets in files: laid out once, opened at once ever after.
//!
//! `<index>.plan-<hash>` lies beside the index. The hash covers everything that a layout depends on,
//! so several rules may share an index; files of an index that has changed are removed. Written under
//! another name and renamed when complete, by whoever comes first; two at a time write the same.
//!
//! Little-endian: magic, length of the header, header (JSON), blake3 of the header, zeros up to a
//! multiple of 64, then the members, the table and the unusable of [`Layout`]. The header says how
//! long they are, so a file that was cut short is recognised without reading it.

use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

use crate::{
    dataset::map::Map,
    error::Error,
    plan::{
        Plan, PlanSpec, Samples, Shuffle, Subset, Zeros,
        layout::{Draft, LAYOUT_VERSION, Layout, Outline, Reads, Sink, Watch, Words},
    },
};

/// Datasets with fewer samples are laid out in memory every time: 16 MiB, in a few dozen
/// milliseconds.
pub const LAYOUT_IN_MEMORY: u64 = 4 << 20;

const MAGIC: [u8; 8] = *b"PREHPLAN";
/// Longest header: that of 512 buckets, all of which were merged, is a tenth of it.
const MAX_HEADER: u32 = 1 << 20;
/// Where numbers may start.
const ALIGN: u64 = 64;
const HASH: usize = blake3::OUT_LEN;
/// Tables up to this are read when the layout is opened: a new epoch goes through all of one, and as
/// many page faults would come at once, in a run's first batch.
const TABLE_READ: usize = 4 << 20;

#[derive(Serialize, Deserialize)]
struct Header {
    /// Hash of all that the layout depends on.
    key: String,
    /// Fingerprint of the dataset.
    dataset: String,
    outline: Outline,
}

impl Plan {
    /// As [`Plan::new`], but a layout of more than [`LAYOUT_IN_MEMORY`] samples is kept in a file
    /// beside `index`, and taken from there if it was made before. Where there is no room for a
    /// file it is made in memory, and the log says so. `watch` is told now and then how many
    /// samples of how many were looked at, by each of two passes; three where buckets are merged.
    ///
    /// # Errors
    /// As [`Plan::new`].
    pub fn open(
        spec: PlanSpec,
        samples: &impl Samples,
        index: &Path,
        watch: &(dyn Fn(u64, u64) + Sync),
    ) -> Result<Self, Error> {
        spec.check()?;
        let large = samples.count() >= LAYOUT_IN_MEMORY;
        let layout = if large {
            kept(&spec, samples, index, watch)?
        } else {
            Layout::new(&spec, samples, watch)?
        };
        Self::from_layout(spec, layout)
    }
}

/// The layout from its file, made first if need be.
fn kept(
    spec: &PlanSpec,
    samples: &impl Samples,
    index: &Path,
    watch: Watch<'_>,
) -> Result<Layout, Error> {
    let key = key(spec, samples);
    let path = beside(index, &key);
    match read(&path, &key) {
        Ok(layout) => return Ok(layout),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => tracing::warn!("{}: {error}; it is made anew", path.display()),
    }
    let draft = Draft::new(spec, samples, watch)?;
    let header = Header {
        key: key.clone(),
        dataset: samples.fingerprint().to_owned(),
        outline: draft.outline.clone(),
    };
    let written = write(&path, &header, &draft, watch).and_then(|()| read(&path, &key));
    match written {
        Ok(layout) => {
            remove_stale(index, samples.fingerprint());
            Ok(layout)
        }
        Err(error) => {
            let path = path.display();
            tracing::warn!("{path}: {error}; the plan stays in memory, and is made every time");
            draft.in_memory(watch)
        }
    }
}

/// Everything that a layout depends on.
fn key(spec: &PlanSpec, samples: &impl Samples) -> String {
    let mut hasher = blake3::Hasher::new();
    let mut part = |bytes: &[u8]| {
        // Lengths first, so that no two lists of parts are the same bytes.
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    let numbers = |list: &[u64]| -> Vec<u8> { list.iter().flat_map(|n| n.to_le_bytes()).collect() };
    part(&LAYOUT_VERSION.to_le_bytes());
    part(samples.fingerprint().as_bytes());
    part(&samples.count().to_le_bytes());
    part(format!("{:?} {:?}", spec.buckets, spec.small_buckets).as_bytes());
    if let Some(clips) = &spec.clips {
        part(format!("{clips:?}").as_bytes());
    }
    match &spec.subset {
        Subset::Ids(ids) => part(&numbers(ids)),
        subset => part(format!("{subset:?}").as_bytes()),
    }
    if let Some(zeros) = Zeros::new(spec, samples) {
        part(zeros.hash(samples.count()).as_bytes());
    }
    match &spec.shuffle {
        Shuffle::Full | Shuffle::None => part(b"members"),
        Shuffle::Blocked(_) => {
            part(b"shards");
            part(&numbers(samples.shard_starts()));
        }
        Shuffle::Given(ids) => {
            part(b"given");
            part(&numbers(ids));
        }
    }
    hasher.finalize().to_hex().to_string()
}

/// What the names of all layouts of an index begin with.
fn prefix(index: &Path) -> String {
    let name = index.file_name().unwrap_or_default();
    format!("{}.plan-", name.to_string_lossy())
}

fn beside(index: &Path, key: &str) -> PathBuf {
    index.with_file_name(format!("{}{}", prefix(index), &key[..16]))
}

/// The folder of an index; that of a bare name is `.`.
fn folder(index: &Path) -> &Path {
    let parent = index.parent().filter(|parent| *parent != Path::new(""));
    parent.unwrap_or(Path::new("."))
}

fn broken(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Reads the header, and says where the numbers begin.
fn read_header(file: &mut impl Read) -> io::Result<(Header, u64)> {
    let mut start = [0; MAGIC.len() + 4];
    file.read_exact(&mut start)?;
    let (magic, len) = start.split_at(MAGIC.len());
    let len = u32::from_le_bytes(len.try_into().map_err(|_| broken("no length"))?);
    if magic != MAGIC || len > MAX_HEADER {
        return Err(broken("is no layout"));
    }
    let mut json = vec![0; len as usize];
    let mut hash = [0; HASH];
    file.read_exact(&mut json)?;
    file.read_exact(&mut hash)?;
    if blake3::hash(&json) != hash {
        return Err(broken("has a damaged header"));
    }
    let header = serde_json::from_slice(&json)?;
    let end = (start.len() + json.len() + HASH) as u64;
    Ok((header, end.next_multiple_of(ALIGN)))
}

fn read(path: &Path, key: &str) -> io::Result<Layout> {
    let map = Map::open(path)?;
    let mut file = File::open(path)?;
    let (header, start) = read_header(&mut map.as_slice())?;
    // It may have been replaced in between.
    let (again, _) = read_header(&mut file)?;
    let outline = header.outline;
    if header.key != key || again.key != key {
        return Err(broken("is the layout of something else"));
    }
    let lengths = [outline.members(), outline.table, outline.unusable];
    let words: u64 = lengths.iter().sum();
    let bytes = map.as_slice().len() as u64;
    if bytes != start + words * Words::BYTES as u64 {
        return Err(broken("is not as long as it says"));
    }
    let mut rest = Words(Bytes::from_owner(Mapped(map)).slice(start as usize..));
    let mut take = |words: u64| {
        let taken = rest.slice(0..words as usize);
        rest = rest.slice(words as usize..rest.len());
        taken
    };
    let [members, mut table, unusable] = lengths.map(&mut take);
    if table.0.len() <= TABLE_READ {
        let mut all = vec![0; table.0.len()];
        file.seek(SeekFrom::Start(members_end(
            start as usize,
            outline.members(),
        )))?;
        file.read_exact(&mut all)?;
        table = Words(all.into());
    }
    Ok(Layout {
        outline,
        members,
        table,
        unusable,
        reads: Some(Arc::new(Reads::new(file, start))),
    })
}

struct Mapped(Map);

impl AsRef<[u8]> for Mapped {
    fn as_ref(&self) -> &[u8] {
        self.0.as_slice()
    }
}

fn write<S: Samples>(
    path: &Path,
    header: &Header,
    draft: &Draft<'_, S>,
    watch: Watch<'_>,
) -> io::Result<()> {
    let json = serde_json::to_vec(header)?;
    let mut start = MAGIC.to_vec();
    start.extend((json.len() as u32).to_le_bytes());
    start.extend(&json);
    start.extend(blake3::hash(&json).as_bytes());
    start.resize(start.len().next_multiple_of(ALIGN as usize), 0);
    let mut file = NamedTempFile::new_in(folder(path))?;
    file.write_all(&start)?;
    let mut members = Members {
        file: file.as_file(),
        start: start.len() as u64,
    };
    let table = draft.fill(&mut members, watch).map_err(io::Error::other)?;
    let words = header.outline.members();
    file.seek(SeekFrom::Start(members_end(start.len(), words)))?;
    file.write_all(&table.0)?;
    file.write_all(&draft.unusable().0)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

fn members_end(start: usize, words: u64) -> u64 {
    start as u64 + words * Words::BYTES as u64
}

/// The members in a file that begin at `start`.
struct Members<'a> {
    file: &'a File,
    start: u64,
}

impl Sink for Members<'_> {
    fn put(&mut self, at: u64, words: &[u32]) -> Result<(), String> {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let at = SeekFrom::Start(self.start + at * Words::BYTES as u64);
        let done = self.file.seek(at).and_then(|_| self.file.write_all(&bytes));
        done.map_err(|error| error.to_string())
    }
}

/// Removes the layouts of what the index was before.
fn remove_stale(index: &Path, fingerprint: &str) {
    let prefix = prefix(index);
    for entry in fs::read_dir(folder(index)).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if !name.to_str().is_some_and(|name| name.starts_with(&prefix)) {
            continue;
        }
        let header = File::open(entry.path()).and_then(|mut file| read_header(&mut file));
        if header.is_ok_and(|(header, _)| header.dataset != fingerprint) {
            // Whoever has it mapped keeps it; a failure costs room and nothing else.
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests;
