//! A stop of the fleet as it is typed.

use std::{str::FromStr, time::Duration};

use anyhow::{Context as _, ensure};

/// Seconds of anything, at most: a day.
pub(super) const MAX_SECONDS: f64 = 86_400.0;

/// When the whole fleet stops, after the warm-up, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stop {
    pub(super) at: Duration,
    pub(super) lasts: Duration,
}

impl FromStr for Stop {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let form = "write AT,FOR in seconds, as in 20,30";
        let (at, lasts) = text.split_once(',').context(form)?;
        let [at, lasts] = [at, lasts].map(|text| text.trim().parse::<f64>().unwrap_or(f64::NAN));
        let fits = |seconds: f64| (0.0..=MAX_SECONDS).contains(&seconds);
        ensure!(
            fits(at) && fits(lasts) && lasts > 0.0,
            "{form}, up to {MAX_SECONDS}"
        );
        let [at, lasts] = [at, lasts].map(Duration::from_secs_f64);
        Ok(Self { at, lasts })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stops() {
        let stop: Stop = "20,0.5".parse().unwrap();
        let [at, lasts] = [20_000, 500].map(Duration::from_millis);
        assert_eq!(stop, Stop { at, lasts });
        for bad in ["", "20", "20,", "20,0", "-1,5", "a,b", "1,2,3", "1,inf"] {
            assert!(bad.parse::<Stop>().is_err(), "{bad}");
        }
    }
}
