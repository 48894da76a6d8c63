//! How fast the trainer takes batches, as if it never had to wait for one.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

/// Steps that the estimate looks back on: few enough to follow a trainer that changes, and many
/// enough that evaluations and checkpoints between them are never half of them.
const STEPS: usize = 15;
/// Steps before needs are told apart by them: the first are slow, with a window that is still empty.
const FIRST_STEPS: usize = 5;
/// The part of the steps that are quicker than the one by which needs are told apart. Where ranks wait
/// for each other, a rank takes the others' waiting for its own step. Needed too early does no harm; too
/// late, and what is asked for later overtakes it.
const BRISK: f64 = 0.25;
/// A step that took longer than this was a pause, also where there is nothing to compare it with.
const LONGEST_STEP: Duration = Duration::from_secs(600);
/// Batches are needed at least this far apart: longer than calls overtake each other on their way to
/// a replica, shorter than the steps of almost any trainer.
const SHORTEST_STEP: Duration = Duration::from_millis(50);

/// The pace of one trainer.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// The last [`STEPS`], oldest first.
    steps: VecDeque<Duration>,
    /// Their median: pauses are far from it, and so do not count at all.
    step: Option<Duration>,
    /// The quicker one of [`BRISK`].
    brisk: Option<Duration>,
    last_taken: Option<Instant>,
    /// Batches admitted and taken since the start.
    admitted: u64,
    taken: u64,
}

impl Pace {
    /// The time of a step; `None` before the first has ended.
    pub(super) const fn step(&self) -> Option<Duration> {
        self.step
    }

    pub(super) const fn admitted(&mut self) {
        self.admitted += 1;
    }

    /// When the batch admitted last will be needed: after all before it, at the trainer's pace. A
    /// trainer that waits, as at the start, needs them at once, but still one after the other:
    /// replicas serve what is needed first, and must not do the tenth batch before the first.
    pub(super) fn needed_at(&self, now: Instant) -> Instant {
        let ahead = u32::try_from(self.admitted.saturating_sub(self.taken)).unwrap_or(u32::MAX);
        let step = self.brisk.unwrap_or_default();
        let apart = step.max(SHORTEST_STEP);
        let soonest = now + apart.saturating_mul(ahead.saturating_sub(1));
        match self.last_taken {
            Some(last) => soonest.max(last + step.saturating_mul(ahead)),
            None => soonest,
        }
    }

    /// The trainer asked for a batch: its step had ended. Says how long that took.
    pub(super) fn asked(&mut self, now: Instant) -> Option<Duration> {
        let step = now.saturating_duration_since(self.last_taken?);
        if step <= LONGEST_STEP {
            if self.steps.len() == STEPS {
                self.steps.pop_front();
            }
            self.steps.push_back(step);
            let mut sorted: Vec<_> = self.steps.iter().copied().collect();
            sorted.sort_unstable();
            // The lower one of two: needed too early does no harm.
            self.step = Some(sorted[(sorted.len() - 1) / 2]);
            let brisk = sorted[((sorted.len() - 1) as f64 * BRISK) as usize];
            self.brisk = (sorted.len() >= FIRST_STEPS).then_some(brisk);
        }
        Some(step)
    }

    /// The trainer has its batch: its next step begins.
    pub(super) const fn taken(&mut self, now: Instant) {
        self.taken += 1;
        self.last_taken = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    async fn steps(pace: &mut Pace, count: u32, step: Duration) {
        for _ in 0..count {
            pace.admitted();
            pace.asked(Instant::now());
            pace.taken(Instant::now());
            advance(step).await;
        }
        pace.asked(Instant::now());
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_do_not_change_the_pace() {
        let step = Duration::from_millis(200);
        let mut pace = Pace::default();
        steps(&mut pace, 2, step).await;
        pace.admitted();
        // An evaluation after every fourth step; one of five minutes, one of an hour.
        for pause in [5, 300, 3600] {
            steps(&mut pace, 4, step).await;
            assert_eq!(pace.step(), Some(step));
            pace.taken(Instant::now());
            advance(Duration::from_secs(pause)).await;
            pace.asked(Instant::now());
            assert_eq!(pace.step(), Some(step), "after {pause} s");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_asked_for_during_a_pause_is_needed_after_it() {
        let step = Duration::from_millis(200);
        let mut pace = Pace::default();
        steps(&mut pace, 5, step).await;
        pace.taken(Instant::now());
        pace.taken = pace.admitted;
        advance(Duration::from_secs(300)).await;
        for ahead in 0..4 {
            pace.admitted();
            assert_eq!(
                pace.needed_at(Instant::now()),
                Instant::now() + step * ahead
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn other_ranks_waiting_is_not_this_ones_step() {
        let (step, stall) = (Duration::from_millis(200), Duration::from_secs(5));
        let mut pace = Pace::default();
        // The very first is slow, as a window that is still empty makes it.
        steps(&mut pace, 1, stall).await;
        assert!(pace.needed_at(Instant::now()) <= Instant::now() + SHORTEST_STEP);
        steps(&mut pace, STEPS as u32, step).await;
        for _ in 0..STEPS {
            steps(&mut pace, 1, stall).await;
            steps(&mut pace, 1, step).await;
            pace.admitted = pace.taken + 3;
            assert_eq!(pace.needed_at(Instant::now()), Instant::now() + step * 2);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_trainer_that_changes_is_followed() {
        let mut pace = Pace::default();
        steps(&mut pace, 40, Duration::from_millis(100)).await;
        steps(&mut pace, STEPS as u32 / 2 + 1, Duration::from_secs(2)).await;
        assert_eq!(pace.step(), Some(Duration::from_secs(2)));
    }
}
