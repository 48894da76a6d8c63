//! A listing in the making: each replica once, and what does not work.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use super::Name;
use crate::balance::discover::{
    Listing, MAX_NAMES, MAX_REPLICAS, MAX_TROUBLES, Target, Trouble,
    entry::{Address, Entry},
};

/// A listing in the making.
#[derive(Default)]
pub(super) struct Draft {
    listing: Listing,
    /// Who listed an address first.
    by: HashMap<Address, Arc<str>>,
    /// Replicas and troubles past their bounds.
    beyond: usize,
    untold: usize,
    names: BTreeSet<Address>,
}

impl Draft {
    /// Lists what an entry stands for.
    pub(super) fn entry(&mut self, entry: &Entry, names: &BTreeMap<Address, Name>) {
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

    /// Notes a trouble with an entry.
    pub(super) fn trouble(&mut self, entry: &Entry, reason: String) {
        let entry = entry.to_string();
        self.note(Trouble { entry, reason });
    }

    /// Notes a trouble.
    pub(super) fn note(&mut self, trouble: Trouble) {
        if self.listing.troubles.len() < MAX_TROUBLES {
            self.listing.troubles.push(trouble);
        } else {
            self.untold += 1;
        }
    }

    /// With a count of what is past the bounds.
    pub(super) fn finish(mut self) -> Listing {
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
