//! Which sizes an encoder takes.

use crate::{Error, Pixels};

/// Which sizes an encoder takes, in pixels.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    /// Pixels per cell, along each side.
    pub(crate) cell: usize,
    /// Both sides must be multiples of this many pixels.
    pub(crate) even: usize,
    /// Both sides must have a multiple of this many cells.
    pub(crate) cells: usize,
    /// A part of a cell counts as one.
    pub(crate) rounds_up: bool,
    /// Clips have a multiple of this many frames, and one.
    pub(crate) frame_step: usize,
}

impl Sizes {
    /// Of an encoder of `stages` that halves the sides between them, rounding down.
    pub(crate) const fn halved(stages: usize) -> Self {
        Self {
            cell: 1 << (stages - 1),
            even: 1,
            cells: 1,
            rounds_up: false,
            frame_step: 1,
        }
    }

    /// Refuses what the encoder cannot take, naming the nearest that it can.
    pub(crate) fn check(self, pixels: &Pixels) -> Result<(), Error> {
        let Pixels {
            frames,
            height,
            width,
            ..
        } = *pixels;
        let step = self.frame_step;
        let fits = |frames: usize| frames > 0 && (frames - 1).is_multiple_of(step);
        if !fits(frames) {
            let below = frames.saturating_sub(1) / step * step + 1;
            let above = below + step;
            return Err(Error::Frames {
                frames,
                step,
                below,
                above,
            });
        }
        let fits = |side: usize| {
            let cells = side / self.cell;
            let enough = cells > 0 || self.rounds_up && side > 0;
            enough && side.is_multiple_of(self.even) && cells.is_multiple_of(self.cells)
        };
        if fits(width) && fits(height) {
            return Ok(());
        }
        let multiple = self.cell * self.cells;
        let near = |side: usize| (side + multiple / 2) / multiple * multiple;
        let (near_width, near_height) = (near(width).max(multiple), near(height).max(multiple));
        Err(Error::Size {
            width,
            height,
            reason: format!(
                "use multiples of {multiple}; the nearest is {near_width}x{near_height}"
            ),
        })
    }
}
