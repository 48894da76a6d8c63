//! Rates, times and instants, all exact.

use super::MAX_PACE;

/// Frames a second, as an exact fraction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Frames.
    pub frames: u32,
    /// In so many seconds.
    pub seconds: u32,
}

/// When a video begins and ends, in ticks of its time base.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Seconds of a tick, as a fraction.
    pub time_base: (u32, u32),
    /// Frames that are shown.
    pub frames: u32,
    /// When the first one is shown.
    pub first: i64,
    /// When the last one ends.
    pub end: i64,
}

/// A time, as an exact fraction of seconds in lowest terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seconds {
    /// Below 0 where a video's clock is.
    pub numerator: i64,
    /// Above 0.
    pub denominator: u64,
}

impl Seconds {
    /// Nearest to `numerator / denominator`, which is exact unless it takes more than 64 bits.
    fn new(numerator: i128, denominator: i128) -> Self {
        let (mut a, mut b) = (numerator.abs(), denominator.max(1));
        while a != 0 {
            (a, b) = (b % a, a);
        }
        let (mut numerator, mut denominator) = (numerator / b, denominator.max(1) / b);
        loop {
            if let (Ok(numerator), Ok(denominator)) =
                (i64::try_from(numerator), u64::try_from(denominator))
            {
                return Self {
                    numerator,
                    denominator: denominator.max(1),
                };
            }
            (numerator, denominator) = (numerator / 2, denominator / 2);
        }
    }

    /// As a float.
    pub fn as_f64(self) -> f64 {
        self.numerator as f64 / self.denominator as f64
    }
}

impl Rate {
    /// `frames` in `seconds`, which are not 0.
    pub const fn new(frames: u32, seconds: u32) -> Self {
        Self { frames, seconds }
    }

    /// Reads `24`, `24000/1001` or `12.5`; `None` of anything else, and of 0.
    pub fn parse(text: &str) -> Option<Self> {
        let (frames, seconds) = match (text.split_once('/'), text.split_once('.')) {
            (Some((frames, seconds)), _) => {
                (frames.trim().parse().ok()?, seconds.trim().parse().ok()?)
            }
            (None, Some((whole, part))) => {
                let digits = u32::try_from(part.len()).ok()?;
                let seconds = 10_u32.checked_pow(digits)?;
                (format!("{whole}{part}").parse().ok()?, seconds)
            }
            (None, None) => (text.trim().parse().ok()?, 1),
        };
        let divisor = divisor(frames, seconds);
        (frames > 0 && seconds > 0).then(|| Self::new(frames / divisor, seconds / divisor))
    }
}

impl std::fmt::Display for Rate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.seconds {
            1 => write!(f, "{}", self.frames),
            seconds => write!(f, "{}/{seconds}", self.frames),
        }
    }
}

fn divisor(a: u32, b: u32) -> u32 {
    if b == 0 { a.max(1) } else { divisor(b, a % b) }
}

/// Ticks are finer than frames where a frame lasts so many of them.
const FINE: i128 = 8;

/// Instants at equal distances, counted in ticks from a video's first frame.
pub(super) struct Grid {
    /// Ticks from one to the next, as a fraction.
    pub(super) step: (i128, i128),
    /// Of the whole video.
    ticks: i128,
    /// Whether timestamps were rounded, and instants are too.
    rounded: bool,
}

impl Grid {
    /// So many `parts` of the distance between a clip's frames.
    pub(super) fn new(extent: &Extent, rate: Rate, parts: u32) -> Self {
        let (seconds, ticks) = extent.time_base;
        let step = i128::from(rate.seconds) * i128::from(ticks);
        let of = i128::from(rate.frames) * i128::from(seconds) * i128::from(parts);
        let ticks = extent.ticks();
        Self {
            step: (step.max(1), of.max(1)),
            ticks,
            rounded: ticks >= FINE * i128::from(extent.frames),
        }
    }

    /// The tick to look at for an instant.
    pub(super) fn tick(&self, number: u64) -> i128 {
        let (step, of) = self.step;
        let instant = i128::from(number) * step;
        if self.rounded {
            // The later of two that are equally near.
            (2 * instant + of).div_euclid(2 * of)
        } else {
            instant.div_euclid(of)
        }
    }

    /// How many instants are before the video's end.
    pub(super) fn count(&self) -> u64 {
        let (step, of) = self.step;
        let (before, each) = if self.rounded {
            (of * (2 * self.ticks - 1), 2 * step)
        } else {
            (of * self.ticks, step)
        };
        u64::try_from((before + each - 1).div_euclid(each)).unwrap_or(u64::MAX)
    }
}

impl Extent {
    /// Seconds from its first frame to its end.
    pub fn length(&self) -> f64 {
        self.seconds((self.ticks(), 1)).as_f64()
    }

    /// So many ticks, a fraction, as seconds.
    pub(super) fn seconds(&self, (ticks, of): (i128, i128)) -> Seconds {
        let (seconds, each) = self.time_base;
        Seconds::new(ticks * i128::from(seconds), of * i128::from(each))
    }

    /// Whether it lasts no longer than thirty thousand years, so that no product here overflows.
    pub(crate) fn is_plausible(&self) -> bool {
        let (seconds, ticks) = self.time_base;
        let lasts = self.ticks() * i128::from(seconds);
        self.end > self.first && lasts <= i128::from(ticks) << 40
    }

    /// From its first frame to its end; at least one.
    pub(super) fn ticks(&self) -> i128 {
        (i128::from(self.end) - i128::from(self.first)).max(1)
    }

    /// How many frames of the video there are to one of a clip, rounded; at least one.
    pub(super) fn surplus(&self, rate: Rate) -> u32 {
        let (seconds, ticks) = self.time_base;
        let shown = i128::from(self.frames) * i128::from(ticks) * i128::from(rate.seconds);
        let taken = self.ticks() * i128::from(seconds) * i128::from(rate.frames);
        let surplus = (2 * shown + taken).div_euclid((2 * taken).max(1));
        u32::try_from(surplus)
            .unwrap_or(MAX_PACE)
            .clamp(1, MAX_PACE)
    }
}
