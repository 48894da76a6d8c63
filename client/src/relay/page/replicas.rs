//! Who does the work, and who cannot.

use maud::{Markup, html};

use super::text::{clean, count, mega, percent, share, width};
use crate::balance::{ReplicaView, Standing, View};

/// Rows, the worst first: nobody reads more, and a browser loads them every two seconds.
pub(super) const MAX_ROWS: usize = 500;

pub(super) fn table(view: &View) -> Markup {
    let mut replicas: Vec<&ReplicaView> = view.replicas.iter().collect();
    let worst_first = |r: &&ReplicaView| (severity(r.standing), r.name.clone(), r.id);
    replicas.sort_by_cached_key(worst_first);
    let left_out = replicas.len().saturating_sub(MAX_ROWS);
    replicas.truncate(MAX_ROWS);
    let answered: u64 = view
        .replicas
        .iter()
        .map(|replica| replica.answered_pixels)
        .sum();
    let most = view
        .replicas
        .iter()
        .map(|replica| replica.answered_pixels)
        .max();
    html! {
        section aria-labelledby="replicas" {
            h2 #replicas { "Replicas" }
            @if replicas.is_empty() {
                p { "None is listed." }
            } @else {
                div.scroll {
                    table {
                        thead {
                            tr {
                                th scope="col" { "Replica" }
                                th scope="col" { "Standing" }
                                th.n scope="col" { "MP/s" }
                                th.n scope="col" { "Share of work" }
                                th.n scope="col" { "Has MP" }
                                th.n scope="col" { "Has calls" }
                                th.n scope="col" { "Answered" }
                                th.n scope="col" { "Faults" }
                                th.n scope="col" { "Ejections" }
                            }
                        }
                        tbody {
                            @for replica in replicas { (row(replica, answered, most.unwrap_or(0))) }
                        }
                    }
                }
                @if left_out > 0 {
                    p {
                        (count(left_out as u64)) " more are not shown; "
                        a href="/view.json" { "all of them" } "."
                    }
                }
            }
        }
    }
}

fn row(replica: &ReplicaView, all: u64, most: u64) -> Markup {
    let pixels = replica.answered_pixels as f64;
    html! {
        tr {
            th scope="row" { bdi { (clean(&replica.name)) } }
            td.standing data-label="Standing" {
                span {
                    (mark(replica.standing))
                    @if !replica.reason.is_empty() {
                        " " small { bdi { (clean(&replica.reason)) } }
                    }
                }
            }
            td.n data-label="MP/s" {
                @if replica.pixels_per_second > 0.0 { (mega(replica.pixels_per_second)) }
                @else { "–" }
            }
            td.n data-label="Share of work" {
                span.share {
                    span.bar role="presentation" { i style=(width(share(pixels, most as f64))) {} }
                    span { (percent(share(pixels, all as f64))) }
                }
            }
            td.n data-label="Has MP" { (mega(replica.outstanding_pixels as f64)) }
            td.n data-label="Has calls" { (count(replica.outstanding_calls.into())) }
            td.n data-label="Answered" { (count(replica.answered_calls)) }
            td.n data-label="Faults" { (count(replica.faults)) }
            td.n data-label="Ejections" { (count(replica.ejections)) }
        }
    }
}

/// A shape and a word: colour alone says nothing to many.
fn mark(standing: Standing) -> Markup {
    let shape = match standing {
        Standing::Unknown => "○",
        Standing::Up => "●",
        Standing::Stalled => "◐",
        Standing::Ejected => "▲",
        Standing::Away => "✕",
        Standing::Leaving => "↓",
    };
    let alert = matches!(
        standing,
        Standing::Away | Standing::Ejected | Standing::Stalled
    );
    html! {
        span class=(if alert { "mark alert" } else { "mark" }) {
            span aria-hidden="true" { (shape) } " " (standing.word())
        }
    }
}

/// Lowest first on the page.
fn severity(standing: Standing) -> u8 {
    match standing {
        Standing::Away => 0,
        Standing::Ejected => 1,
        Standing::Stalled => 2,
        Standing::Unknown => 3,
        Standing::Leaving => 4,
        Standing::Up => 5,
    }
}
