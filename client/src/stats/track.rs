//! Where the time of a batch goes: which stage each of its chunks was in, and when.

use std::{
    ops::{AddAssign, Index, IndexMut},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// Changes of stage that are kept of one chunk; further ones count as what the last of them was. A
/// chunk has three, and two more for each attempt that fails.
const MAX_CHANGES: usize = 64;

/// What a batch that is not complete waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Room in the window: it is not begun.
    Window,
    /// Its samples' bytes, from the store.
    Store,
    /// A replica that is free.
    Queue,
    /// An answer: a replica is at work on it.
    Replica,
    /// An answer or a request on its way, as far as replicas say how long they had it.
    Network,
    /// The loader itself, which puts it together.
    Loader,
}

impl Stage {
    /// All of them, in the order in which a batch crosses them.
    pub const ALL: [Self; 6] = [
        Self::Window,
        Self::Store,
        Self::Queue,
        Self::Replica,
        Self::Network,
        Self::Loader,
    ];

    /// One word, lower case.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Window => "window",
            Self::Store => "store",
            Self::Queue => "queue",
            Self::Replica => "replica",
            Self::Network => "network",
            Self::Loader => "loader",
        }
    }
}

/// A time for each stage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stages([Duration; Stage::ALL.len()]);

impl Stages {
    /// Sum over all stages.
    pub fn total(&self) -> Duration {
        self.0.iter().sum()
    }
}

impl Index<Stage> for Stages {
    type Output = Duration;

    fn index(&self, stage: Stage) -> &Duration {
        &self.0[stage as usize]
    }
}

impl IndexMut<Stage> for Stages {
    fn index_mut(&mut self, stage: Stage) -> &mut Duration {
        &mut self.0[stage as usize]
    }
}

impl AddAssign for Stages {
    fn add_assign(&mut self, other: Self) {
        for stage in Stage::ALL {
            self[stage] += other[stage];
        }
    }
}

/// The stages of one chunk. Clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct Track(Arc<Mutex<Log>>);

#[derive(Debug)]
struct Log {
    /// When each began.
    stages: Vec<(Instant, Stage)>,
    /// Attempts under way.
    flying: u32,
}

/// An attempt under way, until this is dropped.
pub(crate) struct Flight<'a>(&'a Track);

impl Track {
    /// A chunk whose samples are about to be read.
    pub(crate) fn begin() -> Self {
        Self(Arc::new(Mutex::new(Log {
            stages: vec![(Instant::now(), Stage::Store)],
            flying: 0,
        })))
    }

    pub(crate) fn enter(&self, stage: Stage) {
        self.lock().enter(stage);
    }

    pub(crate) fn fly(&self) -> Flight<'_> {
        let mut log = self.lock();
        log.flying += 1;
        log.enter(Stage::Replica);
        Flight(self)
    }

    /// The answer is here, and its replica had the call for so long: the rest was the way.
    pub(crate) fn answered(&self, served: Option<Duration>) {
        let mut log = self.lock();
        if let (Some(served), Some(&(sent, Stage::Replica))) = (served, log.stages.last()) {
            let now = Instant::now();
            let way = now.saturating_duration_since(sent).saturating_sub(served);
            // Half of it on either side, as far as anybody can tell.
            log.stages.pop();
            log.stages.push((sent, Stage::Network));
            log.stages.push((sent + way / 2, Stage::Replica));
            log.stages.push((now - way / 2, Stage::Network));
        }
        log.enter(Stage::Loader);
    }

    /// How much of `from..to` was spent on what.
    pub(crate) fn during(&self, from: Instant, to: Instant) -> Stages {
        let log = self.lock();
        let mut spent = Stages::default();
        // From the last stage back to the first; before that it was not begun.
        let mut end = to;
        for &(began, stage) in log.stages.iter().rev() {
            spent[stage] += end.saturating_duration_since(began.max(from));
            end = end.min(began);
        }
        spent[Stage::Window] += end.saturating_duration_since(from);
        spent
    }

    /// Everything up to now.
    pub(crate) fn spent(&self) -> Stages {
        let began = self.lock().stages.first().map(|&(began, _)| began);
        let now = Instant::now();
        self.during(began.unwrap_or(now), now)
    }

    fn lock(&self) -> MutexGuard<'_, Log> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Log {
    fn enter(&mut self, stage: Stage) {
        let same = self.stages.last().is_some_and(|&(_, last)| last == stage);
        if !same && self.stages.len() < MAX_CHANGES {
            self.stages.push((Instant::now(), stage));
        }
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        let mut log = self.0.lock();
        log.flying -= 1;
        let at_work = matches!(log.stages.last(), Some((_, Stage::Replica)));
        if log.flying == 0 && at_work {
            // It failed: the chunk waits for another attempt.
            log.enter(Stage::Queue);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn a_wait_is_laid_at_the_stages_that_it_saw() {
        let asked = Instant::now();
        advance(SECOND).await;
        let track = Track::begin();
        advance(2 * SECOND).await;
        track.enter(Stage::Queue);
        advance(3 * SECOND).await;
        drop(track.fly());
        track.enter(Stage::Queue);
        advance(SECOND).await;
        let flight = track.fly();
        advance(4 * SECOND).await;
        track.answered(Some(SECOND));
        drop(flight);
        advance(SECOND / 2).await;
        let now = Instant::now();
        let all = track.during(asked, now);
        assert_eq!(all.total(), now - asked);
        assert_eq!(all[Stage::Window], SECOND);
        assert_eq!(all[Stage::Store], 2 * SECOND);
        assert_eq!(all[Stage::Queue], 4 * SECOND);
        assert_eq!(all[Stage::Replica], SECOND);
        assert_eq!(all[Stage::Network], 3 * SECOND);
        assert_eq!(all[Stage::Loader], SECOND / 2);
        // One who asked late waited for the end of it only.
        let late = track.during(now - SECOND, now);
        assert_eq!(late.total(), SECOND);
        assert_eq!(late[Stage::Network], SECOND / 2);
        assert_eq!(track.during(now, now), Stages::default());
        assert_eq!(track.spent().total() + SECOND, all.total());
    }

    #[tokio::test(start_paused = true)]
    async fn hedges_are_one_flight() {
        let track = Track::begin();
        let (first, second) = (track.fly(), track.fly());
        advance(SECOND).await;
        drop(first);
        advance(SECOND).await;
        assert_eq!(track.spent()[Stage::Replica], 2 * SECOND);
        drop(second);
        advance(SECOND).await;
        assert_eq!(track.spent()[Stage::Queue], SECOND);
        for _ in 0..2 * MAX_CHANGES {
            drop(track.fly());
        }
        assert!(track.lock().stages.len() <= MAX_CHANGES);
    }
}
