//! Latents as colour: the three strongest directions of all latents together become red, green and
//! blue, each stretched between its 2nd and 98th percentile.

use image::RgbImage;

use super::Latent;

/// Rounds of power iteration; a handful suffices for a picture.
const ROUNDS: usize = 64;

/// How a latent cell becomes a colour.
#[derive(Debug)]
pub struct Palette {
    /// One direction in channel space per colour.
    axes: [Vec<f64>; 3],
    /// Lowest and highest value per colour.
    range: [(f64, f64); 3],
}

impl Palette {
    /// Fits the palette to all `latents`, which have the same number of channels.
    pub fn fit<'a>(latents: impl Iterator<Item = &'a Latent> + Clone) -> Self {
        let channels = latents
            .clone()
            .map(|latent| latent.channels)
            .max()
            .unwrap_or(1);
        let cells = || latents.clone().flat_map(|latent| latent.cells());
        let count = cells().count().max(1) as f64;
        let mut mean = vec![0.0; channels];
        for cell in cells() {
            mean.iter_mut()
                .zip(&cell)
                .for_each(|(m, v)| *m += v / count);
        }
        let mut covariance = vec![vec![0.0; channels]; channels];
        for cell in cells() {
            for (i, row) in covariance.iter_mut().enumerate() {
                for (j, value) in row.iter_mut().enumerate() {
                    *value += (cell[i] - mean[i]) * (cell[j] - mean[j]) / count;
                }
            }
        }
        let axes = std::array::from_fn(|_| strongest(&mut covariance));
        let range = axes.each_ref().map(|axis| {
            let mut values: Vec<f64> = cells().map(|cell| dot(axis, &cell)).collect();
            values.sort_by(f64::total_cmp);
            let at = |share: f64| values[((values.len() - 1) as f64 * share) as usize];
            if values.is_empty() {
                (0.0, 1.0)
            } else {
                (at(0.02), at(0.98))
            }
        });
        Self { axes, range }
    }

    /// One pixel per latent cell.
    pub fn paint(&self, latent: &Latent) -> RgbImage {
        let mut cells = latent.cells();
        RgbImage::from_fn(latent.width as u32, latent.height as u32, |_, _| {
            let cell = cells.next().unwrap_or_default();
            image::Rgb(std::array::from_fn(|colour| {
                let (low, high) = self.range[colour];
                let value = (dot(&self.axes[colour], &cell) - low) / (high - low).max(1e-12);
                (value.clamp(0.0, 1.0) * 255.0) as u8
            }))
        })
    }
}

impl Latent {
    /// The channels of every cell, row by row.
    fn cells(&self) -> impl Iterator<Item = Vec<f64>> + '_ {
        let plane = self.height * self.width;
        (0..plane).map(move |cell| {
            (0..self.channels)
                .map(|c| f64::from(self.values[c * plane + cell]))
                .collect()
        })
    }
}

/// The eigenvector of the largest eigenvalue, by power iteration; it is then removed from the matrix.
/// With fewer than three channels left there is none, and the axis is zero.
fn strongest(matrix: &mut [Vec<f64>]) -> Vec<f64> {
    let n = matrix.len();
    // Any start that is not orthogonal to the answer: all different, none zero.
    let mut axis: Vec<f64> = (0..n).map(|i| 1.0 + i as f64 * 0.37).collect();
    for _ in 0..ROUNDS {
        let next: Vec<f64> = matrix.iter().map(|row| dot(row, &axis)).collect();
        let norm = dot(&next, &next).sqrt();
        if norm < 1e-12 {
            return vec![0.0; n];
        }
        axis = next.into_iter().map(|value| value / norm).collect();
    }
    let image: Vec<f64> = matrix.iter().map(|row| dot(row, &axis)).collect();
    let strength = dot(&image, &axis);
    for (i, row) in matrix.iter_mut().enumerate() {
        for (j, value) in row.iter_mut().enumerate() {
            *value -= strength * axis[i] * axis[j];
        }
    }
    axis
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_strongest_direction_is_red() {
        // Channel 1 varies most, so its extremes are the extremes of red.
        let values = [
            vec![0.0; 4],
            vec![-5.0, 5.0, -5.0, 5.0],
            vec![0.1, 0.1, -0.1, -0.1],
        ];
        let latent = Latent {
            channels: 3,
            height: 2,
            width: 2,
            values: values.concat(),
        };
        let picture = Palette::fit(std::iter::once(&latent)).paint(&latent);
        let reds: Vec<u8> = picture.pixels().map(|pixel| pixel[0]).collect();
        assert_eq!((reds[0], reds[2]), (reds[0], reds[0]));
        assert_eq!(reds[0].abs_diff(reds[1]), 255);
    }

    #[test]
    fn constant_latents_are_painted_too() {
        let latent = Latent {
            channels: 1,
            height: 1,
            width: 2,
            values: vec![3.0, 3.0],
        };
        let picture = Palette::fit(std::iter::once(&latent)).paint(&latent);
        assert_eq!(picture.dimensions(), (2, 1));
    }
}
