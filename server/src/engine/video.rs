//! Video files as they lie: an FFmpeg in a process of its own makes frames of them, on threads beside
//! those that decode images, so that a file on which it hangs holds up no image.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, OnceLock},
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use preheat_clips::{ClipError, Cut, Encoding, Ffmpeg, Input, Limits};
use preheat_models::image::{self, Rgb};

use super::{
    clip::{Clip, Placed},
    decode::{Job, sized},
    item::{Fault, FaultKind, Source},
    schedule::Event,
};
use crate::metrics::Metrics;

/// What a replica may do with video files.
#[derive(Debug)]
pub(crate) struct Videos {
    limits: Option<Limits>,
    /// Looked for when it is first of interest, because that starts two processes.
    ffmpeg: OnceLock<Result<Ffmpeg, String>>,
}

impl Videos {
    /// Within these limits; without any, video files are not taken.
    pub(crate) const fn new(limits: Option<Limits>) -> Self {
        let ffmpeg = OnceLock::new();
        Self { limits, ffmpeg }
    }

    /// Whether video files can be decoded here. The first answer may take a second.
    pub(crate) fn are_taken(&self) -> bool {
        self.able().is_ok()
    }

    fn able(&self) -> Result<(&Ffmpeg, &Limits), Fault> {
        let unable = |why: &str| {
            let message = format!("this replica takes no video files ({why}): send the frames");
            Fault::new(FaultKind::Unsupported, message)
        };
        let limits = self.limits.as_ref();
        let limits = limits.ok_or_else(|| unable("it runs with --no-video-files"))?;
        let found = self.ffmpeg.get_or_init(|| {
            let found = Ffmpeg::find().map_err(|error| error.to_string());
            match &found {
                Ok(ffmpeg) => tracing::info!(version = ffmpeg.version(), "video files are taken"),
                Err(error) => tracing::info!("no video files are taken: {error}"),
            }
            found
        });
        match found {
            Ok(ffmpeg) => Ok((ffmpeg, limits)),
            Err(error) => Err(unable(error)),
        }
    }
}

/// What a thread that decodes videos needs.
#[derive(Clone, Debug)]
pub(crate) struct VideoDecoder {
    pub(crate) jobs: flume::Receiver<Job>,
    pub(crate) ready: flume::Sender<Event>,
    pub(crate) videos: Arc<Videos>,
    pub(crate) metrics: Arc<Metrics>,
}

impl VideoDecoder {
    /// Starts `threads` threads. They end when all senders of jobs are gone.
    pub(crate) fn spawn(&self, threads: usize) -> std::io::Result<()> {
        for index in 0..threads {
            let decoder = self.clone();
            thread::Builder::new()
                .name(format!("video-{index}"))
                .spawn(move || decoder.run())?;
        }
        Ok(())
    }

    fn run(&self) {
        while let Ok(job) = self.jobs.recv() {
            let start = Instant::now();
            self.metrics.queue_seconds.record(start - job.since);
            let clip = Arc::clone(&job.clip);
            let decoded = catch_unwind(AssertUnwindSafe(|| self.decode(job, start)));
            let event = match decoded {
                Ok(Ok(event)) => event,
                Ok(Err(fault)) => {
                    clip.fail(fault);
                    Event::Nudge
                }
                Err(_) => {
                    let message =
                        "the decoder panicked on this video: please report it with the file";
                    clip.fail(Fault::new(FaultKind::BadImage, message));
                    Event::Nudge
                }
            };
            if self.ready.send(event).is_err() {
                return;
            }
        }
    }

    /// What there is to tell about it.
    fn decode(&self, job: Job, start: Instant) -> Result<Event, Fault> {
        let Job {
            clip,
            payload,
            bytes,
            ..
        } = job;
        let Some(patience) = clip.patience(start) else {
            return Ok(Event::Nudge);
        };
        clip.begins(start);
        if !clip.reads_pixels {
            return Ok(all_empty(&clip));
        }
        let (ffmpeg, limits) = self.videos.able()?;
        // From here on it lies in a file.
        let input = Input::held(&payload)?;
        drop((payload, bytes));
        self.frames(&clip, &input, ffmpeg, &within(limits, patience))
    }

    fn frames(
        &self,
        clip: &Clip,
        input: &Input,
        ffmpeg: &Ffmpeg,
        limits: &Limits,
    ) -> Result<Event, Fault> {
        let Source::Video(times) = &clip.recipe.source else {
            return Err(Fault::new(FaultKind::Internal, "this item is no video"));
        };
        let video = ffmpeg.probe(input, limits)?;
        let size = [video.width, video.height];
        sized("is", size, clip.recipe.source_size)?;
        let cut = Cut::whole(times.clone(), Encoding::Rgb8);
        for (index, frame) in ffmpeg.frames(input, &video, &cut, limits)?.enumerate() {
            // Dropping the iterator ends the process.
            if !clip.is_wanted(Instant::now()) {
                break;
            }
            let pixels = apply(clip, size, &frame?)?;
            self.metrics.frames_decoded.increment(1);
            if let Placed::Whole(event, began) = clip.place(index, pixels) {
                self.metrics.clip_decode_seconds.record(began.elapsed());
                return Ok(event);
            }
        }
        Ok(Event::Nudge)
    }
}

fn apply(clip: &Clip, [width, height]: [u32; 2], rgb: &Bytes) -> Result<Vec<u8>, Fault> {
    let data = rgb.to_vec();
    let picture = Rgb {
        width,
        height,
        data,
    };
    Ok(image::apply(picture, &clip.recipe.transform)?.data)
}

/// For a model that does not look at its input.
fn all_empty(clip: &Clip) -> Event {
    let placed = (0..clip.frames).map(|index| clip.place(index, Vec::new()));
    match placed.last() {
        Some(Placed::Whole(event, _)) => event,
        _ => Event::Nudge,
    }
}

/// No longer than somebody waits: a thread that is still busy then could serve others.
fn within(limits: &Limits, patience: Duration) -> Limits {
    Limits {
        wall: limits.wall.min(patience),
        ..limits.clone()
    }
}

impl From<ClipError> for Fault {
    fn from(error: ClipError) -> Self {
        let kind = match error {
            ClipError::TooLarge { .. } => FaultKind::TooLarge,
            ClipError::Missing { .. } | ClipError::Version { .. } | ClipError::Lacking { .. } => {
                FaultKind::Unsupported
            }
            // A frame that was there when the timestamps were read.
            ClipError::Cut { .. } => FaultKind::Changed,
            ClipError::Io { .. } => FaultKind::Internal,
            _ => FaultKind::BadImage,
        };
        Self::new(kind, error.to_string())
    }
}
