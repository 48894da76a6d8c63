//! Every metric of the balancer, in the exposition format of Prometheus, written from a [`View`].
//!
//! Not through a recorder: there every name of a replica or trainer that ever was would stay until a
//! timeout, and be wrong until then. Here a scrape shows exactly those that are there.

#[cfg(test)]
mod tests;
mod text;

use std::collections::BTreeMap;

use self::text::Text;
use crate::balance::{QueueView, ReplicaView, Standing, TrainerView, View, discover::Trouble};

/// Replicas, and trainers, with series of their own. With more there are none, only the sums: a
/// choice of some would mislead, and a scrape of 20,000 would cost more than it tells.
const MAX_SERIES: usize = 1000;
/// Characters of a label: strangers choose names and reasons.
const MAX_LABEL_CHARS: usize = 120;

/// Kinds of families.
const GAUGE: &str = "gauge";
const COUNTER: &str = "counter";

/// The whole text.
pub(super) fn render(view: &View, troubles: &[Trouble]) -> String {
    let mut out = Text::default();
    fleet(&mut out, view, troubles);
    totals(&mut out, view);
    queue(&mut out, &view.queue);
    replicas(&mut out, view);
    trainers(&mut out, view);
    out.finish()
}

fn fleet(out: &mut Text, view: &View, troubles: &[Trouble]) {
    let desired = &view.desired;
    let mut gauge = |name, help, value: f64| out.family(GAUGE, name, help).sample(&[], value);
    gauge(
        "desired_replicas",
        "How many replicas there should be",
        desired.replicas.into(),
    );
    gauge("up_replicas", "Replicas that get work", desired.up.into());
    gauge(
        "utilization",
        "Share of its capacity that the fleet does",
        desired.utilization,
    );
    gauge(
        "starving",
        "1 while a trainer waits, or soon will",
        f64::from(u8::from(desired.starving)),
    );
    gauge(
        "discovery_troubles",
        "Entries of the list of replicas that do not work",
        troubles.len() as f64,
    );
    let mut family = out.family(GAUGE, "replicas", "Replicas, by standing");
    for standing in Standing::ALL {
        let count = view
            .replicas
            .iter()
            .filter(|r| r.standing == standing)
            .count();
        family.sample(&[("standing", standing.word())], count as f64);
    }
}

fn totals(out: &mut Text, view: &View) {
    let totals = &view.totals;
    for (name, help, value) in [
        ("requests_total", "Requests taken in", totals.submitted),
        ("answered_total", "Requests answered", totals.answered),
        (
            "failed_total",
            "Requests that ended in an error",
            totals.failed,
        ),
        (
            "full_total",
            "Requests turned away because the queue was full",
            totals.full,
        ),
        (
            "retries_total",
            "Attempts after the first, hedges aside",
            totals.retries,
        ),
        (
            "hedges_total",
            "Second attempts while the first was under way",
            totals.hedges,
        ),
        (
            "hedges_won_total",
            "Hedges that answered first",
            totals.hedges_won,
        ),
        (
            "out_of_budget_total",
            "Hedges and retries that the budget did not allow",
            totals.out_of_budget,
        ),
    ] {
        out.family(COUNTER, name, help).sample(&[], value as f64);
    }
}

fn queue(out: &mut Text, queue: &QueueView) {
    let pixels = queue.pixels as f64;
    out.family(
        GAUGE,
        "queue_pixels",
        "Output pixels that wait for a replica",
    )
    .sample(&[], pixels);
    let help = "Requests that wait for a replica, by the seconds until they are needed";
    let mut family = out.family(GAUGE, "queue_requests", help);
    let bounds = QueueView::SLACK.map(|slack| slack.as_secs().to_string());
    let bounds = bounds.iter().map(String::as_str).chain(["+Inf"]);
    // Classes, not sums up to a bound: they add up to the queue.
    for (below, requests) in bounds.zip(queue.by_slack) {
        family.sample(&[("slack_below", below)], requests as f64);
    }
}

/// A family with a series for each replica or trainer: kind, name, help, value.
type Each<T> = (
    &'static str,
    &'static str,
    &'static str,
    fn(&T) -> Option<f64>,
);

const OF_REPLICAS: [Each<ReplicaView>; 7] = [
    (
        GAUGE,
        "replica_pixels_per_second",
        "Output pixels, as learned",
        |r| Some(r.pixels_per_second),
    ),
    (
        GAUGE,
        "replica_outstanding_pixels",
        "Output pixels that it has",
        |r| Some(r.outstanding_pixels as f64),
    ),
    (
        GAUGE,
        "replica_outstanding_calls",
        "Calls that it has",
        |r| Some(r.outstanding_calls.into()),
    ),
    (
        COUNTER,
        "replica_answered_calls_total",
        "Calls that it answered",
        |r| Some(r.answered_calls as f64),
    ),
    (
        COUNTER,
        "replica_answered_pixels_total",
        "Output pixels that it answered",
        |r| Some(r.answered_pixels as f64),
    ),
    (
        COUNTER,
        "replica_faults_total",
        "Faults and lost connections",
        |r| Some(r.faults as f64),
    ),
    (
        COUNTER,
        "replica_ejections_total",
        "Times that it was ejected",
        |r| Some(r.ejections as f64),
    ),
];

const OF_TRAINERS: [Each<TrainerView>; 8] = [
    (
        GAUGE,
        "trainer_weight",
        "Its part of the fleet, in proportion",
        |t| Some(t.weight),
    ),
    (
        GAUGE,
        "trainer_queued_pixels",
        "Output pixels that wait for a replica",
        |t| Some(t.queued_pixels as f64),
    ),
    (
        GAUGE,
        "trainer_outstanding_pixels",
        "Output pixels that replicas have",
        |t| Some(t.outstanding_pixels as f64),
    ),
    (
        GAUGE,
        "trainer_pixels_per_second",
        "Output pixels answered lately",
        |t| Some(t.pixels_per_second),
    ),
    (
        GAUGE,
        "trainer_ahead_seconds",
        "Time until what it asked for last is needed",
        |t| Some(t.ahead.as_secs_f64()),
    ),
    (
        GAUGE,
        "trainer_ready_batches",
        "Complete batches that it holds, if it says so",
        |t| t.ready_batches.map(|batches| batches as f64),
    ),
    (
        COUNTER,
        "trainer_late_total",
        "Answers after they were needed",
        |t| Some(t.late as f64),
    ),
    (COUNTER, "trainer_answered_total", "Answers", |t| {
        Some(t.answered as f64)
    }),
];

fn replicas(out: &mut Text, view: &View) {
    // One name may be there twice, while the calls of an earlier one end.
    let mut by_name: BTreeMap<String, &ReplicaView> = BTreeMap::new();
    for replica in &view.replicas {
        let known = by_name.entry(label(&replica.name)).or_insert(replica);
        if known.standing == Standing::Leaving {
            *known = replica;
        }
    }
    let omitted = omit(&mut by_name);
    let mut family = out.family(
        GAUGE,
        "replica_standing",
        "1, with the standing and its reason",
    );
    for (name, replica) in &by_name {
        let reason = label(&replica.reason);
        let standing = ("standing", replica.standing.word());
        family.sample(&[("replica", name), standing, ("reason", &reason)], 1.0);
    }
    each(out, "replica", &by_name, &OF_REPLICAS);
    let all: u64 = view
        .replicas
        .iter()
        .map(|replica| replica.answered_pixels)
        .sum();
    let share = |replica: &ReplicaView| part(replica.answered_pixels as f64, all as f64);
    let mut family = out.family(
        GAUGE,
        "replica_share",
        "Share of all output pixels answered",
    );
    for (name, replica) in &by_name {
        family.sample(&[("replica", name)], share(replica));
    }
    let help = "Replicas without series of their own, because there are too many";
    out.family(GAUGE, "replicas_without_series", help)
        .sample(&[], omitted as f64);
}

fn trainers(out: &mut Text, view: &View) {
    let named = view
        .trainers
        .iter()
        .map(|trainer| (label(&trainer.name), trainer));
    let mut by_name: BTreeMap<String, &TrainerView> = named.collect();
    let omitted = omit(&mut by_name);
    each(out, "trainer", &by_name, &OF_TRAINERS);
    let all: f64 = view
        .trainers
        .iter()
        .map(|trainer| trainer.pixels_per_second)
        .sum();
    let help = "Share of all output pixels answered lately";
    let mut family = out.family(GAUGE, "trainer_share", help);
    for (name, trainer) in &by_name {
        family.sample(&[("trainer", name)], part(trainer.pixels_per_second, all));
    }
    let help = "Trainers without series of their own, because there are too many";
    out.family(GAUGE, "trainers_without_series", help)
        .sample(&[], omitted as f64);
}

fn each<T>(out: &mut Text, label: &str, by_name: &BTreeMap<String, &T>, families: &[Each<T>]) {
    for (kind, name, help, value) in families {
        let mut family = out.family(kind, name, help);
        for (name, one) in by_name {
            if let Some(value) = value(one) {
                family.sample(&[(label, name)], value);
            }
        }
    }
}

/// Leaves none where there are too many; says how many there were then.
fn omit<T>(by_name: &mut BTreeMap<String, T>) -> usize {
    if by_name.len() <= MAX_SERIES {
        return 0;
    }
    let omitted = by_name.len();
    by_name.clear();
    omitted
}

fn part(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

/// What a stranger wrote, as long as a label may be.
fn label(text: &str) -> String {
    text.chars().take(MAX_LABEL_CHARS).collect()
}
