//! What is sent of one sample of a run of clips, and what is said of it.

use std::sync::Arc;

use bytes::Bytes;
use preheat_clips::{Encoding, Input, Video};
use preheat_proto::{Error as CallError, Source};

use super::{Job, Parts, Place, Run};
use crate::{
    batch::ClipInfo,
    dataset::{Clip, Made, Media},
    decode::Decoders,
    embed::Named,
    plan::{Size, Transform},
};

/// Bytes that a frame takes as JPEG at most, for each of its pixels, in hundredths: footage at quality 95
/// takes a third of it, and noise somewhat more. Only a window's room is counted by it.
const JPEG_BYTES: u64 = 100;
/// The same as PNG and as raw bytes.
const RAW_BYTES: u64 = 300;

/// One sample, ready to be sent.
pub(super) struct Ready {
    pub(super) source: Source,
    pub(super) payloads: Vec<Bytes>,
    /// For [`Source::Video`].
    pub(super) times: Vec<i64>,
    pub(super) named: Option<Named>,
    /// What is left to do to the payloads.
    pub(super) transform: Transform,
    pub(super) parts: Parts,
    pub(super) info: Option<ClipInfo>,
}

/// A clip out of its video.
struct Chosen {
    clip: Clip,
    frames: Vec<u32>,
    info: ClipInfo,
}

impl Run {
    /// Bytes of a sample's payloads, before it is read: as many as there can be, and what is held to
    /// make them.
    pub(super) fn payload_bytes(&self, sample: u64, size: Size) -> u64 {
        let file = self.dataset.file_bytes(sample);
        let Some((decoders, clip)) = self.decoders.as_ref().zip(self.dataset.clip(sample)) else {
            return file;
        };
        let share = || {
            let all = u64::from(clip.extent.frames.max(1));
            // Twice its part: key frames, and images that are larger than others.
            (file.saturating_mul(2 * u64::from(size.frames)) / all).min(file)
        };
        let payloads = match &clip.made {
            Made::Files => return share(),
            Made::Video(_) if !decoders.decodes() => return file,
            Made::Video(video) if decoders.passes_through(video) => share(),
            Made::Video(_) => {
                let each = match decoders.encoding() {
                    Encoding::Jpeg { .. } => JPEG_BYTES,
                    _ => RAW_BYTES,
                };
                size.pixels().saturating_mul(each) / 100
            }
        };
        let held = if self.dataset.path(sample).is_some() {
            0
        } else {
            file
        };
        payloads.saturating_add(held)
    }

    /// Reads a sample of a run of clips, and decodes it where that is this machine's business. The inner
    /// error is about the sample.
    pub(super) async fn read_clip(
        &self,
        job: &Job,
        place: &Place,
        decoders: &Decoders,
    ) -> Result<Result<Ready, String>, CallError> {
        if let Some(known) = self.unusable.get(&place.sample) {
            return Ok(Err(known.clone()));
        }
        let size = job.planned.size;
        let chosen = self.choose(job, place.sample);
        let wanted = chosen.as_ref().map_or((None, &[][..]), |chosen| {
            (Some(&chosen.clip), &chosen.frames[..])
        });
        // What is on a disk is read by FFmpeg itself.
        let whole = decoders.decodes() && self.dataset.path(place.sample).is_none();
        let bytes = self.dataset.file_bytes(place.sample);
        let _held = match &chosen {
            Some(chosen) if whole && !chosen.clip.is_files() => Some(decoders.room(bytes).await?),
            _ => None,
        };
        let (media, parts) = match self.dataset.media(place.sample, wanted).await {
            Ok(read) => read,
            Err(reason) => return Ok(Err(reason)),
        };
        let mut ready = Ready {
            source: Source::Encoded,
            payloads: Vec::new(),
            times: Vec::new(),
            named: None,
            transform: place.transform,
            parts,
            info: None,
        };
        match (media, chosen) {
            (Media::Image(image), _) => ready.payloads = vec![image],
            (Media::Frames(frames), chosen) => {
                ready.payloads = frames;
                ready.info = chosen.map(|chosen| chosen.info);
            }
            (Media::Video(_), None) => return Ok(Err("is no video any more".into())),
            (Media::Video(input), Some(chosen)) => {
                let times = chosen.info.times.to_vec();
                ready.info = Some(chosen.info);
                let Made::Video(video) = chosen.clip.made else {
                    return Ok(Err("is no video any more".into()));
                };
                if !decoders.decodes() {
                    (ready.source, ready.times) = (Source::Video, times);
                    match self.whole(place.sample, input).await {
                        Ok(file) => ready.payloads = vec![file],
                        Err(reason) => return Ok(Err(reason)),
                    }
                } else {
                    let seed = self.plan.posterior_seed(job.epoch, place.sample);
                    let made = ((input, video), times, (size, seed));
                    if let Err(reason) = self.decode(decoders, made, &mut ready).await? {
                        return Ok(Err(reason));
                    }
                }
            }
        }
        Ok(self.fits(size, &ready.payloads).map(|()| ready))
    }

    /// Decodes the frames of a video, unless the cache has their latents. The inner error is about the
    /// video.
    async fn decode(
        &self,
        decoders: &Decoders,
        ((input, video), times, (size, seed)): ((Input, Video), Vec<i64>, (Size, u64)),
        ready: &mut Ready,
    ) -> Result<Result<(), String>, CallError> {
        let transform = ready.transform;
        let geometry = (&transform, size);
        if self.embedder.caches()
            && let Some(name) = decoders.name(&input, &times, geometry).await
        {
            let latent = self.embedder.known(size, name, seed).await?;
            let is_known = latent.is_some();
            ready.named = Some(Named { name, latent });
            if is_known {
                return Ok(Ok(()));
            }
        }
        let frames = decoders.frames((input, video), times, geometry).await?;
        let untouched;
        (ready.payloads, untouched) = match frames {
            Ok(frames) => frames,
            Err(reason) => return Ok(Err(reason)),
        };
        if !untouched {
            ready.transform = flip_only(transform, size);
            if decoders.encoding() == Encoding::Rgb8 {
                ready.source = Source::Rgb8;
            }
        }
        Ok(Ok(()))
    }

    /// Whether a sample can be sent at all.
    fn fits(&self, size: Size, payloads: &[Bytes]) -> Result<(), String> {
        let (mut bytes, mut most) = (total(payloads), self.model.chunk_bytes());
        let longest = payloads.iter().map(|payload| payload.len() as u64).max();
        if let Some(longest) = longest.filter(|&longest| longest > self.model.payload_bytes()) {
            (bytes, most) = (longest, self.model.payload_bytes());
        }
        if bytes <= most {
            return Ok(());
        }
        let frames = size.frames;
        Err(format!(
            "has {bytes} bytes in {frames} frames, and the replica takes {most}: take fewer or smaller \
             frames, or have videos decoded here and sent as Jpeg"
        ))
    }

    /// The whole of a video file.
    async fn whole(&self, sample: u64, input: Input) -> Result<Bytes, String> {
        let (bytes, most) = (self.dataset.file_bytes(sample), self.model.payload_bytes());
        if bytes > most {
            return Err(format!(
                "has {bytes} bytes, and the replica takes {most} of a video as it is: set \
                 `clip_encoding` to Jpeg"
            ));
        }
        match input {
            Input::Bytes(bytes) => Ok(bytes),
            Input::Path(path) => {
                let read = tokio::fs::read(path).await;
                let read = read.map_err(|error| format!("cannot read: {error}"))?;
                match read.len() as u64 == bytes {
                    true => Ok(read.into()),
                    false => Err("changed while it was read".into()),
                }
            }
            Input::File(_) => Err("is open already".into()),
        }
    }

    /// Which frames of its video a sample has in an epoch; `None` of an image.
    fn choose(&self, job: &Job, sample: u64) -> Option<Chosen> {
        let clip = self.dataset.clip(sample)?;
        let window = self.dataset.window(sample).map(|(first, _)| first);
        let length = job.planned.size.frames;
        let video = (&clip.extent, &clip.times[..]);
        let pick = self.plan.pick((job.epoch, sample), video, (length, window));
        let at = |&frame: &u32| clip.times.get(frame as usize).copied();
        let times: Option<Arc<[i64]>> = pick.frames.iter().map(at).collect();
        Some(Chosen {
            info: ClipInfo {
                start: pick.start,
                frames: pick.frames.clone().into(),
                times: times?,
                time_base: clip.extent.time_base,
            },
            frames: pick.frames,
            clip,
        })
    }
}

/// Of frames that have their size already.
fn flip_only(planned: Transform, size: Size) -> Transform {
    let size = size.with_frames(1);
    Transform {
        source: size,
        resize: size,
        crop_x: 0,
        crop_y: 0,
        flip: planned.flip,
    }
}

pub(super) fn total(payloads: &[Bytes]) -> u64 {
    payloads.iter().map(|payload| payload.len() as u64).sum()
}
