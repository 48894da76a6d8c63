//! Videos cut into clips: which samples there are, and how many frames each can give.

use std::sync::Arc;

use super::{Clip, Dataset, Opened};
use crate::{
    config::Config,
    error::Error,
    plan::{ClipSpec, Pace, Start},
};

/// How the videos of a dataset are cut.
#[derive(Debug)]
pub(super) struct Cut {
    spec: ClipSpec,
    /// Of every source the id after its last, before it was cut.
    pub(super) ends: Arc<[u64]>,
    /// Where each video is several samples: the id of the first one of each, and the id after the last.
    pub(super) firsts: Option<Vec<u64>>,
    /// There, too: frames of each video at the pace, `None` of an image. Counting them takes a look at all of
    /// a video's timestamps, and it has many windows.
    capacities: Vec<Option<u32>>,
}

impl Cut {
    /// The video of a sample, and its number among those of the video.
    pub(super) fn base(&self, id: u64) -> (u64, u64) {
        let Some(firsts) = &self.firsts else {
            return (id, 0);
        };
        let video = firsts.partition_point(|&first| first <= id).max(1) - 1;
        // Past the last sample there is nothing, as before.
        let video = video.min(firsts.len().saturating_sub(2));
        (video as u64, id.saturating_sub(firsts[video]))
    }

    /// The frames of a sample's video and its number among those of the video, where windows are cut; `None`
    /// of an image.
    fn window(&self, id: u64) -> Option<(u32, u64)> {
        let (video, number) = self.base(id);
        let capacity = self.capacities.get(usize::try_from(video).ok()?)?;
        capacity.map(|capacity| (capacity, number))
    }

    /// The first sample of a video.
    pub(super) fn first(&self, video: u64) -> u64 {
        let firsts = self.firsts.as_ref();
        firsts.map_or(video, |firsts| firsts[video as usize])
    }
}

impl Dataset {
    /// The same dataset with its videos cut into clips. Where windows are cut, each is a sample with an
    /// id of its own, in their order, and a key that ends in `#` and its number. Of a dataset that is
    /// cut already: cut otherwise.
    ///
    /// # Errors
    /// [`Error::Config`] for a spec that makes no sense.
    fn cut(&self, spec: &ClipSpec) -> Result<Self, Error> {
        spec.check()?;
        let whole = self.uncut();
        let mut cut = Cut {
            spec: spec.clone(),
            ends: whole.ends.clone(),
            firsts: None,
            capacities: Vec::new(),
        };
        if spec.start != Start::Windows {
            return Ok(Self {
                cut: Some(Arc::new(cut)),
                ..whole
            });
        }
        let mut firsts = Vec::with_capacity(whole.len() as usize + 1);
        let (mut next, mut over) = (0, 0);
        for video in 0..whole.len() {
            firsts.push(next);
            let capacity = whole.clip(video).map(|clip| spec.capacity(&clip.extent));
            cut.capacities.push(capacity);
            let Some(capacity) = capacity else {
                next += 1;
                continue;
            };
            let samples = spec.samples(capacity);
            let last = spec.window(capacity, samples - 1);
            over += last.map_or(0, |(first, length)| u64::from(capacity - first - length));
            next += samples;
        }
        firsts.push(next);
        tracing::info!(
            videos = whole.len(),
            samples = next,
            "cut into windows; {over} frames at the ends of videos are in none of them"
        );
        let at = |video: &u64| firsts[*video as usize];
        let ends = whole.ends.iter().map(at).collect();
        let starts = whole.starts.iter().map(at).collect();
        cut.firsts = Some(firsts);
        Ok(Self {
            ends,
            starts,
            cut: Some(Arc::new(cut)),
            bad: Arc::default(),
            ..whole
        })
    }

    /// The samples that a run of this config delivers: of videos their clips. What a [`Plan`](crate::plan::Plan)
    /// made by hand is to be laid out over.
    ///
    /// # Errors
    /// [`Error::Dataset`] if it was opened for images and the run is of clips, or the other way round.
    pub fn delivered(&self, config: &Config) -> Result<Self, Error> {
        let clips = config.clip_spec();
        let other = |source: &&Opened| source.has_videos() != clips.is_some();
        if let Some(source) = self.opened.iter().find(other) {
            let reason = match clips {
                Some(_) => {
                    "was opened for images, and `frames` asks for clips: set it before the dataset is \
                     opened"
                }
                None => "was opened for clips, and `frames` is empty: set it as it was then",
            };
            return Err(Error::dataset(source.uri(), reason));
        }
        match clips {
            Some(spec) => self.cut(&spec),
            None => Ok(self.clone()),
        }
    }

    /// Whether there may be files of video: not where all clips are directories of images.
    pub(crate) fn has_video_files(&self) -> bool {
        self.opened.iter().any(Opened::has_video_files)
    }

    /// As it was before it was cut.
    fn uncut(&self) -> Self {
        let Some(cut) = &self.cut else {
            return self.clone();
        };
        debug_assert_eq!(cut.ends.len(), self.opened.len());
        Self::of(self.opened.clone(), &self.fingerprint, &self.layouts)
    }

    /// What is known of a sample's video; `None` of an image.
    pub fn clip(&self, id: u64) -> Option<Clip> {
        let (source, id) = self.locate(id);
        Clip::unpack(source.index().clip(id))
    }

    /// The window that a sample is, where videos are cut into windows: its first frame, among those of
    /// the video at its pace, and its length.
    pub(crate) fn window(&self, id: u64) -> Option<(u32, u32)> {
        let cut = self.cut.as_ref()?;
        let (capacity, number) = cut.window(id)?;
        cut.spec.window(capacity, number)
    }

    /// Frames that a sample can give; 1 of an image.
    pub(super) fn frames_of(&self, id: u64) -> u32 {
        let Some(cut) = &self.cut else { return 1 };
        if cut.firsts.is_some() {
            return cut.window(id).map_or(1, |(capacity, number)| {
                let window = cut.spec.window(capacity, number);
                window.map_or(capacity, |(_, length)| length)
            });
        }
        let clip = self.clip(id);
        clip.map_or(1, |clip| cut.spec.capacity(&clip.extent))
    }

    /// The number of a window among those of its video, where videos are cut into windows.
    pub(super) fn window_number(&self, id: u64) -> Option<u64> {
        let cut = self.cut.as_ref()?;
        cut.window(id).map(|(_, number)| number)
    }

    /// Why a sample has too few frames for any clip, if it has.
    pub(crate) fn too_short(&self, id: u64) -> Option<String> {
        let cut = self.cut.as_ref()?;
        let least = cut.spec.lengths().first().copied()?;
        let frames = self.frames_of(id);
        if frames >= least {
            return None;
        }
        let advice = "ask for shorter clips too, or for single frames, with 1 among `frames`";
        let Some(clip) = self.clip(id) else {
            return Some(format!(
                "is an image, and the shortest clip has {least} frames: {advice}"
            ));
        };
        let pace = match cut.spec.pace {
            Pace::Rate(rate) => format!("at {rate} a second"),
            Pace::Stride(1) => "in all".to_owned(),
            Pace::Stride(stride) => format!("at a stride of {stride}"),
        };
        let seconds = clip.extent.length();
        Some(format!(
            "lasts {seconds:.3} s, which are {frames} frames {pace}, and the shortest clip has {least}: \
             {advice}"
        ))
    }
}
