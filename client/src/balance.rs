//! The balancer: mixed replicas that come and go behave like one fast one.

pub mod desire;
pub mod discover;
mod types;
mod view;

pub use types::{Action, Ask, Full, Outcome, ReplicaId, Report, RequestId, Served, Time, Verdict};
pub use view::{Desired, QueueView, ReplicaView, Standing, Totals, TrainerView, View};

/// A handle for views that are made up.
#[cfg(all(test, feature = "relay"))]
pub(crate) fn replica_id(number: u32) -> ReplicaId {
    ReplicaId(number)
}
