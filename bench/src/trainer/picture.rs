//! How full the windows were over the run, and when trainers stood still.

use std::{path::Path, time::Duration};

use anyhow::Context as _;
use embedded_graphics::{mono_font::ascii::FONT_10X20, pixelcolor::Rgb888};
use image::RgbImage;

use super::{crew::Ran, log::Log};
use crate::{
    axis::{Axis, name},
    ink::Ink,
    style::{BLUE, BROWN, FAINT, GREEN, GRID, INK, ORANGE, PAPER, PURPLE, SKY, SMALL, STRONG},
};

const SIZE: [f64; 2] = [1200.0, 640.0];
const LEFT: f64 = 84.0;
const RIGHT: f64 = 1160.0;
/// Where the panels lie: batches, bytes, and a line of stalls for each trainer.
const BATCHES: [f64; 2] = [300.0, 84.0];
const BYTES: [f64; 2] = [492.0, 344.0];
const STALLS: [f64; 2] = [532.0, 580.0];
/// Lines are drawn so wide at most: wider ones overflow where they are long (see `Ink`).
const STRIPE: f64 = 4.0;
const MIB: f64 = (1 << 20) as f64;

const STOPPED: Rgb888 = Rgb888::new(250, 226, 200);
const STALLED: Rgb888 = Rgb888::new(190, 30, 40);
// Told apart by the colour-blind too; the seventh trainer starts over.
const TRAINERS: [Rgb888; 6] = [BLUE, ORANGE, GREEN, PURPLE, SKY, BROWN];

/// Draws the run and writes a PNG.
///
/// # Errors
/// Where the file cannot be written.
pub(super) fn write(ran: &Ran, path: &Path) -> anyhow::Result<()> {
    draw(ran)
        .save(path)
        .with_context(|| format!("writing {}", path.display()))
}

fn draw(ran: &Ran) -> RgbImage {
    let mut ink = Ink::new(SIZE[0] as u32, SIZE[1] as u32, PAPER);
    let last = ran.logs.iter().filter_map(|log| log.beats.last());
    let ends = last.map(|beat| beat.at.as_secs_f64());
    let x = Axis::linear(ends.fold(0.0, f64::max), [LEFT, RIGHT]);
    ink.text("The look-ahead over the run", [LEFT, 18.0], FONT_10X20, INK);
    if let Some(stopped) = ran.stopped {
        let [from, to] = stopped.map(|time| x.at(time.as_secs_f64()));
        let stripes = ((to - from) / STRIPE).ceil().max(1.0);
        let wide = (to - from) / stripes;
        for stripe in 0..stripes as u32 {
            let at = from + wide * (f64::from(stripe) + 0.5);
            ink.line([at, BATCHES[1]], [at, STALLS[1]], wide + 1.0, STOPPED);
        }
        ink.text("fleet stopped", [from, BATCHES[1] - 18.0], SMALL, FAINT);
    }
    let ready = |log: &Log| points(log, |beat| beat.ready as f64);
    panel(&mut ink, ran, x, (BATCHES, "batches ready", &ready));
    let held = |log: &Log| points(log, |beat| beat.held as f64 / MIB);
    panel(&mut ink, ran, x, (BYTES, "MiB held", &held));
    for value in x.ticks() {
        let label = name(value);
        let wide = 8.0 * label.len() as f64;
        let at = [x.at(value) - wide / 2.0, STALLS[1] + 9.0];
        ink.text(&label, at, SMALL, FAINT);
    }
    let title = "seconds";
    let wide = 9.0 * title.len() as f64;
    ink.text(title, [RIGHT - wide, STALLS[1] + 28.0], STRONG, INK);
    stalls(&mut ink, ran, x);
    ink.dry()
}

/// A value of every step, at the time when the step began.
fn points(log: &Log, value: impl Fn(&super::log::Beat) -> f64) -> Vec<[f64; 2]> {
    let beats = log.beats.iter();
    beats
        .map(|beat| [beat.stall()[0].as_secs_f64(), value(beat)])
        .collect()
}

type Curve<'a> = &'a dyn Fn(&Log) -> Vec<[f64; 2]>;

fn panel(ink: &mut Ink, ran: &Ran, x: Axis, (place, title, curve): ([f64; 2], &str, Curve<'_>)) {
    let curves: Vec<_> = ran.logs.iter().map(curve).collect();
    let most = curves.iter().flatten().map(|point| point[1]);
    let y = Axis::linear(most.fold(0.0, f64::max), place);
    ink.text(title, [LEFT, place[1] - 22.0], STRONG, INK);
    for value in y.ticks() {
        let at = y.at(value);
        ink.line([LEFT, at], [RIGHT, at], 1.0, GRID);
        let label = name(value);
        let wide = 8.0 * label.len() as f64;
        ink.text(&label, [LEFT - 10.0 - wide, at - 7.0], SMALL, FAINT);
    }
    for (number, points) in curves.iter().enumerate() {
        for two in points.windows(2) {
            let [from, to] = [two[0], two[1]].map(|[time, value]| [x.at(time), y.at(value)]);
            ink.line(from, to, 2.0, colour(number));
        }
    }
}

/// A line for each trainer, with the times in which it stood still.
fn stalls(ink: &mut Ink, ran: &Ran, x: Axis) {
    ink.text("stood still", [LEFT, STALLS[0] - 22.0], STRONG, INK);
    let row = (STALLS[1] - STALLS[0]) / ran.logs.len().max(1) as f64;
    for (number, log) in ran.logs.iter().enumerate() {
        let at = STALLS[0] + row * (number as f64 + 0.5);
        ink.line([LEFT, at], [RIGHT, at], 1.0, colour(number));
        for beat in &log.beats {
            let [from, to] = beat.stall().map(|time: Duration| x.at(time.as_secs_f64()));
            // What is narrower than a pixel cannot be told from the line.
            if to - from >= 1.0 {
                ink.line(
                    [from, at],
                    [to, at],
                    (row - 2.0).clamp(1.0, STRIPE),
                    STALLED,
                );
            }
        }
    }
}

const fn colour(trainer: usize) -> Rgb888 {
    TRAINERS[trainer % TRAINERS.len()]
}
