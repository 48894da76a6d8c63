//! The balancer: mixed replicas that come and go behave like one fast one.
//!
//! [`Core`] decides: told what happens and what time it is, it says what to send where. It does no I/O, so
//! the simulation drives the same code as the loader and the relay. What it decides by:
//!
//! - a request costs pixels, and a replica is so many pixels a second fast, as learned from its answers;
//! - it goes to a replica that is nearly free, and to the one that would be through with it first;
//! - a slow replica gets only what the others would not finish sooner, and so works from the end of the
//!   queue;
//! - what is needed soon goes by fair shares of the trainers, the rest by when it is needed;
//! - an attempt that fails, or is late, is made again elsewhere, within a budget.

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
