//! How many batches are under way at once: as many as the trainer's pace and the answers' latency
//! ask for.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use tokio::time::Instant;

/// Batches under way whatever is measured, and before anything is: a few calls overlap even where the
/// trainer is slow, and reading goes on while others are encoded.
const LEAST: usize = 8;
/// The work under way covers the time of an answer so many times at the trainer's pace: the window then
/// fills so many times faster than it is emptied, wherever the fleet can.
const COVER: f64 = 4.0;
/// Answers that the estimate of their latency looks back on.
const RECENT: usize = 64;
/// The part of them that is within the estimate: slow ones count, and the slowest few do not.
const QUANTILE: f64 = 0.95;
/// A batch that takes so many times longer than that, and at least so long, holds no other up: it no
/// longer counts as under way.
const OVERDUE: (u32, Duration) = (2, Duration::from_secs(1));

/// Batches that are admitted and not complete, and how long those before them took.
#[derive(Debug, Default)]
pub(super) struct Depth {
    next: u64,
    under_way: BTreeMap<u64, Instant>,
    /// The last [`RECENT`], oldest first.
    latencies: VecDeque<Duration>,
    latency: Option<Duration>,
    /// Batches completed: until the trainer's pace is known, one more may be under way for each, so
    /// that a start does not fall upon the fleet all at once.
    completed: usize,
}

impl Depth {
    pub(super) fn begins(&mut self, now: Instant) -> u64 {
        self.next += 1;
        self.under_way.insert(self.next, now);
        self.next
    }

    /// It is complete, and waited for a replica that is free for `queued` of its time. That is not
    /// latency: more under way only makes it longer, and a loader that took it for latency would ask
    /// a fleet that is busy for more and more.
    pub(super) fn completes(&mut self, id: u64, now: Instant, queued: Duration) {
        let Some(began) = self.under_way.remove(&id) else {
            return;
        };
        self.completed = self.completed.saturating_add(1);
        if self.latencies.len() == RECENT {
            self.latencies.pop_front();
        }
        self.latencies
            .push_back((now - began).saturating_sub(queued));
        let mut sorted: Vec<_> = self.latencies.iter().copied().collect();
        sorted.sort_unstable();
        let at = ((sorted.len() - 1) as f64 * QUANTILE).ceil() as usize;
        self.latency = sorted.get(at).copied();
    }

    /// Its preparation was given up.
    pub(super) fn ends(&mut self, id: u64) {
        self.under_way.remove(&id);
    }

    /// Most batches under way, for a trainer that needs one every `step`.
    pub(super) fn target(&self, step: Option<Duration>) -> usize {
        let (Some(step), Some(latency)) = (step, self.latency) else {
            return LEAST.saturating_add(self.completed);
        };
        // A step of no length needs everything: the conversion saturates.
        let cover = COVER * latency.as_secs_f64() / step.as_secs_f64();
        LEAST.max(cover.ceil() as usize)
    }

    pub(super) fn len(&self) -> usize {
        self.under_way.len()
    }

    /// `Ok` if there is room for one more; else when there may be although nothing completes.
    pub(super) fn room(&self, step: Option<Duration>, now: Instant) -> Result<(), Instant> {
        let overdue = OVERDUE.1.max(OVERDUE.0 * self.latency.unwrap_or_default());
        let mut counted = self
            .under_way
            .values()
            .filter(|&&began| began + overdue > now);
        let oldest = counted.next();
        match oldest {
            Some(&oldest) if counted.count() + 1 >= self.target(step) => Err(oldest + overdue),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    async fn answered(depth: &mut Depth, count: usize, latency: Duration) {
        let ids: Vec<_> = (0..count).map(|_| depth.begins(Instant::now())).collect();
        advance(latency).await;
        for id in ids {
            depth.completes(id, Instant::now(), Duration::ZERO);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn depth_follows_latency_and_pace() {
        let mut depth = Depth::default();
        assert_eq!(depth.target(None), LEAST);
        answered(&mut depth, 3, SECOND).await;
        assert_eq!(depth.target(None), LEAST + 3, "it grows with the answers");
        assert_eq!(depth.target(Some(SECOND / 10)), 40);
        assert_eq!(depth.target(Some(SECOND / 100)), 400);
        assert_eq!(depth.target(Some(60 * SECOND)), LEAST);
        assert_eq!(depth.target(Some(Duration::ZERO)), usize::MAX);
        // Five in a hundred answers are ten times slower.
        answered(&mut depth, 3, 10 * SECOND).await;
        assert_eq!(depth.target(Some(SECOND)), 40);
        answered(&mut depth, RECENT, SECOND).await;
        assert_eq!(depth.target(Some(SECOND / 10)), 40, "and is forgotten");
    }

    #[tokio::test(start_paused = true)]
    async fn a_busy_fleet_is_not_asked_for_more() {
        let mut depth = Depth::default();
        answered(&mut depth, RECENT, SECOND).await;
        let target = depth.target(Some(SECOND / 10));
        for queue in [10, 100, 1000] {
            for _ in 0..RECENT {
                let id = depth.begins(Instant::now());
                advance((queue + 1) * SECOND).await;
                depth.completes(id, Instant::now(), queue * SECOND);
            }
            assert_eq!(depth.target(Some(SECOND / 10)), target, "after {queue} s");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_stuck_hold_nothing_up() {
        let mut depth = Depth::default();
        for _ in 0..LEAST {
            assert_eq!(depth.room(None, Instant::now()), Ok(()));
            depth.begins(Instant::now());
        }
        let until = depth.room(None, Instant::now()).unwrap_err();
        assert_eq!(until, Instant::now() + OVERDUE.1);
        advance(OVERDUE.1).await;
        assert_eq!(depth.room(None, Instant::now()), Ok(()));
        assert_eq!(depth.len(), LEAST, "they are under way all the same");
    }
}
