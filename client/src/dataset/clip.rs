//! What an index knows of a video: when its frames are shown, and how to get at them.

use preheat_clips::Video;

use crate::plan::{Extent, Rate};

/// First byte of a record: what it is of.
const VIDEO: u8 = 1;
const FILES: u8 = 2;
/// Most images of one directory: days of film, and a bound on what a damaged index can ask for.
pub(super) const MAX_FILES: u32 = 10_000_000;

/// A video of a dataset.
#[derive(Clone, Debug, PartialEq)]
pub struct Clip {
    /// When it begins and ends.
    pub extent: Extent,
    /// When each of its frames is shown, in ticks, ascending.
    pub times: Vec<i64>,
    pub(crate) made: Made,
}

/// What a video is made of.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Made {
    /// A file.
    Video(Video),
    /// A directory of images.
    Files,
}

impl Clip {
    /// Whether its frames are the files of a directory, not those of one video.
    pub fn is_files(&self) -> bool {
        self.made == Made::Files
    }

    /// Of so many images at a rate.
    pub(crate) fn of_files(count: u32, rate: Rate) -> Self {
        Self {
            extent: Extent {
                time_base: (rate.seconds, rate.frames),
                frames: count,
                first: 0,
                end: count.into(),
            },
            times: (0..count.into()).collect(),
            made: Made::Files,
        }
    }

    pub(crate) fn of_video(video: Video) -> Self {
        let times = video.times.clone();
        Self {
            extent: Extent {
                time_base: video.time_base,
                frames: u32::try_from(times.len()).unwrap_or(u32::MAX),
                first: times.first().copied().unwrap_or(0),
                end: video.end,
            },
            times,
            made: Made::Video(video),
        }
    }

    /// As an index keeps it.
    pub(crate) fn pack(&self) -> Vec<u8> {
        match &self.made {
            Made::Video(video) => [vec![VIDEO], video.pack()].concat(),
            Made::Files => {
                let (seconds, frames) = self.extent.time_base;
                let mut packed = vec![FILES];
                for number in [self.extent.frames, frames, seconds] {
                    packed.extend(number.to_le_bytes());
                }
                packed
            }
        }
    }

    /// What was packed; `None` of an image, which has no record, and of a damaged one.
    pub(crate) fn unpack(packed: &[u8]) -> Option<Self> {
        let (kind, rest) = packed.split_first()?;
        match *kind {
            VIDEO => Video::unpack(rest)
                .map(Self::of_video)
                .filter(|clip| clip.extent.is_plausible()),
            FILES => {
                let (numbers, []) = rest.as_chunks::<4>() else {
                    return None;
                };
                let [count, frames, seconds] = numbers else {
                    return None;
                };
                let [count, frames, seconds] =
                    [count, frames, seconds].map(|bytes| u32::from_le_bytes(*bytes));
                (frames > 0 && seconds > 0 && count <= MAX_FILES)
                    .then(|| Self::of_files(count, Rate::new(frames, seconds)))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_come_back_and_rubbish_does_not() {
        let clip = Clip::of_files(17, Rate::new(24_000, 1001));
        assert_eq!(Clip::unpack(&clip.pack()), Some(clip.clone()));
        let packed = clip.pack();
        for cut in 0..packed.len() {
            assert_eq!(Clip::unpack(&packed[..cut]), None);
        }
        assert_eq!(Clip::unpack(&[9; 13]), None);
        assert_eq!(Clip::unpack(&[2; 14]), None);
        assert_eq!(
            Clip::unpack(&[FILES, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0]),
            None
        );
    }
}
