//! Which models are served under which names. Pure: time is an argument.

use std::{
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak},
    time::{Duration, Instant},
};

use preheat_models::Fingerprint;

use super::generation::Generation;

/// Sets of weights that one name has at a time: those that new calls get, and those before, for
/// runs that pin them.
const GENERATIONS: usize = 2;

/// All models.
#[derive(Debug)]
pub(crate) struct Catalogue {
    models: RwLock<Vec<Vec<Arc<Generation>>>>,
    /// Retired, and perhaps still held by calls.
    leaving: RwLock<Vec<Weak<Generation>>>,
}

/// Why there is nothing to serve a call with.
#[derive(Debug)]
pub(crate) enum Missing {
    /// No such name; these are served.
    Name(Vec<String>),
    /// These fingerprints are served under the name, the newest first.
    Fingerprint(Vec<Fingerprint>),
}

impl Catalogue {
    /// One generation of each name, in the order in which they are listed.
    pub(crate) fn new(models: Vec<Generation>) -> Self {
        let first = |generation| vec![Arc::new(generation)];
        Self {
            models: RwLock::new(models.into_iter().map(first).collect()),
            leaving: RwLock::default(),
        }
    }

    /// The newest generation of a name, or the one that is pinned.
    pub(crate) fn find(&self, name: &str, pinned: &str) -> Result<Arc<Generation>, Missing> {
        let models = self.read();
        let Some(generations) = models.iter().find(|known| known[0].name == name) else {
            let names = models.iter().map(|known| known[0].name.clone());
            return Err(Missing::Name(names.collect()));
        };
        let mut wanted = generations.iter().filter(|generation| {
            pinned.is_empty() || generation.spec.fingerprint.to_string() == pinned
        });
        let found = wanted.next().ok_or_else(|| {
            let served = generations.iter().map(|known| known.spec.fingerprint);
            Missing::Fingerprint(served.collect())
        })?;
        found.touch();
        Ok(Arc::clone(found))
    }

    /// The generations of every name, the newest first.
    pub(crate) fn list(&self) -> Vec<Vec<Arc<Generation>>> {
        self.read().clone()
    }

    /// Serves a generation to new calls from now on. The one before stays for those that pin it;
    /// the one before that is retired.
    pub(crate) fn install(&self, generation: Generation) {
        let mut models = self.write();
        let name = &generation.name;
        if let Some(known) = models.iter_mut().find(|known| known[0].name == *name) {
            known[0].touch();
            known.insert(0, Arc::new(generation));
            let retired = known.drain(GENERATIONS.min(known.len())..).collect();
            drop(models);
            self.leave(retired);
        }
    }

    /// Serves an older generation, if there is one of this fingerprint, to new calls again.
    pub(crate) fn bring_back(&self, name: &str, fingerprint: Fingerprint) {
        let mut models = self.write();
        for known in models.iter_mut().filter(|known| known[0].name == name) {
            let place = known.iter().position(|g| g.spec.fingerprint == fingerprint);
            if let Some(place) = place {
                known[0].touch();
                known[..=place].rotate_right(1);
            }
        }
    }

    /// Retires older generations that nobody used for so long.
    pub(crate) fn retire(&self, now: Instant, after: Duration) {
        let mut retired = Vec::new();
        for known in self.write().iter_mut() {
            let mut index = 0;
            // Under the lock nobody can take a new share, so one share means none in use.
            known.retain(|generation| {
                let old = index > 0
                    && Arc::strong_count(generation) == 1
                    && now.saturating_duration_since(generation.used()) >= after;
                index += 1;
                if old {
                    retired.push(Arc::clone(generation));
                }
                !old
            });
        }
        self.leave(retired);
    }

    /// How many retired generations are still held by calls.
    pub(crate) fn leaving(&self) -> usize {
        let mut leaving = self.leaving.write().unwrap_or_else(PoisonError::into_inner);
        leaving.retain(|generation| generation.strong_count() > 0);
        leaving.len()
    }

    fn leave(&self, retired: Vec<Arc<Generation>>) {
        let mut leaving = self.leaving.write().unwrap_or_else(PoisonError::into_inner);
        for generation in retired {
            let (name, fingerprint) = (&generation.name, generation.spec.fingerprint);
            tracing::info!(%fingerprint, "model `{name}`: these weights are retired");
            leaving.push(Arc::downgrade(&generation));
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Vec<Vec<Arc<Generation>>>> {
        self.models.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Vec<Vec<Arc<Generation>>>> {
        self.models.write().unwrap_or_else(PoisonError::into_inner)
    }
}
