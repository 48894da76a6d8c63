//! Tiles, exactly as diffusers cuts, encodes and blends them. They bound memory and change values.

use burn::tensor::Tensor;

use super::HostMap;
use crate::{Error, nn::Ops};

/// How a class tiles. Lengths in pixels are those of one side.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tiling {
    /// Pictures with a longer side are tiled.
    pub(crate) trigger: usize,
    /// Pixels of a tile.
    pub(crate) tile: usize,
    /// Pixels from one tile to the next.
    pub(crate) stride: usize,
    /// Cells over which a tile fades into the next.
    pub(crate) blend: usize,
    /// Cells that are kept of a tile.
    pub(crate) keep: usize,
    /// Tiles are padded with zeros to a multiple of this many pixels.
    pub(crate) pad_to: usize,
    /// The result is cut to as many whole cells of this many pixels as the picture has.
    pub(crate) cut: Option<usize>,
}

impl Tiling {
    /// Whether a side of this many pixels ends in a tile of at least `least` pixels. diffusers fails
    /// where it does not.
    pub(crate) fn fits(self, side: usize, least: usize) -> bool {
        let last = (side - 1) % self.stride + 1;
        last.next_multiple_of(self.pad_to) >= least
    }

    /// Encodes `x`, `[n, height, width, 3]`, tile by tile.
    pub(crate) fn run<B: Ops>(
        self,
        x: &Tensor<B, 4>,
        encode: impl Fn(Tensor<B, 4>) -> Result<HostMap, Error>,
    ) -> Result<HostMap, Error> {
        let [_, height, width, _] = x.dims();
        let mut done = Vec::new();
        let mut above: Vec<HostMap> = Vec::new();
        for top in (0..height).step_by(self.stride) {
            let mut row: Vec<HostMap> = Vec::new();
            for left in (0..width).step_by(self.stride) {
                let tile = x
                    .clone()
                    .narrow(1, top, self.tile.min(height - top))
                    .narrow(2, left, self.tile.min(width - left));
                let mut tile = encode(self.pad(tile))?;
                // Neighbours were blended before: diffusers does it in place.
                if let Some(above) = above.get(row.len()) {
                    tile.blend(above, self.blend, Axis::Down);
                }
                if let Some(left) = row.last() {
                    tile.blend(left, self.blend, Axis::Right);
                }
                row.push(tile);
            }
            done.push(HostMap::join(
                row.iter().map(|tile| self.crop(tile)),
                Axis::Right,
            ));
            above = row;
        }
        let whole = HostMap::join(done.into_iter(), Axis::Down);
        Ok(match self.cut {
            Some(cell) => whole.top_left(height / cell, width / cell),
            None => whole,
        })
    }

    fn pad<B: Ops>(self, tile: Tensor<B, 4>) -> Tensor<B, 4> {
        let [_, height, width, _] = tile.dims();
        let missing = |side: usize| side.next_multiple_of(self.pad_to) - side;
        match (missing(height), missing(width)) {
            (0, 0) => tile,
            (down, right) => {
                let tile = tile.permute([0, 3, 1, 2]).pad((0, right, 0, down), 0.0);
                tile.permute([0, 2, 3, 1])
            }
        }
    }

    fn crop(self, tile: &HostMap) -> HostMap {
        tile.top_left(self.keep, self.keep)
    }
}

/// Where a tile's neighbour lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Axis {
    Down,
    Right,
}

impl HostMap {
    /// Fades from the far edge of `before` into the near edge of this tile.
    fn blend(&mut self, before: &Self, extent: usize, axis: Axis) {
        let side = |map: &Self| match axis {
            Axis::Down => map.height,
            Axis::Right => map.width,
        };
        let extent = extent.min(side(self)).min(side(before));
        let (far, c) = (side(before) - extent, self.channels);
        let lines = match axis {
            Axis::Down => self.width.min(before.width),
            Axis::Right => self.height.min(before.height),
        };
        for step in 0..extent {
            let share = step as f64 / extent as f64;
            let (old, new) = ((1.0 - share) as f32, share as f32);
            for n in 0..self.n {
                for line in 0..lines {
                    let (to, from) = match axis {
                        Axis::Down => (self.at(n, step, line), before.at(n, far + step, line)),
                        Axis::Right => (self.at(n, line, step), before.at(n, line, far + step)),
                    };
                    let to = &mut self.values[to..to + c];
                    for (to, from) in to.iter_mut().zip(&before.values[from..from + c]) {
                        *to = from * old + *to * new;
                    }
                }
            }
        }
    }

    /// The top left corner, at most this large.
    fn top_left(&self, height: usize, width: usize) -> Self {
        let (height, width) = (height.min(self.height), width.min(self.width));
        let mut values = Vec::with_capacity(self.n * height * width * self.channels);
        for n in 0..self.n {
            for y in 0..height {
                let start = self.at(n, y, 0);
                values.extend_from_slice(&self.values[start..start + width * self.channels]);
            }
        }
        Self {
            values,
            height,
            width,
            ..*self
        }
    }

    /// Side by side, or one above the other.
    fn join(parts: impl Iterator<Item = Self>, axis: Axis) -> Self {
        let parts: Vec<_> = parts.collect();
        let first = &parts[0];
        let (n, channels) = (first.n, first.channels);
        let mut values = Vec::new();
        for n in 0..n {
            match axis {
                Axis::Down => {
                    for part in &parts {
                        values.extend_from_slice(
                            &part.values[part.at(n, 0, 0)..][..part.at(1, 0, 0)],
                        );
                    }
                }
                Axis::Right => {
                    for y in 0..first.height {
                        for part in &parts {
                            let line = &part.values[part.at(n, y, 0)..];
                            values.extend_from_slice(&line[..part.width * channels]);
                        }
                    }
                }
            }
        }
        let sum = |side: fn(&Self) -> usize| parts.iter().map(side).sum();
        let (height, width) = match axis {
            Axis::Down => (sum(|part| part.height), first.width),
            Axis::Right => (first.height, sum(|part| part.width)),
        };
        Self {
            values,
            n,
            height,
            width,
            channels,
        }
    }
}
