//! Loads and sizes as they are typed.

use std::{fmt, str::FromStr};

use anyhow::{Context as _, bail, ensure};
use preheat_client::plan::Size;
use preheat_proto::limits;

/// The largest rate that can be typed, in images/s: far above what a machine can send.
const MAX_RATE: f64 = 1e6;
/// The largest multiple of the capacity.
const MAX_TIMES: f64 = 100.0;
/// The largest weight of a size.
const MAX_WEIGHT: u32 = 1_000_000;

/// An offered load.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Rate {
    /// Images a second.
    Images(f64),
    /// So many times the capacity, which is measured first.
    OfCapacity(f64),
}

impl Rate {
    /// Images a second, for a target of this capacity.
    pub(super) const fn images(self, capacity: f64) -> f64 {
        match self {
            Self::Images(rate) => rate,
            Self::OfCapacity(times) => times * capacity,
        }
    }
}

impl FromStr for Rate {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let (number, most) = match text.strip_suffix('x') {
            Some(times) => (times, MAX_TIMES),
            None => (text, MAX_RATE),
        };
        let value: f64 = number
            .trim()
            .parse()
            .context("write images/s, as in 250, or multiples of the capacity, as in 0.5x")?;
        ensure!(
            value > 0.0 && value <= most,
            "must be above 0 and at most {most}"
        );
        Ok(if most == MAX_TIMES {
            Self::OfCapacity(value)
        } else {
            Self::Images(value)
        })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Images(rate) => write!(f, "{rate}"),
            Self::OfCapacity(times) => write!(f, "{times}x"),
        }
    }
}

/// An output size, and how often it is asked for beside the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Weighted {
    pub(crate) size: Size,
    pub(crate) weight: u32,
}

impl FromStr for Weighted {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let (size, weight) = text.split_once(':').unwrap_or((text, "1"));
        let weight = weight
            .parse()
            .ok()
            .filter(|weight| (1..=MAX_WEIGHT).contains(weight));
        let Some(weight) = weight else {
            bail!("a weight is a whole number from 1 to {MAX_WEIGHT}, as in 512:3");
        };
        let (width, height) = size.split_once('x').unwrap_or((size, size));
        let side = |text: &str| text.parse::<u32>().ok();
        let Some((width, height)) = side(width).zip(side(height)) else {
            bail!("write a side or WIDTHxHEIGHT in pixels, as in 512 or 512x384");
        };
        let sides = 1..=limits::MAX_SIDE;
        ensure!(
            sides.contains(&width) && sides.contains(&height),
            "sides are 1 to {} pixels",
            limits::MAX_SIDE
        );
        Ok(Self {
            size: Size::new(width, height),
            weight,
        })
    }
}

/// Which of the sizes each of `calls` calls asks for: shares by weight, every size at least once,
/// in an order that `seed` draws.
pub(super) fn mix(weights: &[u32], calls: usize, seed: u64) -> Vec<usize> {
    let total: f64 = weights.iter().copied().map(f64::from).sum();
    let share = |&weight: &u32| (f64::from(weight) / total * calls as f64).round().max(1.0);
    let mut mixed: Vec<usize> = weights
        .iter()
        .enumerate()
        .flat_map(|(index, weight)| std::iter::repeat_n(index, share(weight) as usize))
        .collect();
    fastrand::Rng::with_seed(seed).shuffle(&mut mixed);
    mixed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates() {
        assert_eq!("250".parse::<Rate>().unwrap(), Rate::Images(250.0));
        assert_eq!("0.5x".parse::<Rate>().unwrap(), Rate::OfCapacity(0.5));
        assert_eq!("3x".parse::<Rate>().unwrap().images(40.0), 120.0);
        for bad in [
            "", "x", "-1", "0", "0x", "nan", "inf", "1e99", "101x", "ten",
        ] {
            assert!(bad.parse::<Rate>().is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes() {
        let parse = |text: &str| text.parse::<Weighted>();
        let size = |width, height, weight| Weighted {
            size: Size::new(width, height),
            weight,
        };
        assert_eq!(parse("256").unwrap(), size(256, 256, 1));
        assert_eq!(parse("512x384:3").unwrap(), size(512, 384, 3));
        for bad in ["", "0", "512:", "512:0", "512:-1", "x512", "5.5", "40000"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_mix_follows_the_weights_and_forgets_no_size() {
        let mixed = mix(&[3, 1], 64, 7);
        let count = |wanted| mixed.iter().filter(|&&index| index == wanted).count();
        assert_eq!((count(0), count(1)), (48, 16));
        assert_eq!(mixed, mix(&[3, 1], 64, 7));
        assert_ne!(mixed, mix(&[3, 1], 64, 8));
        assert!(mix(&[1_000_000, 1], 64, 0).contains(&1));
    }
}
