//! What must hold of the numbers in a request's metadata, beyond that they are one.

use super::{ArchivedItemMeta, ArchivedRequestMeta, Source, bad};
use crate::{
    error::{Code, Error},
    limits,
};

impl ArchivedRequestMeta {
    /// Checks every number against the limits and the payloads. Call once, before anything is
    /// allocated or decoded.
    ///
    /// # Errors
    /// [`Code::BadRequest`] or [`Code::TooLarge`]; the message names the field and the item.
    pub fn check(&self, payloads: usize) -> Result<(), Error> {
        let wanted = self.expects()?;
        if wanted != payloads {
            return Err(bad(format!(
                "items consume {wanted} payloads, but {payloads} were sent"
            )));
        }
        Ok(())
    }

    /// The same before the payloads are there: how many there must be.
    ///
    /// # Errors
    /// As for [`Self::check`].
    pub fn expects(&self) -> Result<usize, Error> {
        let (width, height) = (self.width.to_native(), self.height.to_native());
        let frames = self.frames.to_native();
        check_side("width", width)?;
        check_side("height", height)?;
        if frames == 0 || frames > limits::MAX_FRAMES {
            return Err(bad(format!(
                "frames is {frames}, must be 1..={}",
                limits::MAX_FRAMES
            )));
        }
        if self.items.is_empty() || self.items.len() > limits::MAX_ITEMS {
            let seen = self.items.len();
            return Err(bad(format!(
                "items has {seen} entries, must be 1..={}",
                limits::MAX_ITEMS
            )));
        }
        let cost = self.cost_pixels();
        if cost > limits::MAX_OUTPUT_PIXELS {
            let limit = limits::MAX_OUTPUT_PIXELS;
            return Err(Error::new(
                Code::TooLarge,
                format!("the call asks for {cost} output pixels, over {limit}: send fewer items"),
            ));
        }
        // Of videos too, whose frames are no payloads: decoding them costs as much.
        let all = frames as usize * self.items.len();
        if all > limits::MAX_PAYLOADS {
            let limit = limits::MAX_PAYLOADS;
            return Err(Error::new(
                Code::TooLarge,
                format!("the call asks for {all} frames, over {limit}: send fewer items"),
            ));
        }
        let mut wanted = 0;
        for (index, item) in self.items.iter().enumerate() {
            item.check(width, height, frames)
                .map_err(|error| bad(format!("items[{index}]: {}", error.message)))?;
            wanted += item.payloads.to_native() as usize;
        }
        Ok(wanted)
    }

    /// Output pixels of the whole call: what admission counts.
    pub fn cost_pixels(&self) -> u64 {
        let one = u64::from(self.width.to_native()) * u64::from(self.height.to_native());
        one.saturating_mul(u64::from(self.frames.to_native()))
            .saturating_mul(self.items.len() as u64)
    }
}

impl ArchivedItemMeta {
    fn check(&self, width: u32, height: u32, frames: u32) -> Result<(), Error> {
        let sides = [
            ("source_width", self.source_width.to_native()),
            ("source_height", self.source_height.to_native()),
            ("resize_width", self.resize_width.to_native()),
            ("resize_height", self.resize_height.to_native()),
        ];
        for (name, side) in sides {
            check_side(name, side)?;
        }
        for (name, w, h) in [
            ("source", self.source_width, self.source_height),
            ("resize", self.resize_width, self.resize_height),
        ] {
            let pixels = u64::from(w.to_native()) * u64::from(h.to_native());
            if pixels > limits::MAX_SOURCE_PIXELS {
                let limit = limits::MAX_SOURCE_PIXELS;
                return Err(bad(format!(
                    "{name} size has {pixels} pixels, over {limit}"
                )));
            }
        }
        let right = u64::from(self.crop_x.to_native()) + u64::from(width);
        let bottom = u64::from(self.crop_y.to_native()) + u64::from(height);
        let (rw, rh) = (
            self.resize_width.to_native(),
            self.resize_height.to_native(),
        );
        if right > u64::from(rw) || bottom > u64::from(rh) {
            return Err(bad(format!(
                "the crop ends at ({right}, {bottom}), outside the resized {rw}x{rh}"
            )));
        }
        self.check_frames(frames)
    }

    fn check_frames(&self, frames: u32) -> Result<(), Error> {
        let (payloads, times) = (self.payloads.to_native(), self.times.as_slice());
        if Source::from(self.source) != Source::Video {
            if payloads != frames {
                return Err(bad(format!(
                    "payloads is {payloads}, must equal frames, {frames}"
                )));
            }
            if !times.is_empty() {
                let seen = times.len();
                return Err(bad(format!(
                    "times has {seen} entries, but only a video has any: leave it empty"
                )));
            }
            return Ok(());
        }
        if payloads != 1 {
            return Err(bad(format!(
                "payloads is {payloads}, must be 1 for a video: the whole file"
            )));
        }
        if times.len() != frames as usize {
            let seen = times.len();
            return Err(bad(format!(
                "times has {seen} entries, must be one for each of {frames} frames"
            )));
        }
        let back = times.windows(2).find(|pair| pair[1] < pair[0]);
        back.map_or(Ok(()), |pair| {
            Err(bad(format!(
                "times goes back from {} to {}: sort it",
                pair[0], pair[1]
            )))
        })
    }
}

fn check_side(name: &str, side: u32) -> Result<(), Error> {
    if side == 0 || side > limits::MAX_SIDE {
        return Err(bad(format!(
            "{name} is {side}, must be 1..={}",
            limits::MAX_SIDE
        )));
    }
    Ok(())
}
