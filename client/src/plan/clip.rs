//! Which frames of a video a clip is made of.
//!
//! All in integers: a video's timestamps are counted in ticks of its own time base, rates are fractions,
//! and instants are fractions of a tick, so that every machine chooses the same frames.

mod time;

use preheat_proto::limits;

use super::seeds::{Purpose, below, draw};
use crate::error::Error;

use self::time::Grid;
pub use self::time::{Extent, Rate, Seconds};

/// Most lengths of [`ClipSpec::frames`].
pub const MAX_LENGTHS: usize = 32;
/// Largest stride, and largest rate in frames a second: what cameras do, and some.
pub const MAX_PACE: u32 = 1000;

/// How far apart the frames of a clip are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// In time: at each instant the frame that is shown then, which is the last whose timestamp is not
    /// after it. Frames of slower videos are repeated, those of faster ones left out. Containers round
    /// timestamps to their ticks, so instants are compared to the nearest tick; where ticks are no finer
    /// than an eighth of a frame, as they are where each is a frame, nothing was rounded, and instants
    /// are exact.
    Rate(Rate),
    /// In the video's own frames: every so many-th one, whenever it is shown.
    Stride(u32),
}

/// Where in its video a clip begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Anywhere where there is a whole clip, by the sample's seed, anew in every epoch: at a multiple of
    /// the pace, or of a whole part of it where the video has more frames than the pace takes.
    Random,
    /// At the first frame.
    First,
    /// With as much before it as after it, the odd frame after.
    Center,
    /// Everywhere: a video is cut into clips that follow each other, each the longest that still fits,
    /// and each is a sample of its own. Single frames are cut only where nothing longer fits. What is
    /// left at a video's end is shorter than any.
    Windows,
}

/// How clips are cut out of videos.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClipSpec {
    /// Frames of a clip: a video gives the most of these that it can. With 1 among them, images take
    /// part, and so do videos that are too short for the others; without, they are bad samples.
    pub frames: Vec<u32>,
    /// How far apart they are.
    pub pace: Pace,
    /// Where a clip begins.
    pub start: Start,
}

/// A clip's place in its video.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pick {
    /// When it begins, on the video's clock.
    pub start: Seconds,
    /// Its frames, by number among those that are shown; ascending, the same one several times where
    /// the video is slower than the clip.
    pub frames: Vec<u32>,
}

impl ClipSpec {
    /// The frames of a clip that can be, shortest first, each once.
    pub fn lengths(&self) -> Vec<u32> {
        let mut lengths = self.frames.clone();
        lengths.sort_unstable();
        lengths.dedup();
        lengths
    }

    /// Frames at this pace in the whole of a video.
    pub fn capacity(&self, extent: &Extent) -> u32 {
        if extent.frames == 0 {
            return 0;
        }
        match self.pace {
            Pace::Stride(stride) => (extent.frames - 1) / stride.max(1) + 1,
            Pace::Rate(rate) => {
                let count = Grid::new(extent, rate, 1).count();
                u32::try_from(count).unwrap_or(u32::MAX)
            }
        }
    }

    /// Frames of a clip out of so many; `None` where they are too few for any.
    pub fn length(&self, capacity: u32) -> Option<u32> {
        let fitting = self.frames.iter().filter(|&&frames| frames <= capacity);
        fitting.max().copied()
    }

    /// How many samples a video is.
    pub fn samples(&self, capacity: u32) -> u64 {
        if self.start != Start::Windows {
            return 1;
        }
        let runs = self.runs(capacity).map(|(_, _, count)| u64::from(count));
        // One that is too short is one sample, and bad.
        runs.sum::<u64>().max(1)
    }

    /// A window: its first frame among those of the video at this pace, and its length.
    pub fn window(&self, capacity: u32, number: u64) -> Option<(u32, u32)> {
        let mut number = number;
        for (first, length, count) in self.runs(capacity) {
            if number < u64::from(count) {
                return Some((first + number as u32 * length, length));
            }
            number -= u64::from(count);
        }
        None
    }

    /// Windows of one length after the other, longest first: where they begin, how long, how many.
    fn runs(&self, capacity: u32) -> impl Iterator<Item = (u32, u32, u32)> {
        let (mut first, mut left) = (0, capacity);
        self.lengths().into_iter().rev().filter_map(move |length| {
            let stills = length == 1;
            let count = match (stills, first) {
                (true, 0) => left.min(1),
                (true, _) => 0,
                (false, _) => left / length.max(1),
            };
            let at = first;
            (first, left) = (first + count * length, left - count * length);
            (count > 0).then_some((at, length, count))
        })
    }

    /// The frames of a clip of `length`, which is at most the video's capacity: where the spec says, or
    /// the ones of a window. `times` are the ticks at which frames are shown, ascending.
    pub fn pick(
        &self,
        key: (u64, u64, u64),
        (extent, times): (&Extent, &[i64]),
        (length, window): (u32, Option<u32>),
    ) -> Pick {
        let slack = self.capacity(extent).saturating_sub(length);
        let offset = match (self.start, window) {
            (_, Some(first)) => Some(first),
            (Start::Center, None) => Some(slack / 2),
            (Start::First | Start::Windows, None) => Some(0),
            (Start::Random, None) => None,
        };
        let drawn = |bound: u32| below(draw(key.0, key.1, key.2, Purpose::Start), bound.max(1));
        let last = length.saturating_sub(1);
        match self.pace {
            Pace::Stride(stride) => {
                let starts = extent.frames.saturating_sub(last * stride);
                let first = offset.map_or_else(|| drawn(starts), |offset| offset * stride);
                let start = times.get(first as usize).copied().unwrap_or(extent.first);
                Pick {
                    start: extent.seconds((start.into(), 1)),
                    frames: (0..length).map(|number| first + number * stride).collect(),
                }
            }
            Pace::Rate(rate) => {
                let parts = if offset.is_some() {
                    1
                } else {
                    extent.surplus(rate)
                };
                let grid = Grid::new(extent, rate, parts);
                let (parts, last) = (u64::from(parts), u64::from(last));
                let first = offset.map_or_else(
                    || {
                        let starts = grid.count().saturating_sub(last * parts);
                        drawn(u32::try_from(starts).unwrap_or(u32::MAX)).into()
                    },
                    u64::from,
                );
                let shown = |number: u32| {
                    let instant = grid.tick(first + u64::from(number) * parts);
                    let at = i128::from(extent.first) + instant;
                    let shown = times.partition_point(|&time| i128::from(time) <= at);
                    shown.saturating_sub(1) as u32
                };
                let (step, of) = grid.step;
                let begins = i128::from(extent.first) * of + i128::from(first) * step;
                Pick {
                    start: extent.seconds((begins, of)),
                    frames: (0..length).map(shown).collect(),
                }
            }
        }
    }

    /// Checks what needs no dataset.
    ///
    /// # Errors
    /// [`Error::Config`], naming the field of [`Config`](crate::Config).
    pub fn check(&self) -> Result<(), Error> {
        let most = limits::MAX_FRAMES;
        let count = self.frames.len();
        if !(1..=MAX_LENGTHS).contains(&count) {
            let reason = format!("has {count} lengths of clips, must have 1..={MAX_LENGTHS}");
            return Err(Error::config("frames", reason));
        }
        if let Some(odd) = self.frames.iter().find(|one| !(1..=most).contains(*one)) {
            let reason = format!("has {odd}, must be 1..={most}");
            return Err(Error::config("frames", reason));
        }
        if self.lengths().len() != count {
            let reason = format!("is {:?}, with a length twice: leave one out", self.frames);
            return Err(Error::config("frames", reason));
        }
        let fits = match self.pace {
            Pace::Stride(stride) => (1..=MAX_PACE).contains(&stride),
            Pace::Rate(rate) => {
                let most = u64::from(rate.seconds) * u64::from(MAX_PACE);
                (1..=most).contains(&u64::from(rate.frames))
            }
        };
        if !fits {
            let reason = match self.pace {
                Pace::Stride(stride) => format!("is {stride}, must be 1..={MAX_PACE}"),
                Pace::Rate(rate) => format!(
                    "is {}/{} frames a second, must be above 0 and at most {MAX_PACE}",
                    rate.frames, rate.seconds
                ),
            };
            return Err(Error::config("pace", reason));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
