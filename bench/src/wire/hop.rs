//! What a balancer between loader and replica costs.

use std::time::Duration;

use super::{Case, HEADLINE, Load, Ways};
use crate::report::{Report, median};

/// How the way is called.
pub(super) const NAME: &str = "through a balancer";

/// A call that is all latency.
const SMALL: Load = Load {
    up: 1024,
    payload: 1024,
    down: 1024,
};
/// Of these so many a round: enough for a median.
const CALLS: usize = 500;

/// The figures of the hop, if it was measured, with the latency of small calls beside those that go
/// directly, in turn.
pub(super) fn report(
    ways: &mut Ways,
    cases: &[Case],
    rounds: usize,
    report: &mut Report,
) -> anyhow::Result<()> {
    let find = |wanted: &str| ways.iter().position(|(name, _)| *name == wanted);
    let Some(hop) = find(NAME) else {
        return Ok(());
    };
    for (up, direction) in [(HEADLINE, "up"), (0, "down")] {
        let mut those = cases.iter().filter(|case| case.way == hop);
        let fits = |case: &&Case| case.load.up == up && case.load.up + case.load.down == HEADLINE;
        if let Some(case) = those.find(fits) {
            let name = format!("4 MiB {direction}: CPU seconds of the balancer for a GB");
            report.figure(name, median(&case.elsewhere), "s");
        }
    }
    let Some(ours) = find("ours") else {
        return Ok(());
    };
    let (mut direct, mut added) = (Vec::new(), Vec::new());
    // The first round warms, and is thrown away.
    for round in 0..=rounds {
        let p50 = |took: Vec<Duration>| {
            let millis = |one: &Duration| one.as_secs_f64() * 1e3;
            median(&took.iter().map(millis).collect::<Vec<_>>())
        };
        let one = p50(ways[ours].1.latency(SMALL, CALLS)?);
        let two = p50(ways[hop].1.latency(SMALL, CALLS)?);
        if round > 0 {
            direct.push(one);
            added.push(two - one);
        }
    }
    report.figure("1 KiB calls, directly: p50", median(&direct), "ms");
    report.figure("added by the balancer", median(&added), "ms");
    Ok(())
}
