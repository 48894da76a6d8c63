//! Ending from outside what another thread waits for.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

/// A switch that ends the processes of all who were given a clone of it, from any thread: whoever waits
/// for one gets [`ClipError::Stopped`](crate::ClipError::Stopped) within a moment.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Ends them, now and for ever.
    pub fn stop(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether it was used.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// The same switch.
impl PartialEq for Stop {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Stop {}
