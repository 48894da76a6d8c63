//! The balancer: mixed replicas that come and go behave like one fast one.

mod budget;
mod core;
mod deaths;
pub mod desire;
pub mod discover;
pub(crate) mod drive;
mod fair;
mod group;
mod index;
mod keeper;
pub mod orca;
pub(crate) mod peer;
mod queue;
mod rate;
mod replica;
mod request;
mod types;
mod view;

pub use self::core::{Core, Settings};
pub use discover::{Discovery, Listing, Sources, Target, Trouble};
pub use types::{Action, Ask, Full, Outcome, ReplicaId, Report, RequestId, Served, Time, Verdict};
pub use view::{Desired, QueueView, ReplicaView, Standing, Totals, TrainerView, View};

/// A handle for views that are made up.
#[cfg(all(test, feature = "relay"))]
pub(crate) fn replica_id(number: u32) -> ReplicaId {
    ReplicaId::new(number, 0)
}
