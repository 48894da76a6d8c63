//! The status page: everything that there is to see of the balancer, for somebody who looks. Plain
//! HTML that a browser loads again by itself; no scripts, nothing from elsewhere.

mod replicas;
#[cfg(test)]
mod tests;
mod text;
mod trainers;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use self::text::{clean, count, mega, percent, several, share, width};
use crate::balance::{QueueView, Standing, View, discover::Trouble};

/// The whole style.
const STYLE: &str = include_str!("page/style.css");

/// The page. Browsers load it again after two seconds: a replica that is gone is seen to be.
pub(super) fn render(view: &View, troubles: &[Trouble]) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta http-equiv="refresh" content="2";
                meta name="color-scheme" content="light dark";
                title { (title(view)) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                header {
                    h1 { "Preheat balancer" }
                    p { (standing(view)) " " (starving(view)) }
                }
                main {
                    (listed(troubles))
                    (figures(view))
                    (queue(&view.queue))
                    (trainers::table(view))
                    (replicas::table(view))
                }
                footer {
                    "Loaded again every 2 seconds. The same for machines: "
                    a href="/metrics" { "metrics" } ", "
                    a href="/view.json" { "JSON" } "."
                }
            }
        }
    };
    page.into_string()
}

/// For the tab of a browser: the figure that matters first.
fn title(view: &View) -> String {
    format!(
        "{} of {} up · Preheat balancer",
        view.desired.up,
        view.replicas.len()
    )
}

/// How many replicas there are, and what is wrong with the others.
fn standing(view: &View) -> String {
    let of = |standing| {
        view.replicas
            .iter()
            .filter(|r| r.standing == standing)
            .count()
    };
    let (listed, up) = (view.replicas.len(), of(Standing::Up));
    if listed == 0 {
        return "No replica is listed.".to_owned();
    }
    if up == listed {
        return match listed {
            1 => "The only replica is up.".to_owned(),
            _ => format!("All {} replicas are up.", count(listed as u64)),
        };
    }
    let others = Standing::ALL.into_iter().filter(|s| *s != Standing::Up);
    let others: Vec<_> = others
        .filter(|standing| of(*standing) > 0)
        .map(|standing| format!("{} {}", of(standing), standing.word()))
        .collect();
    let listed = several(listed as u64, "replica");
    format!(
        "{} of {listed} up; {}.",
        count(up as u64),
        others.join(", ")
    )
}

fn starving(view: &View) -> &'static str {
    match (view.desired.starving, view.trainers.is_empty()) {
        (true, _) => "A trainer waits, or soon will.",
        (false, false) => "No trainer waits.",
        (false, true) => "No trainer has asked for anything lately.",
    }
}

/// What discovery says: first, because it explains what is missing below.
fn listed(troubles: &[Trouble]) -> Markup {
    html! {
        @if !troubles.is_empty() {
            section.troubles aria-labelledby="troubles" {
                h2 #troubles { "The list of replicas has troubles" }
                ul {
                    @for trouble in troubles {
                        li {
                            strong { bdi { (clean(&trouble.entry)) } } " "
                            bdi { (clean(&trouble.reason)) }
                        }
                    }
                }
            }
        }
    }
}

/// The fleet in figures.
fn figures(view: &View) -> Markup {
    let rates = view
        .trainers
        .iter()
        .map(|trainer| trainer.pixels_per_second);
    let up = view
        .replicas
        .iter()
        .filter(|replica| replica.standing == Standing::Up);
    let capacity: f64 = up.map(|replica| replica.pixels_per_second).sum();
    let (desired, totals) = (&view.desired, &view.totals);
    let enough = desired.up >= desired.replicas;
    let listed = count(view.replicas.len() as u64);
    html! {
        section.figures aria-label="The fleet" {
            dl {
                (figure("Replicas up", &count(desired.up.into()), html! {
                    "of " (listed) " listed"
                }))
                (figure("Desired", &count(desired.replicas.into()), html! {
                    @if enough { "enough are up" } @else { b.alert { "▲ more would help" } }
                }))
                (figure("Busy", &percent(desired.utilization), html! {
                    span.bar role="presentation" { i style=(width(desired.utilization)) {} }
                }))
                (figure("MP/s answered", &mega(rates.sum()), html! {
                    "of " (mega(capacity)) " that are possible"
                }))
            }
            dl.small {
                (figure("Requests answered", &count(totals.answered), html! {
                    "of " (count(totals.submitted))
                }))
                (figure("Failed", &count(totals.failed), html! { "ended in an error" }))
                (figure("Turned away", &count(totals.full), html! { "the queue was full" }))
                (figure("Retries", &count(totals.retries), html! {
                    (count(totals.out_of_budget)) " out of budget"
                }))
                (figure("Hedges", &count(totals.hedges), html! {
                    (count(totals.hedges_won)) " were first"
                }))
            }
        }
    }
}

fn figure(what: &str, value: &str, beside: Markup) -> Markup {
    html! {
        div { dt { (what) } dd { (value) " " small { (beside) } } }
    }
}

/// Names of the classes of [`QueueView::by_slack`].
const SLACK: [&str; 5] = ["late", "within 1 s", "within 5 s", "within 30 s", "later"];

fn queue(queue: &QueueView) -> Markup {
    let all: u64 = queue.by_slack.iter().sum();
    html! {
        section aria-labelledby="queue" {
            h2 #queue { "Queue" }
            p {
                @if queue.requests == 0 { "Nothing waits for a replica." }
                @else {
                    (several(queue.requests, "request")) " of " (mega(queue.pixels as f64))
                    " MP wait for a replica, by the time until they are needed:"
                }
            }
            div.stack role="presentation" {
                @for (class, requests) in queue.by_slack.iter().enumerate() {
                    @if *requests > 0 {
                        i class={ "slack" (class) }
                            style=(width(share(*requests as f64, all as f64))) {}
                    }
                }
            }
            ul.legend {
                @for (class, requests) in queue.by_slack.iter().enumerate() {
                    li {
                        i class={ "slack" (class) } {}
                        (SLACK[class]) " " b { (count(*requests)) }
                    }
                }
            }
        }
    }
}
