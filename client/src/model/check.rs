//! What a model and its replicas take.

use super::Model;
use crate::{
    config::{ClipEncoding, Config},
    error::Error,
    plan::Size,
};

impl Model {
    /// Whether every output size suits the model and the replica's limits.
    pub(crate) fn check_sizes(&self, sizes: impl Iterator<Item = Size>) -> Result<(), Error> {
        let multiple = self
            .served
            .size_multiple
            .max(self.served.spatial_compression);
        let step = self.served.frame_step.max(1);
        for size in sizes {
            let refuse = |reason: String| Error::Model {
                model: self.name.clone(),
                reason,
            };
            if !size.width.is_multiple_of(multiple) || !size.height.is_multiple_of(multiple) {
                return Err(refuse(format!(
                    "takes multiples of {multiple} pixels, and {size} is not: raise `bucket_step`"
                )));
            }
            if !(size.frames - 1).is_multiple_of(step) {
                let below = (size.frames - 1) / step * step + 1;
                let above = below + step;
                return Err(refuse(format!(
                    "takes clips of one frame and multiples of {step}, and `frames` has {}: take {below} or \
                     {above}",
                    size.frames
                )));
            }
            if size.pixels() > self.max_output_pixels {
                let most = self.max_output_pixels;
                let lower = match size.frames {
                    1 => "`target_area`",
                    _ => "`target_area` or `frames`",
                };
                return Err(refuse(format!(
                    "the replica takes {most} pixels at once, and {size} has more: lower {lower}"
                )));
            }
            if self
                .tensor_bytes(size)
                .is_none_or(|bytes| bytes > self.reply_bytes())
            {
                return Err(refuse(format!("a latent of {size} does not fit a message")));
            }
        }
        Ok(())
    }

    /// Whether frames of these sizes can be sent as the run wants it, as far as that is known before any
    /// is.
    pub(crate) fn check_payloads(
        &self,
        config: &Config,
        sizes: impl Iterator<Item = Size>,
        files: bool,
    ) -> Result<(), Error> {
        if config.clip_encoding == ClipEncoding::AsIs && files && !self.video_files {
            let reason = "is AsIs, and not all replicas decode video files: install FFmpeg beside them, or \
                          set it to Jpeg";
            return Err(Error::config("clip_encoding", reason));
        }
        let raw = config.clip_encoding == ClipEncoding::Rgb8;
        let (bytes, most) = (|size: Size| 3 * size.pixels(), self.max_call_bytes);
        let mut sizes = sizes.filter(|_| raw && !config.frames.is_empty());
        match sizes.find(|&size| bytes(size) > most) {
            None => Ok(()),
            Some(size) => {
                let bytes = bytes(size);
                let reason = format!(
                    "is Rgb8, in which a clip of {size} takes {bytes} bytes, and the replica takes {most} at \
                     once: take fewer frames, or set it to Jpeg, Png or AsIs"
                );
                Err(Error::config("clip_encoding", reason))
            }
        }
    }
}
