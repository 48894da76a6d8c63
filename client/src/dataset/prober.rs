//! Looking into videos while a dataset is indexed: a bounded number of processes at once.

use std::{
    sync::{Arc, OnceLock},
    thread,
};

use preheat_clips::{Ffmpeg, Input, Limits};
use tokio::{sync::Semaphore, task::spawn_blocking};

use super::{Clip, MAX_FILE_BYTES, probe::within_limits};
use crate::plan::Size;

/// Bytes of one video in a tar or in a store, which is read whole, and held while it is looked at or
/// decoded: far more than any clip of a training set, and as many of them as there are cores in memory
/// at worst.
pub const MAX_CLIP_BYTES: u64 = 1 << 30;
/// Bytes of one video on a local disk, which is never read whole: what an index can count.
pub const MAX_VIDEO_BYTES: u64 = u32::MAX as u64;

/// What a look into a video finds: its size, and its record for the index.
type Probed = (Size, Vec<u8>);

/// Probes videos; a clone shares the bound.
#[derive(Clone, Debug)]
pub(super) struct Prober(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    ffmpeg: OnceLock<Result<Ffmpeg, String>>,
    permits: Semaphore,
}

impl Default for Prober {
    fn default() -> Self {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        Self(Arc::new(Inner {
            ffmpeg: OnceLock::new(),
            permits: Semaphore::new(cores),
        }))
    }
}

impl Prober {
    /// Looks into a video, which is fetched when there is room for it. The inner error is about the
    /// file.
    ///
    /// # Errors
    /// In words, where this machine cannot look into any.
    pub(super) async fn probe(
        &self,
        fetch: impl Future<Output = Result<Input, String>>,
    ) -> Result<Result<Probed, String>, String> {
        let _permit = self.0.permits.acquire().await.map_err(|e| e.to_string())?;
        let input = fetch.await?;
        let inner = self.0.clone();
        let probed = spawn_blocking(move || {
            let find = || Ffmpeg::find().map_err(|error| error.to_string());
            let ffmpeg = inner
                .ffmpeg
                .get_or_init(find)
                .as_ref()
                .map_err(Clone::clone)?;
            match ffmpeg.probe(&input, &Limits::default()) {
                Ok(video) => {
                    let size = within_limits(Size::new(video.width, video.height));
                    Ok(size.map(|size| (size, Clip::of_video(video).pack())))
                }
                Err(error) if error.blames_clip() => Ok(Err(error.to_string())),
                Err(error) => Err(error.to_string()),
            }
        });
        probed.await.map_err(|error| error.to_string())?
    }
}

const _: () = assert!(MAX_FILE_BYTES < MAX_CLIP_BYTES && MAX_CLIP_BYTES < MAX_VIDEO_BYTES);
