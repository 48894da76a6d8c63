//! Who asks, and how far ahead.

use maud::{Markup, html};

use super::text::{clean, count, mega, percent, share, width};
use crate::balance::{QueueView, TrainerView, View};

/// Rows, those who are least ahead first.
const MAX_ROWS: usize = 200;

pub(super) fn table(view: &View) -> Markup {
    let mut trainers: Vec<&TrainerView> = view.trainers.iter().collect();
    trainers.sort_by(|a, b| a.ahead.cmp(&b.ahead).then_with(|| a.name.cmp(&b.name)));
    let left_out = trainers.len().saturating_sub(MAX_ROWS);
    trainers.truncate(MAX_ROWS);
    let rate: f64 = view
        .trainers
        .iter()
        .map(|trainer| trainer.pixels_per_second)
        .sum();
    html! {
        section aria-labelledby="trainers" {
            h2 #trainers { "Trainers" }
            @if trainers.is_empty() {
                p { "None has asked for anything lately." }
            } @else {
                div.scroll {
                    table {
                        thead {
                            tr {
                                th scope="col" { "Trainer" }
                                th scope="col" { "Ahead" }
                                th.n scope="col" { "Ready batches" }
                                th.n scope="col" { "MP/s" }
                                th.n scope="col" { "Share" }
                                th.n scope="col" { "Weight" }
                                th.n scope="col" { "Queued MP" }
                                th.n scope="col" { "At replicas MP" }
                                th.n scope="col" { "Late" }
                                th.n scope="col" { "Answered" }
                            }
                        }
                        tbody { @for trainer in trainers { (row(trainer, rate)) } }
                    }
                }
                @if left_out > 0 {
                    p { (count(left_out as u64)) " that are further ahead are not shown." }
                }
            }
        }
    }
}

fn row(trainer: &TrainerView, all: f64) -> Markup {
    let ahead = trainer.ahead.as_secs_f64();
    // The bar is full where the last class of the queue begins.
    let [_, near, _, full] = QueueView::SLACK.map(|slack| slack.as_secs_f64());
    html! {
        tr {
            th scope="row" { bdi { (clean(&trainer.name)) } }
            td data-label="Ahead" {
                span.ahead {
                    span.bar role="presentation" { i style=(width(share(ahead, full))) {} }
                    @if ahead <= 0.0 { b.alert { "▲ waits" } }
                    @else if ahead < near { b.alert { "▲ " (format!("{ahead:.1}")) " s" } }
                    @else { (format!("{ahead:.1}")) " s" }
                }
            }
            td.n data-label="Ready batches" {
                @if let Some(batches) = trainer.ready_batches { (count(batches)) } @else { "–" }
            }
            td.n data-label="MP/s" { (mega(trainer.pixels_per_second)) }
            td.n data-label="Share" { (percent(share(trainer.pixels_per_second, all))) }
            td.n data-label="Weight" { (format!("{:.1}", trainer.weight)) }
            td.n data-label="Queued MP" { (mega(trainer.queued_pixels as f64)) }
            td.n data-label="At replicas MP" { (mega(trainer.outstanding_pixels as f64)) }
            td.n data-label="Late" { (count(trainer.late)) }
            td.n data-label="Answered" { (count(trainer.answered)) }
        }
    }
}
