//! What must hold of our policy, and whether it does.

use super::{
    FLUID,
    policy::Kind,
    scene::Demand,
    table::Ran,
    world::{CATCH_UP, Outcome},
};
use crate::report::{Cell, Report};

/// At saturation: throughput, of the fluid optimum's, at least.
const THROUGHPUT: f64 = 0.97;
/// At less: p99 of completion, of round robin's and of the best other policy's, at most.
const OF_ROUND_ROBIN: f64 = 0.5;
const OF_THE_BEST: f64 = 0.8;
/// With replicas that stand still: late answers, of power of two choices', at most.
const OF_POWER_OF_TWO: f64 = 0.1;

/// One bound: what it is about, the figure, and what it must not be beyond.
struct Bound {
    what: String,
    figure: f64,
    limit: f64,
    at_least: bool,
}

/// A table of the bounds of all scenarios, if they can be judged by the policies that ran.
pub(super) fn add(report: &mut Report, ran: &[Ran]) {
    let bounds: Vec<Bound> = ran.iter().flat_map(of_scene).collect();
    if bounds.is_empty() {
        return;
    }
    let rows = bounds.iter().map(|bound| {
        let sign = if bound.at_least { ">=" } else { "<=" };
        vec![
            bound.what.as_str().into(),
            Cell::Number(bound.figure),
            format!("{sign} {}", bound.limit).into(),
            if bound.holds() { "holds" } else { "MISSED" }.into(),
        ]
    });
    let columns = ["of ours", "figure", "bound", ""];
    report.table("Bounds", &columns, rows.collect());
}

impl Bound {
    fn most(what: String, figure: f64, limit: f64) -> Self {
        Self {
            what,
            figure,
            limit,
            at_least: false,
        }
    }

    fn holds(&self) -> bool {
        if self.at_least {
            self.figure >= self.limit
        } else {
            self.figure <= self.limit
        }
    }
}

fn of_scene((scene, outcomes): &Ran) -> Vec<Bound> {
    let named = |name: &str| outcomes.iter().find(|outcome| outcome.policy == name);
    let kind = |kind: Kind| named(&kind.name());
    let Some(ours) = kind(Kind::Ours) else {
        return Vec::new();
    };
    let mut bounds = Vec::new();
    if let (Demand::Closed { .. }, Some(fluid)) = (scene.demand, named(FLUID)) {
        bounds.push(Bound {
            what: format!("{}: throughput, of the fluid optimum's", scene.name),
            figure: ours.throughput / fluid.throughput,
            limit: THROUGHPUT,
            at_least: true,
        });
    }
    if let Some(waits) = ours.waits {
        let caught_up = waits.caught_up as f64;
        let what = format!("{}: s until the starving one waits < 1 %", scene.name);
        bounds.push(Bound::most(what, caught_up, CATCH_UP as f64));
        let what = format!("{}: % that those ahead wait", scene.name);
        bounds.push(Bound::most(what, 100.0 * waits.ahead, 0.0));
    }
    if !matches!(scene.demand, Demand::Open { .. }) {
        return bounds;
    }
    if scene.trouble.stall_share > 0.0 {
        if let Some(two) = kind(Kind::PowerOfTwo).filter(|two| two.tally.late > 0) {
            let what = format!("{}: late answers, of power of two's", scene.name);
            let figure = ours.tally.late as f64 / two.tally.late as f64;
            bounds.push(Bound::most(what, figure, OF_POWER_OF_TWO));
        }
        return bounds;
    }
    let p99 = |outcome: &Outcome| outcome.tally.milliseconds(0.99);
    if let Some(robin) = kind(Kind::RoundRobin) {
        let what = format!("{}: p99, of round robin's", scene.name);
        bounds.push(Bound::most(what, p99(ours) / p99(robin), OF_ROUND_ROBIN));
    }
    let others = outcomes
        .iter()
        .filter(|one| one.policy != FLUID && one.policy != ours.policy);
    if let Some(best) = others.min_by(|a, b| p99(a).total_cmp(&p99(b))) {
        let what = format!("{}: p99, of the best other's ({})", scene.name, best.policy);
        bounds.push(Bound::most(what, p99(ours) / p99(best), OF_THE_BEST));
    }
    bounds
}
