//! Values over channels, frames, rows and columns, in f64.

/// `[channels, frames, height, width]`
#[derive(Clone, Debug)]
pub(crate) struct Clip {
    pub(crate) shape: [usize; 4],
    pub(crate) data: Vec<f64>,
}

impl Clip {
    pub(crate) fn new(values: &[f32], shape: [usize; 4]) -> Self {
        let data = values.iter().map(|&x| f64::from(x)).collect();
        Self { shape, data }
    }

    /// Of the value at every channel, frame, row and column.
    pub(crate) fn from_fn(shape: [usize; 4], value: impl Fn([usize; 4]) -> f64) -> Self {
        let [channels, frames, height, width] = shape;
        let mut data = Vec::with_capacity(shape.iter().product());
        for c in 0..channels {
            for t in 0..frames {
                for y in 0..height {
                    data.extend((0..width).map(|x| value([c, t, y, x])));
                }
            }
        }
        Self { shape, data }
    }

    pub(crate) fn at(&self, [c, t, y, x]: [usize; 4]) -> f64 {
        let [_, frames, height, width] = self.shape;
        self.data[((c * frames + t) * height + y) * width + x]
    }

    pub(crate) fn silu(&self) -> Self {
        let silu = |x: &f64| x / (1.0 + (-x).exp());
        Self {
            data: self.data.iter().map(silu).collect(),
            ..*self
        }
    }

    pub(crate) fn add(&self, other: &Self) -> Self {
        assert_eq!(self.shape, other.shape);
        let pairs = self.data.iter().zip(&other.data);
        Self {
            data: pairs.map(|(a, b)| a + b).collect(),
            ..*self
        }
    }

    /// Zeros around it: before and behind, in time, in height, in width.
    pub(crate) fn pad(&self, sides: [[usize; 2]; 3]) -> Self {
        let [channels, inner @ ..] = self.shape;
        let outer = |axis: usize| inner[axis] + sides[axis][0] + sides[axis][1];
        Self::from_fn([channels, outer(0), outer(1), outer(2)], |[c, at @ ..]| {
            let inside = |axis: usize| {
                let at = at[axis].checked_sub(sides[axis][0])?;
                (at < inner[axis]).then_some(at)
            };
            match (inside(0), inside(1), inside(2)) {
                (Some(t), Some(y), Some(x)) => self.at([c, t, y, x]),
                _ => 0.0,
            }
        })
    }

    /// Pixels to channels: channel, column, row.
    pub(crate) fn patches(&self, patch: usize) -> Self {
        let [channels, frames, height, width] = self.shape;
        let cell = patch * patch;
        let shape = [channels * cell, frames, height / patch, width / patch];
        Self::from_fn(shape, |[c, t, y, x]| {
            let (column, row) = (c % cell / patch, c % patch);
            self.at([c / cell, t, y * patch + row, x * patch + column])
        })
    }

    /// Frames, rows and columns to channels, in this order, then means over groups of channels.
    pub(crate) fn averages(&self, [time, space]: [usize; 2], outputs: usize) -> Self {
        let lacking = (time - self.shape[1] % time) % time;
        let padded = self.pad([[lacking, 0], [0; 2], [0; 2]]);
        let [channels, frames, height, width] = padded.shape;
        let area = space * space;
        let group = channels * time * area / outputs;
        let shape = [outputs, frames / time, height / space, width / space];
        Self::from_fn(shape, |[c, t, y, x]| {
            let value = |c: usize| {
                let (frame, row, column) = (c / area % time, c / space % space, c % space);
                let (c, t) = (c / area / time, t * time + frame);
                padded.at([c, t, y * space + row, x * space + column])
            };
            (c * group..(c + 1) * group).map(value).sum::<f64>() / group as f64
        })
    }
}
