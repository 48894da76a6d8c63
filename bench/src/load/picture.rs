//! Latency and goodput against offered load, one above the other.

use std::path::Path;

use anyhow::Context as _;
use embedded_graphics::{mono_font::ascii::FONT_10X20, pixelcolor::Rgb888};

use super::{
    outcome::{Kind, Outcome},
    table::Found,
};
use crate::{
    axis::{Axis, name},
    ink::Ink,
    style::{BLUE, FAINT, GREEN, GRID, INK, PAPER, PURPLE, SMALL, STRONG, VERMILION},
};

const WIDTH: f64 = 1200.0;
const HEIGHT: f64 = 860.0;
const LEFT: f64 = 84.0;
const RIGHT: f64 = WIDTH - 48.0;
/// Upper and lower edge of the panels.
const LATENCY: [f64; 2] = [124.0, 474.0];
const GOODPUT: [f64; 2] = [540.0, 780.0];

// Told apart by the colour-blind too, and in grey.
const P50: Rgb888 = BLUE;
const P99: Rgb888 = VERMILION;
const GOOD: Rgb888 = GREEN;
const KNEE: Rgb888 = PURPLE;

/// Longest subtitle, in letters of the small font: past it the text would leave the picture.
const LETTERS: usize = 136;

/// One step in the picture.
#[derive(Clone, Copy, Debug)]
struct Dot {
    /// Images a second: offered, or where the loop is closed its goodput, because refused calls come
    /// back as often as they are told to.
    load: f64,
    goodput: f64,
    /// p50 and p99.
    latency: Option<[f64; 2]>,
    closed: bool,
}

/// Draws the steps and writes a PNG.
///
/// # Errors
/// Where the file cannot be written.
pub(super) fn write(
    outcomes: &[Outcome],
    found: Found,
    about: &str,
    path: &Path,
) -> anyhow::Result<()> {
    let picture = draw(&dots(outcomes), found, about).dry();
    picture
        .save(path)
        .with_context(|| format!("writing {}", path.display()))
}

/// Without the steps that only look for the capacity; by load.
fn dots(outcomes: &[Outcome]) -> Vec<Dot> {
    let shown = outcomes.iter().filter(|step| step.kind != Kind::Probe);
    let mut dots: Vec<Dot> = shown
        .map(|step| Dot {
            load: match step.kind {
                Kind::Closed => step.goodput(),
                _ => step.offered(),
            },
            goodput: step.goodput(),
            latency: step.latency.map(|latency| [latency[0], latency[2]]),
            closed: step.kind == Kind::Closed,
        })
        .collect();
    dots.sort_by(|a, b| a.load.total_cmp(&b.load));
    dots
}

fn draw(dots: &[Dot], found: Found, about: &str) -> Ink {
    let mut ink = Ink::new(WIDTH as u32, HEIGHT as u32, PAPER);
    let highest = |value: fn(&Dot) -> f64| dots.iter().map(value).fold(0.0, f64::max);
    let loads = highest(|dot| dot.load).max(found.knee.map_or(0.0, |knee| knee.offered));
    let goodputs = highest(|dot| dot.goodput).max(found.capacity.unwrap_or(0.0));
    let x = Axis::linear(loads, [LEFT, RIGHT]);
    let latencies = dots.iter().filter_map(|dot| dot.latency).flatten();
    let upper = Axis::log(latencies, [LATENCY[1], LATENCY[0]]);
    let lower = Axis::linear(goodputs, [GOODPUT[1], GOODPUT[0]]);

    ink.text(
        "Latency and goodput by offered load",
        [LEFT, 18.0],
        FONT_10X20,
        INK,
    );
    let about: String = about.chars().take(LETTERS).collect();
    ink.text(&about, [LEFT, 46.0], SMALL, FAINT);
    panel(&mut ink, (&x, &upper), LATENCY, "latency, ms (logarithmic)");
    panel(&mut ink, (&x, &lower), GOODPUT, "goodput, images/s");
    legend(&mut ink, found, dots);

    let follows = lower.end().min(x.end());
    let [from, to] = [0.0, follows].map(|load| [x.at(load), lower.at(load)]);
    ink.dashed(from, to, 1.5, FAINT);
    if let Some(capacity) = found.capacity {
        let y = lower.at(capacity);
        ink.dashed([LEFT, y], [RIGHT, y], 1.5, GOOD);
    }
    if let Some(knee) = found.knee {
        let at = x.at(knee.offered);
        for [top, bottom] in [LATENCY, GOODPUT] {
            ink.dashed([at, top], [at, bottom], 2.0, KNEE);
        }
        let label = format!("knee {} images/s", name(knee.offered));
        let wide = 9.0 * label.len() as f64;
        ink.text(
            &label,
            [(at - wide / 2.0).clamp(LEFT, RIGHT - wide), 492.0],
            STRONG,
            KNEE,
        );
    }
    let place = |load: f64, axis: &Axis, value: f64| [x.at(load), axis.at(value)];
    let series = |value: fn(&Dot) -> Option<f64>, axis: &Axis| -> Vec<_> {
        let points = dots.iter().filter_map(|dot| Some((dot, value(dot)?)));
        points
            .map(|(dot, value)| (place(dot.load, axis, value), dot.closed))
            .collect()
    };
    curve(&mut ink, &series(|dot| Some(dot.latency?[0]), &upper), P50);
    curve(&mut ink, &series(|dot| Some(dot.latency?[1]), &upper), P99);
    curve(&mut ink, &series(|dot| Some(dot.goodput), &lower), GOOD);
    ink
}

/// Grid, frame and names of one panel.
fn panel(ink: &mut Ink, (x, y): (&Axis, &Axis), [top, bottom]: [f64; 2], title: &str) {
    ink.text(title, [LEFT, top - 22.0], STRONG, INK);
    for value in y.ticks() {
        let at = y.at(value);
        ink.line([LEFT, at], [RIGHT, at], 1.0, GRID);
        let label = name(value);
        let wide = 8.0 * label.len() as f64;
        ink.text(&label, [LEFT - 10.0 - wide, at - 7.0], SMALL, FAINT);
    }
    for value in x.ticks() {
        let at = x.at(value);
        ink.line([at, top], [at, bottom], 1.0, GRID);
        if bottom == GOODPUT[1] {
            let label = name(value);
            let wide = 8.0 * label.len() as f64;
            ink.text(&label, [at - wide / 2.0, bottom + 9.0], SMALL, FAINT);
        }
    }
    ink.line([LEFT, bottom], [RIGHT, bottom], 1.5, FAINT);
    ink.line([LEFT, top], [LEFT, bottom], 1.5, FAINT);
    if bottom == GOODPUT[1] {
        let title = "offered load, images/s";
        let wide = 9.0 * title.len() as f64;
        ink.text(title, [RIGHT - wide, bottom + 34.0], STRONG, INK);
    }
}

/// Points, and a line through those of open loops; those of closed ones are rings of their own.
fn curve(ink: &mut Ink, points: &[([f64; 2], bool)], colour: Rgb888) {
    let open: Vec<[f64; 2]> = points
        .iter()
        .filter(|(_, closed)| !closed)
        .map(|(at, _)| *at)
        .collect();
    for two in open.windows(2) {
        ink.line(two[0], two[1], 2.5, colour);
    }
    for (at, closed) in points {
        ink.dot(*at, 5.0, colour, if *closed { PAPER } else { colour });
    }
}

fn legend(ink: &mut Ink, found: Found, dots: &[Dot]) {
    let mut entries = vec![
        ("p50", P50, false),
        ("p99", P99, false),
        ("goodput", GOOD, false),
    ];
    entries.push(("all that is offered", FAINT, true));
    if found.capacity.is_some() {
        entries.push(("capacity", GOOD, true));
    }
    let mut at = LEFT;
    let y = 80.0;
    for (label, colour, dashed) in entries {
        if dashed {
            ink.dashed([at, y], [at + 31.0, y], 1.5, colour);
        } else {
            ink.line([at, y], [at + 31.0, y], 2.5, colour);
            ink.dot([at + 15.5, y], 5.0, colour, colour);
        }
        ink.text(label, [at + 40.0, y - 7.0], SMALL, INK);
        at += 40.0 + 8.0 * label.len() as f64 + 28.0;
    }
    if dots.iter().any(|dot| dot.closed) {
        ink.dot([at + 5.0, y], 5.0, FAINT, PAPER);
        ink.text(
            "closed loop, at its goodput",
            [at + 18.0, y - 7.0],
            SMALL,
            INK,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::knee::Point;

    fn dot(load: f64, goodput: f64, p99: f64) -> Dot {
        Dot {
            load,
            goodput,
            latency: Some([p99 / 3.0, p99]),
            closed: false,
        }
    }

    #[test]
    fn every_series_is_in_the_picture() {
        let dots = [
            dot(10.0, 10.0, 30.0),
            dot(20.0, 20.0, 60.0),
            dot(40.0, 25.0, 5000.0),
        ];
        let found = Found {
            capacity: Some(26.0),
            knee: Some(Point {
                offered: 20.0,
                goodput: 20.0,
                items: 1.0,
                seconds: 1.0,
                p99: Some(60.0),
            }),
            past: None,
        };
        let picture = draw(&dots, found, "about").dry();
        assert_eq!(picture.dimensions(), (WIDTH as u32, HEIGHT as u32));
        use embedded_graphics::prelude::RgbColor as _;
        for colour in [P50, P99, GOOD, KNEE] {
            let rgb = [colour.r(), colour.g(), colour.b()];
            let seen = picture.pixels().filter(|pixel| pixel.0 == rgb).count();
            assert!(seen > 100, "{colour:?} is in {seen} pixels");
        }
    }

    #[test]
    fn nothing_measured_is_still_a_picture() {
        let dots = [Dot {
            latency: None,
            ..dot(0.0, 0.0, 1.0)
        }];
        draw(&dots, Found::default(), "about").dry();
        draw(&[], Found::default(), "about").dry();
    }
}
