//! A model without weights: deterministic, with a settable speed. For tests, benches of everything
//! but the maths, and fleets of pretended GPUs.
//!
//! Channel `c` of a latent cell is the mean of colour `c mod 3` over the cell's pixels in [-1, 1],
//! plus `c / 3` (integer division), so a test can tell a crop, a flip or a mix-up from the latent.

use std::{
    str::FromStr,
    thread,
    time::{Duration, Instant},
};

use crate::{
    DType, Device, Encoder, Error, Fingerprint, LatentNorm, Moments, Pending, PixelData, Pixels,
    Spec,
};

/// Pixels per cell, along each side.
const CELL: usize = 8;

/// Options of the synthetic model, as typed after `synthetic:`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// `channels`: latent channels.
    pub channels: usize,
    /// `ms-per-megapixel`: device time that every million pixels takes, in milliseconds.
    pub ms_per_megapixel: u64,
    /// `version`: changes the fingerprint and nothing else.
    pub version: u64,
    /// `decode=off`: whoever serves it need not decode anything, and every latent is zero. What is
    /// left is the cost of serving.
    pub decode: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            channels: 4,
            ms_per_megapixel: 0,
            version: 0,
            decode: true,
        }
    }
}

impl FromStr for Config {
    type Err = Error;

    fn from_str(options: &str) -> Result<Self, Error> {
        let mut config = Self::default();
        for option in options.split(',') {
            if option == "decode=off" {
                config.decode = false;
                continue;
            }
            let number = option
                .split_once('=')
                .and_then(|(k, v)| Some((k, v.parse::<u64>().ok()?)));
            match number {
                Some(("channels", n @ 1..=1024)) => config.channels = n as usize,
                Some(("ms-per-megapixel", n)) => config.ms_per_megapixel = n,
                Some(("version", n)) => config.version = n,
                _ => {
                    return Err(Error::Synthetic(format!(
                        "bad option `{option}`: use channels=1..1024, ms-per-megapixel=N, version=N, \
                         decode=off"
                    )));
                }
            }
        }
        Ok(config)
    }
}

/// The model.
#[derive(Debug)]
pub struct Synthetic {
    config: Config,
    spec: Spec,
    /// When the device will have computed all that it was given.
    free: Instant,
}

impl Synthetic {
    /// A model of these options.
    pub fn new(config: Config) -> Self {
        let mut identity = format!("synthetic v1 {} {}", config.channels, config.version);
        if !config.decode {
            identity.push_str(" zero");
        }
        let spec = Spec {
            class: "Synthetic".to_owned(),
            fingerprint: Fingerprint(*blake3::hash(identity.as_bytes()).as_bytes()),
            device: Device::Cpu,
            dtype: DType::F32,
            dtype_reason: "it computes nothing",
            latent_channels: config.channels,
            spatial_compression: CELL,
            temporal_compression: 1,
            size_multiple: CELL,
            reads_pixels: config.decode,
            has_posterior: false,
            norm: LatentNorm::None,
            untrained: true,
            preferred_batch_pixels: 1 << 20,
        };
        Self {
            config,
            spec,
            free: Instant::now(),
        }
    }
}

impl Encoder for Synthetic {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn encode(&mut self, pixels: &Pixels) -> Result<Moments, Error> {
        self.begin(pixels)?.moments()
    }

    /// The pretended device computes one batch after the other, and this thread meanwhile the
    /// answer.
    fn begin(&mut self, pixels: &Pixels) -> Result<Pending, Error> {
        let Pixels {
            batch,
            frames,
            height,
            width,
            ..
        } = *pixels;
        if height % CELL != 0 || width % CELL != 0 {
            let reason = format!("both sides must be multiples of {CELL}");
            return Err(Error::Size {
                width,
                height,
                reason,
            });
        }
        let megapixels = (batch * frames * height * width) as f64 / 1e6;
        let micros = megapixels * self.config.ms_per_megapixel as f64 * 1e3;
        self.free = self.free.max(Instant::now()) + Duration::from_micros(micros as u64);
        let done = self.free;
        let computed = move || {
            thread::sleep(done.saturating_duration_since(Instant::now()));
            Ok(())
        };
        let moments = self.moments(pixels);
        Ok(Pending::new(Duration::ZERO, computed, || Ok(moments)))
    }
}

impl Synthetic {
    fn moments(&self, pixels: &Pixels) -> Moments {
        let Pixels {
            batch,
            frames,
            height,
            width,
            ..
        } = *pixels;
        let channels = self.config.channels;
        let shape = [batch, channels, frames, height / CELL, width / CELL];
        let values = shape.iter().product();
        if !self.config.decode {
            return Moments {
                shape,
                mean: vec![0.0; values],
                logvar: None,
            };
        }
        let mut mean = Vec::with_capacity(values);
        for element in 0..batch {
            for channel in 0..channels {
                for frame in 0..frames {
                    for cell in 0..shape[3] * shape[4] {
                        let (y, x) = (cell / shape[4] * CELL, cell % shape[4] * CELL);
                        let at = [element, frame, y, x];
                        mean.push(cell_mean(pixels, at, channel % 3) + (channel / 3) as f32);
                    }
                }
            }
        }
        Moments {
            shape,
            mean,
            logvar: None,
        }
    }
}

fn cell_mean(pixels: &Pixels, [element, frame, top, left]: [usize; 4], colour: usize) -> f32 {
    let Pixels {
        frames,
        height,
        width,
        ..
    } = *pixels;
    let row = |y: usize| ((element * frames + frame) * height + y) * width + left;
    let mut sum = 0.0;
    for y in top..top + CELL {
        sum += match &pixels.data {
            PixelData::Rgb8(rgb) => rgb[row(y) * 3..(row(y) + CELL) * 3]
                .iter()
                .skip(colour)
                .step_by(3)
                .map(|&value| f32::from(value) / 127.5 - 1.0)
                .sum::<f32>(),
            PixelData::Planar(values) => {
                let plane = (element * 3 + colour) * frames + frame;
                let start = (plane * height + y) * width + left;
                values[start..start + CELL].iter().sum()
            }
        };
    }
    sum / (CELL * CELL) as f32
}
