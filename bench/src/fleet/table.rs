//! The figures of the runs, as they are printed.

use super::{FLUID, scene::Scene, world::Outcome};
use crate::report::{Cell, Report};

/// A scenario, and what it came to for each policy; the fluid optimum is the last.
pub(super) type Ran = (Scene, Vec<Outcome>);

/// All tables of one scenario.
pub(super) fn add(report: &mut Report, (scene, outcomes): &Ran) {
    let title = format!("{}: {}", scene.name, about(scene));
    let columns = [
        "policy",
        "MP/s",
        "of all speed %",
        "p50 ms",
        "p99 ms",
        "p99.9 ms",
        "max ms",
        "late %",
        "failed",
        "hedges",
        "retries",
        "sends",
        "us a request",
    ];
    report.table(&title, &columns, outcomes.iter().map(row).collect());
    if outcomes.iter().any(|outcome| outcome.waits.is_some()) {
        let columns = [
            "policy",
            "ahead: waits %",
            "starving: first 10 s %",
            "later %",
            "below 1 % after s",
        ];
        let rows = outcomes.iter().filter_map(waits).collect();
        report.table(&format!("{}: loaders", scene.name), &columns, rows);
    }
    let speeds = scene.speeds.iter();
    let columns: Vec<String> = std::iter::once("policy".to_owned())
        .chain(speeds.map(|speed| format!("speed {speed}")))
        .collect();
    let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
    let of_many = outcomes.iter().filter(|outcome| outcome.policy != FLUID);
    let rows = of_many.map(|outcome| {
        let shares = outcome.worked.iter().map(|share| (100.0 * share).into());
        std::iter::once(outcome.policy.as_str().into())
            .chain(shares)
            .collect()
    });
    let title = format!("{}: time in which replicas worked, %", scene.name);
    report.table(&title, &columns, rows.collect());
}

fn row(outcome: &Outcome) -> Vec<Cell> {
    let tally = &outcome.tally;
    let mut row: Vec<Cell> = vec![
        outcome.policy.as_str().into(),
        outcome.megapixels_per_second.into(),
        (100.0 * outcome.throughput).into(),
    ];
    row.extend([0.5, 0.99, 0.999, 1.0].map(|quantile| {
        let value = tally.milliseconds(quantile);
        if value.is_finite() {
            Cell::Number(value)
        } else {
            Cell::Text("never".to_owned())
        }
    }));
    row.extend([
        (100.0 * tally.late_share()).into(),
        Cell::Number(tally.failed as f64),
    ]);
    if outcome.policy == FLUID {
        row.extend(["-"; 4].map(Cell::from));
    } else {
        let counts = [tally.hedges, tally.retries, tally.sends];
        row.extend(counts.map(|count| Cell::Number(count as f64)));
        row.push(outcome.micros.into());
    }
    row
}

fn waits(outcome: &Outcome) -> Option<Vec<Cell>> {
    let waits = outcome.waits?;
    let shares = [waits.ahead, waits.at_first, waits.later].map(|share| Cell::from(100.0 * share));
    let mut row = vec![outcome.policy.as_str().into()];
    row.extend(shares);
    row.push((waits.caught_up as f64).into());
    Some(row)
}

/// What is simulated, in a line.
pub(super) fn about(scene: &Scene) -> String {
    use super::scene::Demand;
    let trouble = &scene.trouble;
    let speeds: Vec<String> = scene.speeds.iter().map(f64::to_string).collect();
    let mut parts = vec![format!(
        "{} replicas of speed {} x {} MP/s",
        scene.replicas,
        speeds.join(":"),
        scene.unit / 1e6
    )];
    parts.push(match scene.demand {
        Demand::Open { load, .. } => format!("{:.0} % load", 100.0 * load),
        Demand::Closed { waiting, .. } => format!("{waiting} requests always there"),
        Demand::Loaders { load, .. } => format!("loaders that want {:.0} %", 100.0 * load),
    });
    if trouble.stall_share > 0.0 {
        parts.push(format!("{:.1} % stand still", 100.0 * trouble.stall_share));
    }
    if let Some(every) = trouble.crash_every {
        parts.push(format!("each ends every {every} s"));
    }
    for wave in &trouble.waves {
        let (share, at) = (100.0 * wave.share, wave.at.as_secs_f64());
        parts.push(format!("{share:.0} % vanish at {at} s"));
    }
    if trouble.lying > 0.0 {
        parts.push(format!("{:.0} % lie", 100.0 * trouble.lying));
    }
    parts.join(", ")
}
