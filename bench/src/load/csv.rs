//! The time series: a line for every second of every step.

use std::{fmt::Write as _, io::Write, path::Path};

use anyhow::Context as _;

use super::outcome::Outcome;

const COLUMNS: &str = "step,second,offered_images,good_images,p50_ms,p99_ms,busy_calls,\
                       calls_in_flight,replica_resident_bytes,replica_cpu_seconds";

/// Writes all steps into an open file.
///
/// # Errors
/// Where it cannot be written.
pub(super) fn write(outcomes: &[Outcome], path: &Path, mut file: impl Write) -> anyhow::Result<()> {
    let text = text(outcomes);
    file.write_all(text.as_bytes())
        .with_context(|| format!("writing {}", path.display()))
}

/// Names hold no commas, and all else is numbers: nothing needs quotes.
fn text(outcomes: &[Outcome]) -> String {
    let mut text = format!("{COLUMNS}\n");
    let or_none = |value: Option<f64>| value.map_or(String::new(), |value| format!("{value:.3}"));
    for outcome in outcomes {
        for second in &outcome.seconds {
            let replica = second.replica;
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "{},{:.3},{},{},{},{},{},{},{},{}",
                outcome.name,
                second.at,
                second.offered,
                second.good,
                or_none(second.p50),
                or_none(second.p99),
                second.busy,
                second.in_flight,
                replica.map_or(String::new(), |usage| usage.resident.to_string()),
                or_none(replica.map(|usage| usage.cpu.as_secs_f64())),
            );
        }
    }
    text
}
