//! Replicas come and go: what is listed, and what their keepers tell of them.

use std::{collections::HashMap, sync::Arc};

use preheat_proto::{Error as CallError, v1::InfoResponse};
use tokio::sync::Notify;
use tokio_util::task::AbortOnDropHandle;

use super::shared::{Listed, Shared};
use crate::balance::{
    core::{Core, unavailable},
    discover::{Listing, Target},
    keeper,
    peer::Peer,
    types::{ReplicaId, Served, Time},
};

impl Shared {
    /// Starts with new replicas, and takes leave of those that are gone.
    pub(super) fn follow(self: &Arc<Self>, listing: &Listing) {
        let now = self.now();
        let mut state = self.lock();
        let state = &mut *state;
        let known: HashMap<Target, ReplicaId> = state
            .listed
            .iter()
            .filter(|(_, one)| !one.left)
            .map(|(&id, one)| (one.target.clone(), id))
            .collect();
        for (target, &id) in &known {
            if !listing.targets.contains(target) {
                tracing::info!(replica = %target.uri, "no longer listed");
                state.core.leave(now, id);
                if let Some(gone) = state.listed.get_mut(&id) {
                    gone.keeper = None;
                    gone.left = true;
                }
            }
        }
        let left: Vec<_> = state
            .listed
            .keys()
            .copied()
            .filter(|&id| !state.core.knows(id))
            .collect();
        for id in left {
            state.listed.remove(&id);
        }
        for target in &listing.targets {
            if !known.contains_key(target) {
                let id = state.core.join(now, &target.uri);
                let listed = self.list(&mut state.core, now, (id, target));
                state.listed.insert(id, listed);
            }
        }
        state.troubles.clone_from(&listing.troubles);
        self.carry_out(state, now);
        self.changes.send_modify(|change| *change += 1);
    }

    fn list(
        self: &Arc<Self>,
        core: &mut Core,
        now: Time,
        (id, target): (ReplicaId, &Target),
    ) -> Listed {
        let probe = Arc::new(Notify::new());
        let (peer, trouble) = match Peer::new(target, &self.calling) {
            Ok(peer) => (Some(peer), None),
            Err(error) => {
                tracing::warn!(replica = %target.uri, %error, "cannot be called");
                core.away(now, id, &error.to_string());
                (None, Some(unavailable(error.to_string())))
            }
        };
        let keeper = peer.clone().map(|peer| {
            let keeper = keeper::Keeper::new(id, peer, probe.clone(), Arc::downgrade(self));
            AbortOnDropHandle::new(tokio::spawn(keeper.run()))
        });
        Listed {
            target: target.clone(),
            peer,
            probe,
            info: None,
            trouble,
            keeper,
            left: false,
        }
    }
}

/// What a keeper tells of its replica.
impl keeper::Tells for Shared {
    fn up(&self, id: ReplicaId, info: InfoResponse) {
        let served = served(&info);
        {
            let mut state = self.lock();
            if let Some(listed) = state.listed.get_mut(&id) {
                listed.info = Some(Arc::new(info));
                listed.trouble = None;
            }
        }
        self.tell(|core, now| core.up(now, id, Arc::new(served)));
        self.changes.send_modify(|change| *change += 1);
    }

    fn away(&self, id: ReplicaId, trouble: CallError) {
        self.tell(|core, now| core.away(now, id, &trouble.message));
        if let Some(listed) = self.lock().listed.get_mut(&id) {
            listed.trouble = Some(trouble);
        }
        self.changes.send_modify(|change| *change += 1);
    }
}

fn served(info: &InfoResponse) -> Served {
    let models = info.models.iter().map(|model| {
        let older = model.older_fingerprints.iter().cloned();
        let known = std::iter::once(model.fingerprint.clone()).chain(older);
        (model.name.clone(), known.collect())
    });
    Served {
        models: models.collect(),
    }
}
