//! Small folders of real videos whose frames carry their numbers.

use std::{
    fs,
    path::{Path, PathBuf},
};

use preheat_client::{Batch, Config, DataLoader, Pace, Rate, dataset::Clip};
use preheat_clips::{
    Ffmpeg,
    fixtures::{self, Codec, Numbered, Pattern},
};
use tempfile::TempDir;

pub(crate) struct Videos {
    pub(crate) dir: TempDir,
    pub(crate) beside: TempDir,
    ffmpeg: Ffmpeg,
}

/// A video of so many frames, 25 a second.
pub(crate) fn numbered(codec: Codec, frames: u32) -> Numbered {
    Numbered {
        pattern: Pattern::Colour,
        size: [72, 64],
        ..Numbered::new(codec, frames)
    }
}

impl Videos {
    /// None where there is no FFmpeg.
    pub(crate) fn new() -> Option<Self> {
        Some(Self {
            dir: TempDir::new().unwrap(),
            beside: TempDir::new().unwrap(),
            ffmpeg: fixtures::ffmpeg()?,
        })
    }

    pub(crate) fn root(&self) -> &Path {
        self.dir.path()
    }

    /// Whether this FFmpeg could make it.
    pub(crate) fn write(&self, key: &str, video: &Numbered) -> bool {
        let path = self.path(key);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        video.write(&self.ffmpeg, &path).unwrap()
    }

    pub(crate) fn path(&self, key: &str) -> PathBuf {
        self.root().join(key)
    }

    /// Of several codecs, rates, lengths and rotations, as far as this FFmpeg can make them.
    pub(crate) fn assorted() -> Option<Self> {
        let videos = Self::new()?;
        let rate = |rate, video| Numbered { rate, ..video };
        let turned = |rotation| Numbered {
            rotation,
            size: [64, 72],
            ..numbered(Codec::H264, 30)
        };
        let variable = Numbered {
            lasts: vec![40, 20, 100, 33],
            ..numbered(Codec::H264, 40)
        };
        let odd = Numbered {
            size: [73, 65],
            ..numbered(Codec::H264, 24)
        };
        for (key, video) in [
            ("a.mp4", numbered(Codec::H264, 40)),
            ("b.avi", rate((24, 1), numbered(Codec::Mjpeg, 30))),
            ("c.webm", rate((30, 1), numbered(Codec::Vp9, 36))),
            ("d.mkv", rate((30_000, 1001), numbered(Codec::H265, 50))),
            ("e.mkv", variable),
            ("f.mp4", turned(90)),
            ("g.mp4", turned(180)),
            ("h.mp4", odd),
            ("i.mkv", rate((24_000, 1001), numbered(Codec::Av1, 40))),
            ("sub/j.mp4", rate((60, 1), numbered(Codec::H264, 100))),
        ] {
            videos.write(key, &video);
        }
        fs::write(videos.path("a.txt"), "about a").unwrap();
        Some(videos)
    }

    /// A small run over them: batches of 2, clips of 5 or 17 frames of about 32 by 32, 12 a second.
    pub(crate) fn config(&self, endpoint: &str) -> Config {
        let mut config = Config::new(self.root(), endpoint, "video");
        config.index = Some(self.beside.path().join("index"));
        config.global_batch = 2;
        config.bucket_step = 8;
        config.target_area = 32 * 32;
        config.seed = 7;
        config.epochs = Some(1);
        config.crop = preheat_client::Crop::Random;
        config.flip = 0.5;
        config.frames = vec![5, 17];
        config.pace = Pace::Rate(Rate::new(12, 1));
        config
    }
}

/// The numbers that the replica read in each sample's frames.
pub(crate) fn numbers(batch: &Batch) -> Vec<Vec<u32>> {
    let [count, channels, time, height, width] = batch.latents.shape[..] else {
        panic!("{:?}", batch.latents.shape)
    };
    assert_eq!(count as usize, batch.samples.len());
    assert_eq!(time, (batch.bucket.frames - 1) / super::replica::STEP + 1);
    let values = (channels * time * height * width) as usize;
    let latents = batch.latents.data.chunks(4 * values);
    let read = latents.map(|latent| {
        let (floats, _) = latent.as_chunks();
        let read = floats.iter().take(batch.bucket.frames as usize);
        read.map(|&float| f32::from_le_bytes(float) as u32)
            .collect()
    });
    read.collect()
}

/// The frame that is shown at each instant, in rationals and by hand: the last that is not after it, to
/// half a tick where ticks are fine.
pub(crate) fn shown(clip: &Clip, start: (i128, i128), rate: Rate, length: u32) -> Vec<u32> {
    let (seconds, ticks) = clip.extent.time_base;
    let lasts = (clip.extent.end - clip.extent.first) / i64::from(clip.extent.frames);
    let half = i128::from(lasts >= 8);
    let at = |number: u32| {
        // start + number / rate, in halves of a tick: a fraction of these two.
        let (a, b) = start;
        let above = a * i128::from(rate.frames) + i128::from(number) * i128::from(rate.seconds) * b;
        let below = b * i128::from(rate.frames) * i128::from(seconds);
        let (above, below) = (2 * above * i128::from(ticks) + half * below, 2 * below);
        let before = |&&time: &&i64| i128::from(time) * below <= above;
        clip.times.iter().take_while(before).count().max(1) as u32 - 1
    };
    (0..length).map(at).collect()
}

/// All batches of the run, each sample's frames read back from what was encoded.
pub(crate) fn drain(loader: &mut DataLoader, epochs: u64, rate: Rate) -> Vec<Batch> {
    let mut batches = Vec::new();
    while loader.state().epoch < epochs {
        let Some(batch) = loader.next_batch().unwrap() else {
            continue;
        };
        for (sample, numbers) in batch.samples.iter().zip(numbers(&batch)) {
            if !sample.valid {
                assert!(numbers.iter().all(|&number| number == 0));
                continue;
            }
            let Some(info) = &sample.clip else {
                assert_eq!(batch.bucket.frames, 1, "an image");
                continue;
            };
            assert_eq!(numbers, *info.frames, "{}", sample.key);
            let clip = loader.dataset().clip(sample.id).unwrap();
            let start = (info.start.numerator.into(), info.start.denominator.into());
            let wanted = shown(&clip, start, rate, batch.bucket.frames);
            assert_eq!(numbers, wanted, "{} from {:?}", sample.key, info.start);
            let times: Vec<_> = numbers.iter().map(|&at| clip.times[at as usize]).collect();
            assert_eq!(times, *info.times);
        }
        batches.push(batch);
    }
    batches
}
