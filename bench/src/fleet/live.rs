//! One line of progress for each run.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::{scene::Scene, world::Outcome};

/// The line of one run. Without a terminal only what it came to is written, to stderr.
pub(super) struct Line {
    bar: ProgressBar,
    name: String,
}

impl Line {
    pub(super) fn new(scene: &Scene, policy: &str) -> Self {
        let name = format!("{}: {policy}", scene.name);
        let style = ProgressStyle::with_template("{prefix:>32} {bar:12} {pos:>4}/{len}s  {msg}")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::new(scene.last_call().as_secs().max(1))
            .with_style(style)
            .with_prefix(name.clone());
        bar.tick();
        Self { bar, name }
    }

    /// Simulated so far. What is left to be answered at the end makes no bar longer.
    pub(super) fn show(&self, now: Duration) {
        if Some(now.as_secs()) <= self.bar.length() {
            self.bar.set_position(now.as_secs());
        } else {
            self.bar.set_message(format!("emptied after {now:.0?}"));
        }
    }

    pub(super) fn finish(self, outcome: &Outcome) {
        let text = format!(
            "{:.1} % of the fluid optimum  p99 {:.0} ms  late {:.2} %  {:.1} us a request",
            100.0 * outcome.throughput,
            outcome.tally.milliseconds(0.99),
            100.0 * outcome.tally.late_share(),
            outcome.micros,
        );
        if self.bar.is_hidden() {
            eprintln!("{:>32}  {text}", self.name);
        }
        self.bar.abandon_with_message(text);
    }
}
