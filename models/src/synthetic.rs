//! A model without weights: deterministic, with a settable speed. For tests, benches of everything
//! but the maths, and fleets of pretended GPUs.
//!
//! Channel `c` of a latent cell is the mean of colour `c mod 3` over the cell's pixels in [-1, 1],
//! plus `c / 3` (integer division), so a test can tell a crop, a flip or a mix-up from the latent. Of a
//! clip it is the mean over the frames that a latent frame stands for: the first alone, then
//! `temporal-compression` each.

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
/// Shares are counted in parts of this.
const MILLION: u32 = 1_000_000;

/// Options of the synthetic model, as typed after `synthetic:`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// `channels`: latent channels.
    pub channels: usize,
    /// `temporal-compression`: frames per latent frame, after the first, which has one of its own.
    pub temporal_compression: usize,
    /// `frame-step`: a clip must have a multiple of this many frames, and one; where it is not typed, as
    /// `temporal-compression`.
    pub frame_step: Option<usize>,
    /// `ms-per-megapixel`: device time that every million pixels takes, in milliseconds.
    pub ms_per_megapixel: u64,
    /// `version`: changes the fingerprint and nothing else.
    pub version: u64,
    /// `decode=off`: whoever serves it need not decode anything, and every latent is zero. What is
    /// left is the cost of serving.
    pub decode: bool,
    /// `slow-share=F`: part of the batches that take longer, in millionths.
    pub slow_millionths: u32,
    /// `slow-factor`: how many times longer those take.
    pub slow_factor: u32,
    /// `slow-seed`: draws which they are, so that replicas are not slow in step.
    pub slow_seed: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            channels: 4,
            temporal_compression: 1,
            frame_step: None,
            ms_per_megapixel: 0,
            version: 0,
            decode: true,
            slow_millionths: 0,
            slow_factor: 10,
            slow_seed: 0,
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
            let typed = option.split_once('=');
            let share = typed.and_then(|(k, v)| (k == "slow-share").then(|| v.parse::<f64>()));
            if let Some(Ok(share @ 0.0..=1.0)) = share {
                config.slow_millionths = (share * f64::from(MILLION)).round() as u32;
                continue;
            }
            let number = typed.and_then(|(k, v)| Some((k, v.parse::<u64>().ok()?)));
            match number {
                Some(("channels", n @ 1..=1024)) => config.channels = n as usize,
                Some(("temporal-compression", n @ 1..=64)) => {
                    config.temporal_compression = n as usize;
                }
                Some(("frame-step", n @ 1..=64)) => config.frame_step = Some(n as usize),
                Some(("ms-per-megapixel", n)) => config.ms_per_megapixel = n,
                Some(("version", n)) => config.version = n,
                Some(("slow-factor", n @ 1..=1000)) => config.slow_factor = n as u32,
                Some(("slow-seed", n)) => config.slow_seed = n,
                _ => {
                    return Err(Error::Synthetic(format!(
                        "bad option `{option}`: use channels=1..1024, temporal-compression=1..64, \
                         frame-step=1..64, ms-per-megapixel=N, version=N, decode=off, slow-share=0..1, slow-factor=1..1000, slow-seed=N"
                    )));
                }
            }
        }
        Ok(config)
    }
}

impl Config {
    /// Whether a batch is one of the slow ones.
    fn is_slow(&self, number: u64) -> bool {
        let mut key = [0; 16];
        key[..8].copy_from_slice(&self.slow_seed.to_le_bytes());
        key[8..].copy_from_slice(&number.to_le_bytes());
        let hash = blake3::hash(&key);
        let [a, b, c, d, ..] = *hash.as_bytes();
        // Drawn from 2^32 values, so each millionth is hit to one part in four thousand.
        u32::from_le_bytes([a, b, c, d]) % MILLION < self.slow_millionths
    }
}

/// The model.
#[derive(Debug)]
pub struct Synthetic {
    config: Config,
    spec: Spec,
    /// When the device will have computed all that it was given.
    free: Instant,
    /// Batches begun.
    begun: u64,
}

impl Synthetic {
    /// A model of these options.
    pub fn new(config: Config) -> Self {
        let mut identity = format!("synthetic v1 {} {}", config.channels, config.version);
        if !config.decode {
            identity.push_str(" zero");
        }
        let compression = config.temporal_compression;
        if compression > 1 {
            identity.push_str(&format!(" {compression} frames"));
        }
        let spec = Spec {
            class: "Synthetic".to_owned(),
            fingerprint: Fingerprint(*blake3::hash(identity.as_bytes()).as_bytes()),
            device: Device::Cpu,
            dtype: DType::F32,
            dtype_reason: "it computes nothing",
            latent_channels: config.channels,
            spatial_compression: CELL,
            temporal_compression: compression,
            frame_step: config.frame_step.unwrap_or(compression),
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
            begun: 0,
        }
    }

    /// How long the device computes the next batch. Which batches are slow depends on their number
    /// alone: the same ones in every run, and a second attempt elsewhere need not be slow too.
    fn device_time(&mut self, pixels: usize) -> Duration {
        let number = self.begun;
        self.begun += 1;
        let micros = pixels as f64 / 1e6 * self.config.ms_per_megapixel as f64 * 1e3;
        let times = if self.config.is_slow(number) {
            self.config.slow_factor
        } else {
            1
        };
        Duration::from_micros(micros as u64).saturating_mul(times)
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
        let step = self.spec.frame_step;
        let over = frames.saturating_sub(1) % step;
        if frames == 0 || over != 0 {
            let below = frames.saturating_sub(over).max(1);
            return Err(Error::Frames {
                frames,
                step,
                below,
                above: below + step,
            });
        }
        if height % CELL != 0 || width % CELL != 0 {
            let reason = format!("both sides must be multiples of {CELL}");
            return Err(Error::Size {
                width,
                height,
                reason,
            });
        }
        let takes = self.device_time(batch * frames * height * width);
        self.free = self.free.max(Instant::now()) + takes;
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
        let compression = self.config.temporal_compression;
        let latent_frames = (frames - 1) / compression + 1;
        let shape = [batch, channels, latent_frames, height / CELL, width / CELL];
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
                for latent_frame in 0..latent_frames {
                    // Those behind the last whole group count nowhere.
                    let group = match latent_frame {
                        0 => 0..1,
                        _ => (latent_frame - 1) * compression + 1..latent_frame * compression + 1,
                    };
                    for cell in 0..shape[3] * shape[4] {
                        let (y, x) = (cell / shape[4] * CELL, cell % shape[4] * CELL);
                        let colour = channel % 3;
                        let frames = group.clone();
                        let means = frames.map(|f| cell_mean(pixels, [element, f, y, x], colour));
                        let mean_of_group = means.sum::<f32>() / group.len() as f32;
                        mean.push(mean_of_group + (channel / 3) as f32);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_of_slow_batches_is_met_and_always_the_same() {
        let config: Config = "slow-share=0.05,slow-factor=10".parse().unwrap();
        let slow = |config: &Config| {
            let slow = (0..20_000).filter(|&number| config.is_slow(number));
            slow.collect::<Vec<u64>>()
        };
        let first = slow(&config);
        // Of 20,000 draws the standard deviation is 31; this is four of them.
        assert!((876..=1124).contains(&first.len()), "{}", first.len());
        assert_eq!(first, slow(&config));
        let other = "slow-share=0.05,slow-seed=1".parse().unwrap();
        assert_ne!(first, slow(&other));
        assert!(slow(&Config::default()).is_empty());
    }

    #[test]
    fn slow_batches_take_so_many_times_longer() {
        let options = "ms-per-megapixel=100,slow-share=0.5,slow-factor=7";
        let mut model = Synthetic::new(options.parse().unwrap());
        let times: Vec<u128> = (0..64)
            .map(|_| model.device_time(500_000).as_millis())
            .collect();
        assert!(
            times.iter().all(|time| [50, 350].contains(time)),
            "{times:?}"
        );
        assert!(times.contains(&50) && times.contains(&350), "{times:?}");
    }

    #[test]
    fn nonsense_is_refused_with_advice() {
        for bad in [
            "slow-share=2",
            "slow-share=x",
            "slow-factor=0",
            "slow-seed=-1",
        ] {
            let error = bad.parse::<Config>().unwrap_err().to_string();
            assert!(
                error.contains(bad) && error.contains("slow-share=0..1"),
                "{error}"
            );
        }
    }
}
