//! Frames of videos, by a bounded number of processes at once.

mod named;

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use preheat_clips::{
    ClipError, Cut, Encoding, Ffmpeg, Filter as Scaler, Input, Limits, Stop, Video,
};
use preheat_proto::{Code, Error as CallError, Filter};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::spawn_blocking,
};

use crate::{
    config::{ClipEncoding, Config},
    dataset::{Dataset, MAX_CLIP_BYTES},
    error::Error,
    plan::{Size, Transform},
};

/// Videos decoded at once by default: one a core, as each takes one, and two at least, so that one that
/// hangs holds up no other.
const LEAST_DECODERS: usize = 2;
/// Bytes of whole videos that are in memory at once, because they lie in tars or in stores: what waits to be
/// decoded. The largest that is taken has as many.
const HELD_BYTES: u64 = MAX_CLIP_BYTES;
/// They are counted in units of this, because permits are counted in 32 bits.
const HELD_UNIT: u64 = 1 << 20;
/// How long a loader that is dropped waits for its processes to be gone. They are ended at once; this is
/// for a machine that swaps.
const GONE_WAIT: Duration = Duration::from_secs(2);
/// How often it looks.
const GONE_LOOK: Duration = Duration::from_millis(2);

/// Decodes videos on this machine.
#[derive(Debug)]
pub(crate) struct Decoders {
    /// None where videos are sent as they are.
    ffmpeg: Option<Ffmpeg>,
    permits: Arc<Semaphore>,
    count: usize,
    held: Arc<Semaphore>,
    limits: Limits,
    encoding: Encoding,
    scaler: Scaler,
}

/// Ends the process of one video when nobody waits for its frames any more.
struct StopOnDrop(Stop);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// Waits, when it is dropped, until no process is left of tasks that were cancelled before.
pub(crate) struct GoneOnDrop(pub(crate) Option<Arc<Decoders>>);

impl Drop for GoneOnDrop {
    fn drop(&mut self) {
        let Some(decoders) = &self.0 else { return };
        let since = Instant::now();
        while decoders.permits.available_permits() < decoders.count && since.elapsed() < GONE_WAIT {
            thread::sleep(GONE_LOOK);
        }
    }
}

/// How many videos a run decodes at once.
pub(crate) fn count(config: &Config) -> usize {
    let cores = || thread::available_parallelism().map_or(1, usize::from);
    let asked = config.clip_decoders.map(|count| count as usize);
    asked.unwrap_or_else(|| cores().max(LEAST_DECODERS))
}

impl Decoders {
    /// `None` for a run of images.
    ///
    /// # Errors
    /// [`Error::Config`] where videos must be decoded here, and there is no FFmpeg.
    pub(crate) fn new(config: &Config, dataset: &Dataset) -> Result<Option<Arc<Self>>, Error> {
        if config.frames.is_empty() {
            return Ok(None);
        }
        let encoding = match config.clip_encoding {
            ClipEncoding::Jpeg { quality } => Some(Encoding::Jpeg { quality }),
            ClipEncoding::Png => Some(Encoding::Png),
            ClipEncoding::Rgb8 => Some(Encoding::Rgb8),
            ClipEncoding::AsIs => None,
        };
        let found = encoding
            .filter(|_| dataset.has_video_files())
            .map(|_| Ffmpeg::find());
        let ffmpeg = found.transpose().map_err(|error| {
            let reason =
                format!("has videos decoded on this machine, and {error}; or set it to AsIs");
            Error::config("clip_encoding", reason)
        })?;
        let count = count(config);
        Ok(Some(Arc::new(Self {
            ffmpeg,
            permits: Arc::new(Semaphore::new(count)),
            count,
            held: Arc::new(Semaphore::new((HELD_BYTES / HELD_UNIT) as usize)),
            limits: Limits {
                wall: config.clip_timeout,
                cpu: config.clip_timeout,
                ..Limits::default()
            },
            encoding: encoding.unwrap_or(Encoding::Source),
            scaler: match config.filter {
                Filter::Bilinear => Scaler::Bilinear,
                Filter::Bicubic => Scaler::Bicubic,
                Filter::Lanczos => Scaler::Lanczos,
            },
        })))
    }

    /// Whether videos are decoded here.
    pub(crate) fn decodes(&self) -> bool {
        self.ffmpeg.is_some()
    }

    /// What becomes of frames.
    pub(crate) fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// Whether the frames of a video are sent as they are in its file.
    pub(crate) fn passes_through(&self, video: &Video) -> bool {
        matches!(self.encoding, Encoding::Jpeg { .. }) && video.is_jpegs()
    }

    /// Room for a whole video in memory, until the permit is dropped.
    pub(crate) async fn room(&self, bytes: u64) -> Result<OwnedSemaphorePermit, CallError> {
        let units = bytes.div_ceil(HELD_UNIT).min(HELD_BYTES / HELD_UNIT);
        let units = u32::try_from(units).map_err(internal)?;
        let held = self.held.clone().acquire_many_owned(units).await;
        held.map_err(internal)
    }

    /// The frames at these timestamps, and whether they are as in the file: where they are [passed
    /// through](Self::passes_through) they are, unless they are fields; else resized and cut as the
    /// transform says. The inner error is about the file.
    ///
    /// # Errors
    /// Where this machine cannot decode any.
    pub(crate) async fn frames(
        &self,
        (input, video): (Input, Video),
        times: Vec<i64>,
        (transform, size): (&Transform, Size),
    ) -> Result<Result<(Vec<Bytes>, bool), String>, CallError> {
        let Some(ffmpeg) = self.ffmpeg.clone() else {
            return Err(internal("no FFmpeg to decode with"));
        };
        let decoded = self.cut(times.clone(), (transform, size));
        let untouched = self.passes_through(&video);
        let untouched = untouched.then(|| Cut::whole(times, Encoding::Source));
        let permit = self.permits.clone().acquire_owned().await;
        let permit = permit.map_err(internal)?;
        let stop = StopOnDrop(Stop::default());
        let limits = Limits {
            stop: stop.0.clone(),
            ..self.limits.clone()
        };
        // The permit goes along: it is given back when the process is gone, not when nobody waits.
        let work = spawn_blocking(move || {
            let frames = frames(&ffmpeg, input, &video, (untouched, decoded), &limits);
            drop(permit);
            frames
        });
        let decoded = work.await.map_err(internal)?;
        drop(stop);
        match decoded {
            Ok(frames) => Ok(Ok(frames)),
            Err(error) if error.blames_clip() => Ok(Err(error.to_string())),
            Err(error) => Err(internal(error)),
        }
    }

    fn cut(&self, times: Vec<i64>, (transform, size): (&Transform, Size)) -> Cut {
        let Transform {
            source,
            resize,
            crop_x,
            crop_y,
            ..
        } = *transform;
        let whole = size.with_frames(1) == resize;
        Cut {
            resize: (resize != source).then_some([resize.width, resize.height]),
            crop: (!whole).then_some([crop_x, crop_y, size.width, size.height]),
            filter: self.scaler,
            ..Cut::whole(times, self.encoding)
        }
    }
}

/// The frames of the first cut, if there is one and its frames are whole pictures, else of the second; and
/// whether it was the first.
fn frames(
    ffmpeg: &Ffmpeg,
    input: Input,
    video: &Video,
    (untouched, decoded): (Option<Cut>, Cut),
    limits: &Limits,
) -> Result<(Vec<Bytes>, bool), ClipError> {
    // Not twice in memory: the file that FFmpeg reads is enough.
    let input = match input {
        Input::Bytes(bytes) => Input::held(&bytes)?,
        other => other,
    };
    let all = |cut: &Cut| -> Result<Vec<Bytes>, ClipError> {
        ffmpeg.frames(&input, video, cut, limits)?.collect()
    };
    match untouched.map(|cut| all(&cut)) {
        None | Some(Err(ClipError::Fields { .. })) => Ok((all(&decoded)?, false)),
        Some(frames) => Ok((frames?, true)),
    }
}

fn internal(error: impl ToString) -> CallError {
    CallError::new(Code::Internal, error.to_string())
}
