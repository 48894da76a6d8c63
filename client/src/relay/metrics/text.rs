//! The exposition format of Prometheus.

use std::fmt::{Display, Write};

/// The text so far.
#[derive(Default)]
pub(super) struct Text(String);

impl Text {
    /// All of it.
    pub(super) fn finish(self) -> String {
        self.0
    }

    /// Begins a family: all its samples must follow.
    pub(super) fn family<'a>(&'a mut self, kind: &str, name: &'a str, help: &str) -> Family<'a> {
        self.line(format_args!("# HELP preheat_balancer_{name} {help}"));
        self.line(format_args!("# TYPE preheat_balancer_{name} {kind}"));
        Family { name, text: self }
    }

    fn line(&mut self, line: impl Display) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "{line}");
    }
}

/// A family that is being written.
pub(super) struct Family<'a> {
    name: &'a str,
    text: &'a mut Text,
}

impl Family<'_> {
    /// One series of it. What is no number is written as 0.
    pub(super) fn sample(&mut self, labels: &[(&str, &str)], value: f64) {
        let name = self.name;
        let value = if value.is_finite() { value } else { 0.0 };
        let labels: Vec<_> = labels
            .iter()
            .map(|(k, v)| format!("{k}=\"{}\"", escape(v)))
            .collect();
        match labels.join(",") {
            none if none.is_empty() => self
                .text
                .line(format_args!("preheat_balancer_{name} {value}")),
            some => self
                .text
                .line(format_args!("preheat_balancer_{name}{{{some}}} {value}")),
        }
    }
}

/// As the format wants values of labels.
fn escape(value: &str) -> String {
    value
        .replace('\\', r"\\")
        .replace('"', "\\\"")
        .replace('\n', r"\n")
}
