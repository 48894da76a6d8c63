//! What is known about where replicas are: entries, the contents of files, answers of name servers.
//! Pure: it says what to read and to resolve, and is told what came of it.

mod draft;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    path::{Path, PathBuf},
};

use self::draft::Draft;
use super::{
    Listing, MAX_NAMES, MAX_REPLICAS, MAX_TROUBLES, Trouble,
    entry::{Address, Entry, parse},
};

/// Characters of a malformed line that are repeated in its trouble.
const SHOWN_CHARS: usize = 80;

/// Everything known.
pub(super) struct Book {
    entries: Vec<Entry>,
    files: BTreeMap<PathBuf, File>,
    names: BTreeMap<Address, Name>,
}

/// What a file said last.
#[derive(Default)]
struct File {
    entries: Vec<Entry>,
    /// About lines.
    malformed: Vec<Trouble>,
    /// About the whole; the entries are then those of an earlier time.
    trouble: Option<String>,
}

/// What a name stood for last.
#[derive(Default)]
struct Name {
    addresses: Vec<IpAddr>,
    trouble: Option<String>,
}

impl Book {
    /// With nothing read or resolved yet.
    pub(super) fn new(entries: Vec<Entry>) -> Self {
        let files = entries.iter().filter_map(|entry| match entry {
            Entry::File(path) => Some((path.clone(), File::default())),
            _ => None,
        });
        let mut book = Self {
            files: files.collect(),
            names: BTreeMap::new(),
            entries,
        };
        book.find_names();
        book
    }

    /// The files to read.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        self.files.keys().cloned().collect()
    }

    /// The names to resolve.
    pub(super) fn names(&self) -> Vec<Address> {
        self.names.keys().cloned().collect()
    }

    /// Those of them of which nothing was heard yet.
    pub(super) fn new_names(&self) -> Vec<Address> {
        let new = |(_, known): &(_, &Name)| known.addresses.is_empty() && known.trouble.is_none();
        let names = self.names.iter().filter(new);
        names.map(|(name, _)| name.clone()).collect()
    }

    /// A file was read, or could not be. What cannot be read, or names nobody, leaves what it said
    /// before in force.
    pub(super) fn read(&mut self, path: &Path, contents: Result<&[u8], String>) {
        let Some(file) = self.files.get_mut(path) else {
            return;
        };
        let kept = match file.entries.len() {
            0 => String::new(),
            n => format!("; the {n} entries read before stay in force"),
        };
        match contents {
            Err(reason) => file.trouble = Some(format!("{reason}{kept}")),
            Ok(contents) => {
                let (entries, malformed) = lines(path, contents);
                file.malformed = malformed;
                file.trouble = None;
                if entries.is_empty() {
                    file.trouble = Some(format!("names no replica{kept}"));
                } else {
                    file.entries = entries;
                }
            }
        }
        self.find_names();
    }

    /// A name was resolved, or could not be. Only an answer drops addresses.
    pub(super) fn resolved(&mut self, name: &Address, answer: Result<Vec<IpAddr>, String>) {
        let Some(known) = self.names.get_mut(name) else {
            return;
        };
        let answer = answer.and_then(|mut addresses| {
            // The IPv6 addresses of a host that has both would be the same replicas once more.
            if addresses.iter().any(IpAddr::is_ipv4) {
                addresses.retain(IpAddr::is_ipv4);
            }
            addresses.sort_unstable();
            addresses.dedup();
            match addresses.len() {
                0 => Err("the name has no address".to_owned()),
                _ => Ok(addresses),
            }
        });
        match answer {
            Ok(addresses) => {
                *known = Name {
                    addresses,
                    trouble: None,
                }
            }
            Err(reason) => {
                let kept = match known.addresses.len() {
                    0 => String::new(),
                    n => format!("; its last answer, of {n} addresses, stays in force"),
                };
                known.trouble = Some(format!("cannot be resolved: {reason}{kept}"));
            }
        }
    }

    /// All entries, those of files in the place of the file.
    fn flat(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().flat_map(|entry| match entry {
            Entry::File(path) => self.files.get(path).map_or(&[][..], |file| &file.entries),
            entry => std::slice::from_ref(entry),
        })
    }

    /// Names that are no longer listed are forgotten, new ones have no answer yet.
    fn find_names(&mut self) {
        let mut listed = BTreeSet::new();
        for entry in self.flat() {
            if let Entry::Dns(name) = entry
                && listed.len() < MAX_NAMES
            {
                listed.insert(name.clone());
            }
        }
        self.names.retain(|name, _| listed.contains(name));
        for name in listed {
            self.names.entry(name).or_default();
        }
    }

    /// What follows from all of it: each replica once, in the order of the entries, those of a name
    /// by address.
    pub(super) fn listing(&self) -> Listing {
        let mut draft = Draft::default();
        let mut files = BTreeSet::new();
        for entry in &self.entries {
            if let Entry::File(path) = entry {
                if !files.insert(path) {
                    draft.trouble(entry, "is listed already".to_owned());
                    continue;
                }
                let Some(file) = self.files.get(path) else {
                    continue;
                };
                if let Some(reason) = &file.trouble {
                    draft.trouble(entry, reason.clone());
                }
                for trouble in &file.malformed {
                    draft.note(trouble.clone());
                }
                for inner in &file.entries {
                    draft.entry(inner, &self.names);
                }
            } else {
                draft.entry(entry, &self.names);
            }
        }
        draft.finish()
    }
}

/// The entries of a file, one a line, and its malformed lines.
fn lines(path: &Path, contents: &[u8]) -> (Vec<Entry>, Vec<Trouble>) {
    let contents = contents.strip_prefix(b"\xef\xbb\xbf").unwrap_or(contents);
    let (mut entries, mut malformed) = (Vec::new(), Vec::new());
    for (index, line) in contents.split(|byte| *byte == b'\n').enumerate() {
        let line = String::from_utf8_lossy(line);
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        let entry = match parse(line) {
            Ok(Entry::File(_)) => Err("is a file in a file: list its lines here".to_owned()),
            entry => entry,
        };
        match entry {
            // One more than may be, so that the listing says so.
            Ok(entry) if entries.len() <= MAX_REPLICAS => entries.push(entry),
            Ok(_) => {}
            Err(reason) => {
                if malformed.len() <= MAX_TROUBLES {
                    let shown: String = line.chars().take(SHOWN_CHARS).collect();
                    malformed.push(Trouble {
                        entry: format!("file:{} line {}", path.display(), index + 1),
                        reason: format!("`{shown}` {reason}"),
                    });
                }
            }
        }
    }
    (entries, malformed)
}
