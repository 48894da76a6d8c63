//! For each scenario: how long requests took with each policy, and which replicas worked.

use std::path::Path;

use anyhow::Context as _;
use embedded_graphics::{mono_font::ascii::FONT_10X20, pixelcolor::Rgb888};
use image::RgbImage;

use super::{
    FLUID,
    policy::Kind,
    table::{self, Ran},
    world::Outcome,
};
use crate::{
    axis::{Axis, name},
    ink::Ink,
    style::{
        BLUE, BROWN, FAINT, GREEN, GRID, INK, ORANGE, PAPER, PURPLE, SKY, SMALL, STRONG, VERMILION,
    },
};

const WIDTH: f64 = 1400.0;
/// Of the title, and of one scenario.
const TITLE: f64 = 64.0;
const HEIGHT: f64 = 430.0;
/// Where the panels of a scenario lie in it.
const TOP: f64 = 56.0;
const BOTTOM: f64 = 362.0;
const LEFT: [f64; 2] = [84.0, 740.0];
const NAMES: f64 = 800.0;
const RIGHT: [f64; 2] = [1010.0, 1352.0];
/// Past the 99.9 % there is too little of most runs to be drawn. In powers of ten of what is left.
const NINES: f64 = 3.0;
/// Points of a curve.
const POINTS: u32 = 150;
/// Letters of the small font that fit in a line.
const LETTERS: usize = 160;

const OURS: Rgb888 = BLUE;
// Told apart by the colour-blind too.
const OTHERS: [Rgb888; 6] = [VERMILION, ORANGE, GREEN, PURPLE, SKY, BROWN];

/// Draws the scenarios and writes a PNG.
///
/// # Errors
/// Where the file cannot be written.
pub(super) fn write(ran: &[Ran], path: &Path) -> anyhow::Result<()> {
    draw(ran)
        .save(path)
        .with_context(|| format!("writing {}", path.display()))
}

fn draw(ran: &[Ran]) -> RgbImage {
    let height = TITLE + HEIGHT * ran.len() as f64;
    let mut ink = Ink::new(WIDTH as u32, height as u32, PAPER);
    let title = "The balancer beside other policies, on simulated replicas";
    ink.text(title, [LEFT[0], 18.0], FONT_10X20, INK);
    for (number, one) in ran.iter().enumerate() {
        let top = TITLE + HEIGHT * number as f64;
        let about: String = table::about(&one.0).chars().take(LETTERS).collect();
        ink.text(one.0.name, [LEFT[0], top], STRONG, INK);
        let behind = LEFT[0] + 9.0 * (one.0.name.len() + 2) as f64;
        ink.text(&about, [behind, top + 1.0], SMALL, FAINT);
        completion(&mut ink, &one.1, top);
        work(&mut ink, one, top);
    }
    ink.dry()
}

/// Which part of the requests was answered within which time.
fn completion(ink: &mut Ink, outcomes: &[Outcome], top: f64) {
    let curves: Vec<Vec<(f64, f64)>> = outcomes.iter().map(curve).collect();
    let times = curves.iter().flatten().map(|&(time, _)| time);
    let x = Axis::log(times, LEFT);
    let y = Axis::linear(NINES, [top + BOTTOM, top + TOP]);
    ink.text(
        "answered within ..., % of the requests",
        [LEFT[0], top + TOP - 24.0],
        STRONG,
        INK,
    );
    for (share, label) in [
        (0.0, "0"),
        (0.5, "50"),
        (0.9, "90"),
        (0.99, "99"),
        (0.999, "99.9"),
    ] {
        let at = y.at(nines(share));
        ink.line([LEFT[0], at], [LEFT[1], at], 1.0, GRID);
        let wide = 8.0 * label.len() as f64;
        ink.text(label, [LEFT[0] - 10.0 - wide, at - 7.0], SMALL, FAINT);
    }
    for value in x.ticks() {
        let at = x.at(value);
        ink.line([at, top + TOP], [at, top + BOTTOM], 1.0, GRID);
        let label = name(value);
        let wide = 8.0 * label.len() as f64;
        ink.text(&label, [at - wide / 2.0, top + BOTTOM + 9.0], SMALL, FAINT);
    }
    ink.line([LEFT[0], top + BOTTOM], [LEFT[1], top + BOTTOM], 1.5, FAINT);
    let title = "milliseconds (logarithmic)";
    let wide = 9.0 * title.len() as f64;
    ink.text(title, [LEFT[1] - wide, top + BOTTOM + 28.0], STRONG, INK);
    // Ours last: over the others.
    for (outcome, points) in outcomes.iter().zip(&curves).rev() {
        let width = if colour(&outcome.policy) == OURS {
            3.5
        } else {
            2.0
        };
        for two in points.windows(2) {
            let [from, to] = [two[0], two[1]].map(|(time, share)| [x.at(time), y.at(share)]);
            ink.line(from, to, width, colour(&outcome.policy));
        }
    }
}

/// Times, and powers of ten of what is left then.
fn curve(outcome: &Outcome) -> Vec<(f64, f64)> {
    let points = (0..=POINTS).map(|point| NINES * f64::from(point) / f64::from(POINTS));
    points
        .map(|nines| (outcome.tally.milliseconds(1.0 - 10_f64.powf(-nines)), nines))
        .filter(|(time, _)| time.is_finite())
        .collect()
}

fn nines(share: f64) -> f64 {
    -(1.0 - share).log10()
}

/// Which part of their time replicas worked, by speed; and what came of it.
fn work(ink: &mut Ink, (scene, outcomes): &Ran, top: f64) {
    let speeds: Vec<String> = scene.speeds.iter().map(f64::to_string).collect();
    let title = format!("time in which replicas worked, speed {}", speeds.join(", "));
    ink.text(&title, [NAMES, top + TOP - 24.0], STRONG, INK);
    let x = Axis::linear(100.0, RIGHT);
    for value in [0.0, 50.0, 100.0] {
        let at = x.at(value);
        ink.line([at, top + TOP], [at, top + BOTTOM], 1.0, GRID);
        let label = format!("{value} %");
        let wide = 8.0 * label.len() as f64;
        ink.text(&label, [at - wide / 2.0, top + BOTTOM + 9.0], SMALL, FAINT);
    }
    let row = (BOTTOM - TOP) / outcomes.len().max(1) as f64;
    let bar = (row - 12.0) / scene.speeds.len() as f64;
    for (number, outcome) in outcomes.iter().enumerate() {
        let above = top + TOP + row * number as f64 + 4.0;
        let colour = colour(&outcome.policy);
        ink.text(&outcome.policy, [NAMES, above], STRONG, colour);
        let throughput = format!("{:.1} % of all speed", 100.0 * outcome.throughput);
        ink.text(&throughput, [NAMES, above + 15.0], SMALL, FAINT);
        if outcome.policy == FLUID {
            continue;
        }
        for (class, share) in outcome.worked.iter().enumerate() {
            let at = above + bar * (class as f64 + 0.5);
            let [from, to] = [0.0, 100.0 * share].map(|percent| [x.at(percent), at]);
            ink.line(from, to, (bar - 1.5).max(1.0), colour);
        }
    }
}

fn colour(policy: &str) -> Rgb888 {
    if policy == FLUID {
        return FAINT;
    }
    let all = <Kind as clap::ValueEnum>::value_variants();
    let place = all.iter().position(|kind| kind.name() == policy);
    match place.and_then(|place| place.checked_sub(1)) {
        Some(place) => OTHERS[place % OTHERS.len()],
        None => OURS,
    }
}
