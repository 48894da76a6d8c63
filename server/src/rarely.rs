//! Log lines that strangers can cause, bounded: a flood of them would hide the rest.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// A bound on log lines of one kind: so many in a period, and a count of what was left out.
#[derive(Debug)]
pub(crate) struct Rarely {
    lines: u32,
    period: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    since: Option<Instant>,
    written: u32,
    left_out: u64,
}

impl Rarely {
    /// At most `lines` in every `period`.
    pub(crate) const fn new(lines: u32, period: Duration) -> Self {
        let state = Mutex::new(State {
            since: None,
            written: 0,
            left_out: 0,
        });
        Self {
            lines,
            period,
            state,
        }
    }

    /// Whether a line may be written now; if so, how many were left out since the last.
    pub(crate) fn may(&self) -> Option<u64> {
        self.may_at(Instant::now())
    }

    fn may_at(&self, now: Instant) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.since.is_none_or(|since| now - since >= self.period) {
            state.since = Some(now);
            state.written = 0;
        }
        if state.written == self.lines {
            state.left_out += 1;
            return None;
        }
        state.written += 1;
        Some(std::mem::take(&mut state.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_counted_not_written() {
        let rarely = Rarely::new(2, Duration::from_secs(1));
        let start = Instant::now();
        let written: Vec<_> = (0..5).map(|_| rarely.may_at(start)).collect();
        assert_eq!(written, [Some(0), Some(0), None, None, None]);
        let later = start + Duration::from_secs(1);
        assert_eq!(rarely.may_at(later), Some(3));
        assert_eq!(rarely.may_at(later), Some(0));
        assert_eq!(rarely.may_at(later), None);
    }
}
