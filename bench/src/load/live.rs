//! One line of progress for each step.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::Instant;

use super::{
    outcome::Outcome,
    tally::{Tally, milliseconds},
};

/// The line of one step. Without a terminal only what it came to is written, to stderr.
pub(super) struct Line(ProgressBar);

impl Line {
    /// For a step with a window of this length.
    pub(super) fn new(name: &str, time: Duration) -> Self {
        let style = ProgressStyle::with_template("{prefix:>16} {bar:12} {pos:>3}/{len}s  {msg}")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::new(time.as_secs().max(1))
            .with_style(style)
            .with_prefix(name.to_owned())
            .with_message("warming up");
        bar.tick();
        Self(bar)
    }

    /// What was counted so far.
    pub(super) fn show(&self, tally: &Tally, items: usize) {
        let over = tally.window.over(Instant::now());
        if over.is_zero() {
            return;
        }
        let state = tally.state();
        let rate = |images: u64| images as f64 / over.as_secs_f64();
        let offered = rate(state.counts.offered * items as u64);
        let percentiles = [0.5, 0.99].map(|at| milliseconds(&state.latency, at));
        let busy = state.counts.percent(state.counts.busy);
        let mut text = line(offered, rate(state.counts.images), percentiles, busy);
        text.push_str(&format!("  {} in flight", state.in_flight));
        drop(state);
        self.0.set_position(over.as_secs());
        self.0.set_message(text);
    }

    /// What it came to.
    pub(super) fn finish(self, outcome: &Outcome) {
        let percentiles = [0, 2].map(|at| outcome.latency.map(|latency| latency[at]));
        let busy = outcome.counts.percent(outcome.counts.busy);
        let text = line(outcome.offered(), outcome.goodput(), percentiles, busy);
        if self.0.is_hidden() {
            eprintln!("{:>16}  {text}", outcome.name);
        }
        self.0.set_position(outcome.time.as_secs());
        self.0.abandon_with_message(text);
    }
}

fn line(offered: f64, goodput: f64, [p50, p99]: [Option<f64>; 2], busy: f64) -> String {
    let ms = |value: Option<f64>| value.map_or("-".to_owned(), |ms| format!("{ms:.0}"));
    format!(
        "offered {offered:.1}  good {goodput:.1} img/s  p50 {} p99 {} ms  busy {busy:.0} %",
        ms(p50),
        ms(p99)
    )
}
