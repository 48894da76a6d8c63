//! Speeds and waves as they are typed.

use std::{str::FromStr, time::Duration};

use anyhow::{Context as _, ensure};

/// Speed classes, at most.
const MOST_CLASSES: usize = 16;
/// The fastest of them, and the slowest.
const SPEEDS: [f64; 2] = [0.01, 1000.0];

/// Speeds of replicas, mixed in equal numbers.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Speeds(pub(super) Vec<f64>);

/// This share of the replicas vanishes at that moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Wave {
    pub(super) share: f64,
    pub(super) at: Duration,
}

impl FromStr for Speeds {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let speeds: Result<Vec<f64>, _> = text.split(':').map(str::parse).collect();
        let speeds = speeds.context("write speeds, as in 1:2:5:10")?;
        ensure!(
            speeds.len() <= MOST_CLASSES,
            "write at most {MOST_CLASSES} speeds"
        );
        let [least, most] = SPEEDS;
        ensure!(
            speeds.iter().all(|speed| (least..=most).contains(speed)),
            "speeds are from {least} to {most}"
        );
        Ok(Self(speeds))
    }
}

impl FromStr for Wave {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let parts = text.split_once('@');
        let (share, at) = parts.context("write SHARE@SECONDS, as in 0.5@30")?;
        Ok(Self {
            share: part(share)?,
            at: Duration::from_secs_f64(seconds(at)?),
        })
    }
}

/// A share: 0 to 1.
pub(super) fn part(text: &str) -> anyhow::Result<f64> {
    within(text, 0.0, 1.0)
}

/// A share that cannot be all: of what would be left?
pub(super) fn lesser_part(text: &str) -> anyhow::Result<f64> {
    within(text, 0.0, 0.9)
}

/// A load: above 0, below 1.
pub(super) fn load(text: &str) -> anyhow::Result<f64> {
    within(text, 0.01, 0.99).context("more than the fleet can do is --scenario saturation")
}

/// Up to a day.
pub(super) fn seconds(text: &str) -> anyhow::Result<f64> {
    within(text, 0.0, 86_400.0)
}

/// Long enough to be one.
pub(super) fn period(text: &str) -> anyhow::Result<f64> {
    within(text, 0.1, 86_400.0)
}

/// A quantity of anything.
pub(super) fn amount(text: &str) -> anyhow::Result<f64> {
    within(text, 0.001, 1e6)
}

/// Sigma of the noise.
pub(super) fn sigma(text: &str) -> anyhow::Result<f64> {
    within(text, 0.0, 2.0)
}

/// Milliseconds of a round trip.
pub(super) fn trip(text: &str) -> anyhow::Result<f64> {
    within(text, 0.0, 10_000.0)
}

fn within(text: &str, least: f64, most: f64) -> anyhow::Result<f64> {
    let value: f64 = text.parse().context("write a number")?;
    ensure!(
        (least..=most).contains(&value),
        "must be from {least} to {most}"
    );
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_is_understood_or_refused() {
        let speeds: Speeds = "1:2.5:10".parse().unwrap();
        assert_eq!(speeds, Speeds(vec![1.0, 2.5, 10.0]));
        let wave: Wave = "0.5@30".parse().unwrap();
        assert_eq!((wave.share, wave.at.as_secs()), (0.5, 30));
        for bad in ["", "1:", "0", "-1", "nan", "1:2:x", "1e9"] {
            assert!(bad.parse::<Speeds>().is_err(), "{bad}");
        }
        for bad in ["", "0.5", "2@3", "0.5@-1", "@", "0.5@x"] {
            assert!(bad.parse::<Wave>().is_err(), "{bad}");
        }
        let said = format!("{:#}", load("1.2").unwrap_err());
        assert!(said.contains("--scenario saturation"), "{said}");
    }
}
