//! Statistics in words: one line while it runs, a few at the end.

use std::{
    fmt::{self, Write},
    time::Duration,
};

use super::{Stage, Stats};

/// A trainer that waits for less than this part of its time is not held up by its data.
const UNBOUND: f64 = 0.005;

/// What bounds a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// The trainer: data were there in time.
    Trainer,
    /// The look-ahead: it has no room for the next batch.
    Window,
    /// Reading the samples.
    Store,
    /// The replicas: they are all at work, or away.
    Fleet,
    /// The way to the replicas and back.
    Network,
    /// The loader's own process.
    Loader,
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Trainer => "trainer",
            Self::Window => "window",
            Self::Store => "store",
            Self::Fleet => "fleet",
            Self::Network => "network",
            Self::Loader => "loader",
        })
    }
}

impl Stats {
    /// The part of the steps, from 0 to 1, whose batch was there when it was asked for. The first is
    /// not counted: nothing could be ready.
    pub fn readiness(&self) -> f64 {
        let steps = self.batches.saturating_sub(1);
        let waits = self.waits.saturating_sub(u64::from(self.first_waited()));
        match steps {
            0 => 1.0,
            steps => 1.0 - waits as f64 / steps as f64,
        }
    }

    /// The part of the trainer's time, from 0 to 1, that it waited for data, the first batch aside.
    pub fn stall_share(&self) -> f64 {
        let waited = self.waited_later().as_secs_f64();
        let all = waited + self.stepped.as_secs_f64();
        if all > 0.0 { waited / all } else { 0.0 }
    }

    /// What the trainer waited for most, or the trainer itself.
    pub fn bound(&self) -> Bound {
        if self.stall_share() < UNBOUND {
            return Bound::Trainer;
        }
        let on = &self.waited_on;
        let candidates = [
            (Bound::Fleet, on[Stage::Queue] + on[Stage::Replica]),
            (Bound::Store, on[Stage::Store]),
            (Bound::Network, on[Stage::Network]),
            (Bound::Window, on[Stage::Window]),
            (Bound::Loader, on[Stage::Loader]),
        ];
        let most = candidates.into_iter().max_by_key(|&(_, waited)| waited);
        most.map_or(Bound::Trainer, |(bound, _)| bound)
    }

    /// One line for a terminal, without its end.
    pub fn progress_line(&self) -> String {
        let mut line = format!(
            "{} steps, {} images, {:.0}/s; {:.1} % waited for data; {} ready, {} under way, {} held",
            self.batches,
            self.images,
            self.images_per_second(),
            100.0 * self.stall_share(),
            self.ready_batches,
            self.under_way,
            bytes(self.window_bytes),
        );
        if self.encode.count > 0 {
            let (p50, p99) = (self.encode.p50, self.encode.p99);
            let _ = write!(line, "; encode {p50:.0?}, p99 {p99:.0?}");
        }
        for (count, what) in [
            (self.hedges, "hedges"),
            (self.retries, "retries"),
            (self.bad_samples, "bad samples"),
        ] {
            if count > 0 {
                let _ = write!(line, "; {count} {what}");
            }
        }
        line
    }

    /// What the run was bound by, with the evidence, in a few lines; the last ends without a line end.
    pub fn summary(&self) -> String {
        let late = self.waited_later();
        let bound = self.bound();
        let mut text = format!(
            "{} images in {} steps, {:.1} a second\nbound by the {bound}: {}\n",
            self.images,
            self.batches,
            self.images_per_second(),
            self.reason(bound),
        );
        let _ = writeln!(
            text,
            "data were ready for {:.2} % of the steps; steps took {:.1?}, waits {late:.1?} ({:.2} %), \
             the first batch {:.1?}",
            100.0 * self.readiness(),
            self.stepped,
            100.0 * self.stall_share(),
            self.waited_first,
        );
        let waits: Vec<_> = Stage::ALL
            .into_iter()
            .filter(|&stage| self.waited_on[stage] > Duration::ZERO)
            .map(|stage| format!("{} {:.1?}", stage.word(), self.waited_on[stage]))
            .collect();
        if !waits.is_empty() {
            let _ = writeln!(text, "waited on: {}", waits.join(", "));
        }
        for (name, times) in [
            ("read", &self.read),
            ("queue", &self.queue),
            ("encode", &self.encode),
        ] {
            let (p50, p99) = (times.p50, times.p99);
            let _ = writeln!(
                text,
                "{name}: {} calls, p50 {p50:.1?}, p99 {p99:.1?}",
                times.count
            );
        }
        let _ = write!(
            text,
            "sent {}, received {}; {} hedges, {} retries; {} bad samples, {} substituted, {} skipped",
            bytes(self.sent_bytes),
            bytes(self.received_bytes),
            self.hedges,
            self.retries,
            self.bad_samples,
            self.substituted,
            self.skipped,
        );
        text
    }

    fn reason(&self, bound: Bound) -> String {
        let late = self.waited_later();
        let part = |waited: Duration| {
            let part = waited.as_secs_f64() / late.as_secs_f64().max(f64::MIN_POSITIVE);
            format!("{:.0} % of the wait", 100.0 * part.min(1.0))
        };
        let on = &self.waited_on;
        match bound {
            Bound::Trainer => format!(
                "it waited for data for {:.2} % of its time; {} batches were ready on average",
                100.0 * self.stall_share(),
                self.ready_when_taken / self.batches.max(1),
            ),
            Bound::Fleet => format!(
                "{} was for a replica that is free, {} for answers; add replicas, or faster ones",
                part(on[Stage::Queue]),
                part(on[Stage::Replica]),
            ),
            Bound::Store => format!(
                "{} was for reading; move the data closer, or to a faster store",
                part(on[Stage::Store]),
            ),
            Bound::Network => format!(
                "{} was for requests and answers on their way; {} sent, {} received",
                part(on[Stage::Network]),
                bytes(self.sent_bytes),
                bytes(self.received_bytes),
            ),
            Bound::Window => format!(
                "{} was for batches that were not begun; raise window_bytes or max_batches_ahead",
                part(on[Stage::Window]),
            ),
            Bound::Loader => format!(
                "{} was for putting batches together; give the loader's process more cores",
                part(on[Stage::Loader]),
            ),
        }
    }

    fn images_per_second(&self) -> f64 {
        let seconds = (self.waited + self.stepped).as_secs_f64();
        if seconds > 0.0 {
            self.images as f64 / seconds
        } else {
            0.0
        }
    }

    fn waited_later(&self) -> Duration {
        self.waited.saturating_sub(self.waited_first)
    }

    fn first_waited(&self) -> bool {
        self.waited_first >= super::SHORTEST_WAIT
    }
}

/// For people: three digits.
fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64 / 1024.0;
    let mut unit = UNITS[0];
    for next in &UNITS[1..] {
        if value < 1000.0 {
            break;
        }
        (value, unit) = (value / 1024.0, next);
    }
    let digits = if value < 9.995 { 1 } else { 0 };
    format!("{value:.digits$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn run(stage: Stage) -> Stats {
        let mut stats = Stats {
            batches: 101,
            images: 3232,
            waits: 51,
            waited: 12 * SECOND,
            waited_first: 2 * SECOND,
            stepped: 90 * SECOND,
            ..Stats::default()
        };
        stats.waited_on[stage] = 9 * SECOND;
        stats.waited_on[Stage::Loader] = SECOND;
        stats
    }

    #[test]
    fn what_was_waited_for_is_the_bound() {
        for (stage, bound, text) in [
            (
                Stage::Queue,
                Bound::Fleet,
                "bound by the fleet: 90 % of the wait",
            ),
            (Stage::Replica, Bound::Fleet, "90 % of the wait for answers"),
            (
                Stage::Store,
                Bound::Store,
                "bound by the store: 90 % of the wait was for reading",
            ),
            (Stage::Network, Bound::Network, "bound by the network"),
            (Stage::Window, Bound::Window, "raise window_bytes"),
        ] {
            let stats = run(stage);
            assert_eq!(stats.bound(), bound);
            let summary = stats.summary();
            assert!(summary.contains(text), "{summary}");
            assert!(
                summary.contains(&format!("waited on: {} 9.0s", stage.word())),
                "{summary}"
            );
        }
    }

    #[test]
    fn the_first_batch_is_no_stall() {
        let mut stats = run(Stage::Queue);
        assert!((stats.readiness() - 0.5).abs() < 1e-9);
        assert!((stats.stall_share() - 0.1).abs() < 1e-9);
        stats.waited = stats.waited_first;
        stats.waits = 1;
        assert_eq!((stats.bound(), stats.readiness()), (Bound::Trainer, 1.0));
        assert_eq!(Stats::default().bound(), Bound::Trainer);
        assert!(!Stats::default().summary().contains("NaN"));
    }

    #[test]
    fn progress_is_one_line() {
        let mut stats = run(Stage::Store);
        stats.window_bytes = 3 << 30;
        stats.bad_samples = 2;
        let line = stats.progress_line();
        assert!(
            line.starts_with("101 steps, 3232 images, 32/s; 10.0 % waited"),
            "{line}"
        );
        assert!(line.ends_with("3.0 GiB held; 2 bad samples"), "{line}");
        assert!(!line.contains('\n'), "{line}");
    }
}
