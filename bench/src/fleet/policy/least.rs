//! Least requests: of all replicas one with the fewest calls, any of them where there are several.

use std::time::Duration;

use fastrand::Rng;
use preheat_client::balance::Time;

use super::bound::Pick;

/// Replicas by the number of their calls.
#[derive(Debug)]
pub(super) struct Least {
    calls: Vec<u32>,
    up: Vec<bool>,
    /// Those that are up, by calls, and where each stands in its list.
    by_calls: Vec<Vec<u32>>,
    places: Vec<u32>,
    /// No replica has fewer calls than this.
    fewest: usize,
    rng: Rng,
}

impl Least {
    pub(super) fn new(replicas: usize, rng: Rng) -> Self {
        Self {
            calls: vec![0; replicas],
            up: vec![false; replicas],
            by_calls: Vec::new(),
            places: vec![0; replicas],
            fewest: 0,
            rng,
        }
    }

    fn insert(&mut self, replica: u32) {
        let calls = self.calls[replica as usize] as usize;
        if calls >= self.by_calls.len() {
            self.by_calls.resize_with(calls + 1, Vec::new);
        }
        self.places[replica as usize] = self.by_calls[calls].len() as u32;
        self.by_calls[calls].push(replica);
        self.fewest = self.fewest.min(calls);
    }

    fn remove(&mut self, replica: u32) {
        let list = &mut self.by_calls[self.calls[replica as usize] as usize];
        let place = self.places[replica as usize] as usize;
        list.swap_remove(place);
        if let Some(&moved) = list.get(place) {
            self.places[moved as usize] = place as u32;
        }
    }

    fn recount(&mut self, replica: u32, calls: u32) {
        let up = self.up[replica as usize];
        if up {
            self.remove(replica);
        }
        self.calls[replica as usize] = calls;
        if up {
            self.insert(replica);
        }
    }
}

impl Pick for Least {
    fn up(&mut self, replica: u32) {
        self.up[replica as usize] = true;
        self.insert(replica);
    }

    fn away(&mut self, replica: u32) {
        self.remove(replica);
        self.up[replica as usize] = false;
    }

    fn pick(&mut self, _now: Time) -> Option<u32> {
        // It rises by one call at a time, and so is never far away.
        while self.by_calls.get(self.fewest)?.is_empty() {
            self.fewest += 1;
        }
        let list = &self.by_calls[self.fewest];
        Some(list[self.rng.usize(..list.len())])
    }

    fn sent(&mut self, replica: u32) {
        self.recount(replica, self.calls[replica as usize] + 1);
    }

    fn ended(&mut self, _now: Time, replica: u32, _latency: Option<Duration>) {
        self.recount(replica, self.calls[replica as usize] - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_has_fewer_than_the_one_that_is_picked() {
        let mut rng = Rng::with_seed(7);
        let mut least = Least::new(20, Rng::with_seed(8));
        let mut calls = [0u32; 20];
        let mut up = [false; 20];
        for _ in 0..20_000 {
            let replica = rng.usize(..20);
            match rng.u32(..10) {
                0 if up[replica] => least.away(replica as u32),
                0 => least.up(replica as u32),
                1..5 if calls[replica] > 0 => {
                    least.ended(Time::ZERO, replica as u32, None);
                    calls[replica] -= 1;
                    continue;
                }
                _ => {
                    let fewest = (0..20).filter(|&one| up[one]).map(|one| calls[one]).min();
                    let picked = least.pick(Time::ZERO);
                    assert_eq!(picked.map(|one| calls[one as usize]), fewest);
                    if let Some(picked) = picked {
                        assert!(up[picked as usize]);
                        least.sent(picked);
                        calls[picked as usize] += 1;
                    }
                    continue;
                }
            }
            up[replica] = !up[replica];
        }
    }
}
