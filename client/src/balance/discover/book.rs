//! What is known about where replicas are: entries, the contents of files, answers of name servers.
//! Pure: it says what to read and to resolve, and is told what came of it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
    path::PathBuf,
    sync::Arc,
};

use super::{
    Listing, MAX_NAMES, MAX_REPLICAS, MAX_TROUBLES, Target, Trouble,
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
    pub(super) fn read(&mut self, path: &PathBuf, contents: Result<&[u8], String>) {
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
fn lines(path: &std::path::Path, contents: &[u8]) -> (Vec<Entry>, Vec<Trouble>) {
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

/// A listing in the making.
#[derive(Default)]
struct Draft {
    listing: Listing,
    /// Who listed an address first.
    by: HashMap<Address, Arc<str>>,
    /// Replicas and troubles past their bounds.
    beyond: usize,
    untold: usize,
    names: BTreeSet<Address>,
}

impl Draft {
    fn entry(&mut self, entry: &Entry, names: &BTreeMap<Address, Name>) {
        match entry {
            Entry::One(address) => {
                if let Some(first) = self.target(entry, address, None) {
                    self.trouble(entry, format!("is listed already, by {first}"));
                }
            }
            Entry::Dns(name) if !self.names.insert(name.clone()) => {
                self.trouble(entry, "is listed already".to_owned());
            }
            Entry::Dns(name) => match names.get(name) {
                Some(known) => self.name(entry, name, known),
                None => {
                    let reason = format!("is left out: more than {MAX_NAMES} names to resolve");
                    self.trouble(entry, reason);
                }
            },
            // Files have no files in them.
            Entry::File(_) => {}
        }
    }

    fn name(&mut self, entry: &Entry, name: &Address, known: &Name) {
        if let Some(reason) = &known.trouble {
            self.trouble(entry, reason.clone());
        }
        let (mut twice, mut by) = (0, None);
        for address in &known.addresses {
            let address = name.at(*address);
            let checked =
                (name.tls && address.host != name.host).then(|| name.host.as_str().into());
            if let Some(first) = self.target(entry, &address, checked) {
                twice += 1;
                by = Some(first);
            }
        }
        if let Some(by) = by {
            let of = known.addresses.len();
            self.trouble(
                entry,
                format!("{twice} of its {of} addresses are listed already, by {by}"),
            );
        }
    }

    /// Lists a replica; if it is listed already, who did.
    fn target(
        &mut self,
        entry: &Entry,
        address: &Address,
        server_name: Option<Arc<str>>,
    ) -> Option<Arc<str>> {
        if let Some(first) = self.by.get(address) {
            return Some(first.clone());
        }
        if self.listing.targets.len() == MAX_REPLICAS {
            self.beyond += 1;
            return None;
        }
        self.by.insert(address.clone(), entry.to_string().into());
        self.listing.targets.push(Target {
            uri: address.to_string().into(),
            server_name,
        });
        None
    }

    fn trouble(&mut self, entry: &Entry, reason: String) {
        let entry = entry.to_string();
        self.note(Trouble { entry, reason });
    }

    fn note(&mut self, trouble: Trouble) {
        if self.listing.troubles.len() < MAX_TROUBLES {
            self.listing.troubles.push(trouble);
        } else {
            self.untold += 1;
        }
    }

    fn finish(mut self) -> Listing {
        let more = |count, what: &str| Trouble {
            entry: format!("{count} more"),
            reason: what.to_owned(),
        };
        if self.untold > 0 {
            let trouble = more(
                self.untold,
                "entries have troubles that are not listed here",
            );
            self.listing.troubles.push(trouble);
        }
        if self.beyond > 0 {
            let reason = format!("replicas are left out: {MAX_REPLICAS} are the most");
            self.listing.troubles.push(more(self.beyond, &reason));
        }
        self.listing
    }
}

#[cfg(test)]
mod tests;
