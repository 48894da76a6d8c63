//! Where the replicas are, and when that changes.
//!
//! A user types entries, separated by commas:
//!
//! - `http://host:port`, `https://host:port`: one replica;
//! - `dns+http://host:port`, `dns+https://host:port`: every address of that name is one, for example
//!   those of a headless service of Kubernetes; the certificates are checked against the name. Of a
//!   name with addresses of both kinds only those of IPv4 are taken: the others would be the same
//!   replicas again;
//! - `file:path`: a file with such entries, one a line, and `#` before comments.
//!
//! Names are resolved and files read again and again. What fails is a [`Trouble`], and leaves in
//! force what was known before.

mod book;
mod entry;
mod outside;
#[cfg(test)]
mod tests;

use std::{collections::HashMap, path::PathBuf, sync::Arc, time::Duration};

use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, MissedTickBehavior, interval, timeout},
};

use self::{
    book::Book,
    entry::{Address, Entry, parse},
    outside::{Contents, Resolve, System, look},
};
use crate::error::Error;

/// How often names are resolved: name servers let answers be kept for about as long.
const RESOLVE_EVERY: Duration = Duration::from_secs(5);
/// How often files are looked at: they are small, and nobody waits longer for a change.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long the start waits for the first answers of disks and name servers.
const FIRST_ANSWERS: Duration = Duration::from_secs(5);
/// Most replicas of one listing: more than one balancer can keep connections to.
pub const MAX_REPLICAS: usize = 65_536;
/// Most names to resolve: each may hold a thread while its name server is silent.
pub const MAX_NAMES: usize = 64;
/// Largest file: room for [`MAX_REPLICAS`] lines with comments.
pub const MAX_FILE_BYTES: u64 = 8 << 20;
/// Most troubles of one listing; the others are counted.
pub const MAX_TROUBLES: usize = 100;

/// One replica to connect to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// `http://` or `https://` with host or address, and port. Also the name under which it is shown.
    pub uri: Arc<str>,
    /// The name that its certificate must carry, where that is not the host of the URI.
    pub server_name: Option<Arc<str>>,
}

/// Something about an entry that does not work.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Trouble {
    /// Which one: as it is typed, or the line of a file.
    pub entry: String,
    /// Why, and what stays in force.
    pub reason: String,
}

/// Where the replicas are at present.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// Each once, in the order of the entries; those of a name by address.
    pub targets: Vec<Target>,
    /// What does not work, in the order of the entries.
    pub troubles: Vec<Trouble>,
}

/// What a user has typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sources(Vec<Entry>);

impl Sources {
    /// Reads entries separated by commas, from one text or several. `field` is what errors call it.
    ///
    /// # Errors
    /// [`Error::Config`]: a malformed entry, no entry, or too many.
    pub fn parse<T: AsRef<str>>(
        field: &'static str,
        texts: impl IntoIterator<Item = T>,
    ) -> Result<Self, Error> {
        let mut entries = Vec::new();
        for text in texts {
            for typed in text
                .as_ref()
                .split(',')
                .map(str::trim)
                .filter(|t| !t.is_empty())
            {
                let entry = parse(typed)
                    .map_err(|reason| Error::config(field, format!("`{typed}` {reason}")))?;
                entries.push(entry);
            }
        }
        match entries.len() {
            0 => Err(Error::config(
                field,
                "names no replica: write http://host:port",
            )),
            1..=MAX_REPLICAS => Ok(Self(entries)),
            n => {
                let reason = format!("has {n} entries, and {MAX_REPLICAS} are the most");
                Err(Error::config(field, reason))
            }
        }
    }
}

/// Follows [`Sources`] until it and all receivers of its listings are dropped.
#[derive(Debug)]
pub struct Discovery {
    listing: watch::Receiver<Arc<Listing>>,
    reload: Arc<Notify>,
}

impl Discovery {
    /// Starts. The first listing is there when every entry was tried once, or after five seconds.
    /// Must be called inside a runtime.
    pub async fn start(sources: Sources) -> Self {
        Self::start_with(sources, System).await
    }

    async fn start_with<R: Resolve>(sources: Sources, resolver: R) -> Self {
        let (sender, listing) = watch::channel(Arc::default());
        let reload = Arc::new(Notify::new());
        let mut follower = Follower {
            book: Book::new(sources.0),
            resolver: Arc::new(resolver),
            listing: sender,
            underway: FuturesUnordered::new(),
            resolving: HashMap::new(),
            looking: false,
            seen: HashMap::new(),
        };
        follower.look(false);
        follower.resolve(follower.book.names());
        // What is late arrives in a later listing.
        let _ = timeout(FIRST_ANSWERS, follower.first()).await;
        follower.publish();
        tokio::spawn(follower.follow(Arc::clone(&reload)));
        Self { listing, reload }
    }

    /// The present listing, and how to wait for the next.
    pub fn listing(&self) -> watch::Receiver<Arc<Listing>> {
        self.listing.clone()
    }

    /// Reads files and resolves names now.
    pub fn reload(&self) {
        self.reload.notify_one();
    }
}

/// What came of something outside.
enum Event {
    Looked(Vec<(PathBuf, Contents)>),
    Resolved(Address, Result<Vec<std::net::IpAddr>, String>),
}

struct Follower<R> {
    book: Book,
    resolver: Arc<R>,
    listing: watch::Sender<Arc<Listing>>,
    underway: FuturesUnordered<BoxFuture<'static, Event>>,
    /// Since when. A name is not resolved again before it is answered: every lookup may be a thread.
    resolving: HashMap<Address, Instant>,
    /// The same of files.
    looking: bool,
    /// What files held when they were looked at last.
    seen: HashMap<PathBuf, Contents>,
}

impl<R: Resolve> Follower<R> {
    async fn first(&mut self) {
        while let Some(event) = self.underway.next().await {
            self.take(event);
        }
    }

    async fn follow(mut self, reload: Arc<Notify>) {
        let pace = |period| {
            let mut pace = interval(period);
            pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
            // The start was the first.
            pace.reset();
            pace
        };
        let (mut looks, mut lookups) = (pace(LOOK_EVERY), pace(RESOLVE_EVERY));
        loop {
            tokio::select! {
                _ = looks.tick() => self.look(true),
                _ = lookups.tick() => {
                    self.complain();
                    self.resolve(self.book.names());
                }
                () = reload.notified() => {
                    self.look(false);
                    self.resolve(self.book.names());
                }
                Some(event) = self.underway.next() => self.take(event),
                () = self.listing.closed() => return,
            }
            self.publish();
        }
    }

    /// `settle`: whether a change must last for a moment.
    fn look(&mut self, settle: bool) {
        let files = self.book.files();
        if self.looking || files.is_empty() {
            return;
        }
        self.looking = true;
        let seen = self.seen.clone();
        let look = look(files, seen, settle);
        self.underway
            .push(Box::pin(async { Event::Looked(look.await) }));
    }

    fn resolve(&mut self, names: Vec<Address>) {
        for name in names {
            if self.resolving.contains_key(&name) {
                continue;
            }
            self.resolving.insert(name.clone(), Instant::now());
            let resolver = Arc::clone(&self.resolver);
            self.underway.push(Box::pin(async move {
                let answer = resolver.resolve(&name.host, name.port).await;
                Event::Resolved(name, answer.map_err(|error| error.to_string()))
            }));
        }
    }

    /// About lookups that last.
    fn complain(&mut self) {
        for (name, since) in &self.resolving {
            if since.elapsed() >= RESOLVE_EVERY {
                // Without a figure: the log would have a line for each.
                let reason = "no name server answers".to_owned();
                self.book.resolved(name, Err(reason));
            }
        }
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Looked(changed) => {
                self.looking = false;
                for (path, contents) in changed {
                    self.book
                        .read(&path, contents.as_deref().map_err(String::clone));
                    self.seen.insert(path, contents);
                }
                self.resolve(self.book.new_names());
            }
            Event::Resolved(name, answer) => {
                self.resolving.remove(&name);
                self.book.resolved(&name, answer);
            }
        }
    }

    fn publish(&self) {
        let now = self.book.listing();
        self.listing.send_if_modified(|before| {
            let changed = now != **before;
            if changed {
                log(before, &now);
                *before = Arc::new(now);
            }
            changed
        });
    }
}

/// Troubles are named when they come and when they are gone.
fn log(before: &Listing, now: &Listing) {
    for Trouble { entry, reason } in &now.troubles {
        if !before
            .troubles
            .iter()
            .any(|t| t.entry == *entry && t.reason == *reason)
        {
            tracing::warn!("replicas: {entry} {reason}");
        }
    }
    for Trouble { entry, .. } in &before.troubles {
        if !now.troubles.iter().any(|t| t.entry == *entry) {
            tracing::info!("replicas: {entry}: no trouble any more");
        }
    }
    if before.targets != now.targets {
        tracing::info!(
            "replicas: {} listed, {} before",
            now.targets.len(),
            before.targets.len()
        );
    }
}
