//! Who had how much of the devices: start-time fair queueing, with pixels for time.

use std::collections::HashMap;

/// A virtual clock for each model, in pixels. The model whose clock is furthest behind goes first;
/// what it gets moves its clock on.
#[derive(Debug, Default)]
pub(super) struct Shares {
    clocks: HashMap<usize, u64>,
    /// The clock of the model that went last. Whoever joins starts here, so that nobody saves up
    /// for later by staying away.
    now: u64,
}

impl Shares {
    /// A model that had nothing waiting has something again.
    pub(super) fn join(&mut self, model: usize) {
        let clock = self.clocks.entry(model).or_default();
        *clock = self.now.max(*clock);
    }

    /// Its clock.
    pub(super) fn clock(&self, model: usize) -> u64 {
        self.clocks.get(&model).copied().unwrap_or(self.now)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.clocks.len()
    }

    /// A batch of so many pixels goes. `waits` says which models still have something waiting:
    /// of the others only those need remembering that are ahead.
    pub(super) fn charge(&mut self, model: usize, pixels: u64, waits: impl Fn(usize) -> bool) {
        let start = self.clock(model);
        self.now = self.now.max(start);
        self.clocks.insert(model, start.saturating_add(pixels));
        if !self.clocks.keys().any(|model| waits(*model)) {
            // Nobody waited, so nobody was kept waiting: all are even again.
            self.now = self.clocks.values().copied().max().unwrap_or(self.now);
        }
        let now = self.now;
        self.clocks
            .retain(|model, clock| *clock > now || waits(*model));
    }
}
