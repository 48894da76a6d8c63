//! What every family shares: pixels to the device, sizes, moments back to the host.

mod clip;
mod sizes;
mod tiling;

use std::{
    fmt,
    ops::Range,
    time::{Duration, Instant},
};

use burn::tensor::{DType as BurnDType, FloatDType, Tensor, TensorData};

pub(crate) use clip::{ClipFamily, in_steps};
pub(crate) use sizes::Sizes;
pub(crate) use tiling::Tiling;

use crate::{
    Encoder, Error, Moments, Pending, PixelData, Pixels, Spec,
    moments::{LOGVAR_MAX, LOGVAR_MIN},
    nn::{Fetch, Ops, Past, unreadable},
    pending::Step,
};

/// A family's encoder of pictures: the part that reads as its paper reads.
pub(crate) trait Family<B: Ops>: fmt::Debug + Send {
    /// From pixels in [-1, 1], `[batch, height, width, 3]`, to `[batch, height, width, channels]`: the
    /// latent, or where there is a posterior its means and, after them, its log-variances.
    fn encode(&self, x: Tensor<B, 4>) -> Tensor<B, 4>;
}

/// A family's encoder.
#[derive(Debug)]
pub(crate) enum Net<B: Ops> {
    /// To which every frame is a picture of its own.
    Pictures(Box<dyn Family<B>>),
    /// That knows time.
    Clips(Box<dyn ClipFamily<B>>),
}

impl<B: Ops> Net<B> {
    /// As [`Family::encode`].
    pub(crate) fn pictures(&self, x: Tensor<B, 4>) -> Tensor<B, 4> {
        match self {
            Self::Pictures(family) => family.encode(x),
            Self::Clips(family) => family.encode(x, &mut Past::still()),
        }
    }

    /// The most frames that go through it together because its result depends on that.
    fn frames_together(&self, frames: usize) -> usize {
        match self {
            Self::Clips(family) if frames > 1 => {
                let chunks = family.chunks(frames, 1);
                chunks.iter().map(Range::len).max().unwrap_or(1)
            }
            _ => 1,
        }
    }

    fn reads_f32(&self) -> bool {
        matches!(self, Self::Clips(family) if family.reads_f32())
    }
}

/// What a family made, in f32 on the host: `[n, height, width, channels]`.
#[derive(Clone, Debug, Default)]
pub(crate) struct HostMap {
    values: Vec<f32>,
    n: usize,
    height: usize,
    width: usize,
    channels: usize,
}

/// A map that the device may still be computing.
struct Coming {
    computed: Step<()>,
    map: Step<HostMap>,
}

impl Coming {
    fn join(self) -> Result<HostMap, Error> {
        (self.computed)()?;
        (self.map)()
    }

    /// One that is on the host already.
    fn here(map: HostMap) -> Self {
        Self {
            computed: Box::new(|| Ok(())),
            map: Box::new(|| Ok(map)),
        }
    }

    fn split(self) -> (Step<()>, Step<HostMap>) {
        (self.computed, self.map)
    }
}

/// An encoder on a device.
#[derive(Debug)]
pub(crate) struct Model<B: Ops> {
    pub(crate) net: Net<B>,
    pub(crate) device: B::Device,
    pub(crate) spec: Spec,
    pub(crate) sizes: Sizes,
    pub(crate) tiling: Option<Tiling>,
    /// Whether every frame goes through the network by itself.
    pub(crate) slicing: bool,
}

impl<B: Ops> Encoder for Model<B> {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn device_memory(&self) -> Option<u64> {
        B::memory(&self.device)
    }

    fn encode(&mut self, pixels: &Pixels) -> Result<Moments, Error> {
        self.begin(pixels)?.moments()
    }

    fn begin(&mut self, pixels: &Pixels) -> Result<Pending, Error> {
        let tiling = self.check(pixels)?;
        let mut upload = Duration::ZERO;
        let mut uploaded = |frames| {
            let start = Instant::now();
            let x = self.upload(pixels, frames);
            upload += start.elapsed();
            x
        };
        let maps: Vec<Coming> = match (&self.net, tiling) {
            (Net::Clips(family), Some(tiling)) if pixels.frames > 1 => {
                let map = self.tiled_clips(pixels, (&**family, tiling), uploaded)?;
                vec![Coming::here(map)]
            }
            (Net::Clips(family), None) if pixels.frames > 1 => {
                self.clips(pixels, &**family, uploaded)
            }
            (net, Some(tiling)) => {
                // Tiles are blended on the host, so this has to wait for each.
                let encode = |x| HostMap::on_its_way(net.pictures(x)).join();
                let passes = self.passes(pixels);
                let tiled = passes.map(|frames| tiling.run(&uploaded(frames), encode));
                let tiled = tiled.map(|map| map.map(Coming::here));
                tiled.collect::<Result<_, _>>()?
            }
            (net, None) => self
                .passes(pixels)
                .map(|frames| HostMap::on_its_way(net.pictures(uploaded(frames))))
                .collect(),
        };
        let (batch, has_posterior) = (pixels.batch, self.spec.has_posterior);
        let (computed, maps): (Vec<_>, Vec<_>) = maps.into_iter().map(Coming::split).unzip();
        let computed = || computed.into_iter().try_for_each(|computed| computed());
        let moments = move || {
            let mut map = HostMap::default();
            for more in maps {
                map.append(more()?);
            }
            Ok(map.moments(batch, has_posterior))
        };
        Ok(Pending::new(upload, computed, moments))
    }
}

impl<B: Ops> Model<B> {
    /// The frames of the batch, each a picture of its own, in parts that go through the network
    /// together.
    fn passes(&self, pixels: &Pixels) -> impl Iterator<Item = Range<usize>> + use<B> {
        let all = pixels.batch * pixels.frames;
        let pass = match self.slicing {
            true => 1,
            false => (B::PASS_PIXELS / (pixels.height * pixels.width)).clamp(1, all),
        };
        let passes = (0..all).step_by(pass);
        passes.map(move |first| first..all.min(first + pass))
    }

    /// Whether the model can take it, and how it is tiled.
    fn check(&self, pixels: &Pixels) -> Result<Option<Tiling>, Error> {
        let Pixels { height, width, .. } = *pixels;
        self.sizes.check(pixels)?;
        if pixels.data.len() != pixels.len() || pixels.is_empty() {
            return Err(Error::Device(format!(
                "{} values for a batch of {}",
                pixels.data.len(),
                pixels.len()
            )));
        }
        let tiling = self
            .tiling
            .filter(|tiling| height.max(width) > tiling.trigger);
        if let Some(tiling) = tiling
            && ![height, width]
                .iter()
                .all(|&side| tiling.fits(side, self.sizes.cell))
        {
            let (stride, least) = (tiling.stride, self.sizes.cell);
            let reason = format!(
                "tiles start every {stride} pixels and the last would be narrower than {least}: use \
                 multiples of {least}"
            );
            return Err(Error::Size {
                width,
                height,
                reason,
            });
        }
        let frame = tiling.map_or(height * width, |tiling| tiling.tile.pow(2));
        let together = self.net.frames_together(pixels.frames);
        if frame * together > B::MAX_PIXELS {
            let (device, most) = (self.spec.device, B::MAX_PIXELS);
            let reason = match together {
                1 => format!(
                    "{device} encodes at most {most} pixels in one piece: tile larger pictures"
                ),
                frames => format!(
                    "{device} encodes at most {most} pixels in one piece, and this model takes {frames} \
                     frames together: use smaller ones, or tile them"
                ),
            };
            return Err(Error::Size {
                width,
                height,
                reason,
            });
        }
        Ok(tiling)
    }

    /// These frames of the batch, `[n, height, width, 3]` in [-1, 1].
    fn upload(&self, pixels: &Pixels, frames: Range<usize>) -> Tensor<B, 4> {
        let (height, width) = (pixels.height, pixels.width);
        let (shape, plane) = ([frames.len(), height, width, 3], height * width);
        let dtype = match self.net.reads_f32() {
            true => FloatDType::F32,
            false => B::activations(self.spec.dtype.float()),
        };
        match &pixels.data {
            PixelData::Rgb8(bytes) => {
                let bytes = &bytes[frames.start * plane * 3..frames.end * plane * 3];
                B::pixels(bytes, shape, &self.device, dtype)
            }
            PixelData::Planar(values) => {
                let mut interleaved = Vec::with_capacity(frames.len() * plane * 3);
                for frame in frames {
                    let (element, frame) = (frame / pixels.frames, frame % pixels.frames);
                    let colour = |colour| ((element * 3 + colour) * pixels.frames + frame) * plane;
                    let starts = [0, 1, 2].map(colour);
                    let pixel = |at| starts.map(|start| values[start + at]);
                    interleaved.extend((0..plane).flat_map(pixel));
                }
                let data = TensorData::new(interleaved, shape);
                Tensor::<B, 4>::from_data(data, &self.device).cast(dtype)
            }
        }
    }
}

impl HostMap {
    fn on_its_way<B: Ops>(x: Tensor<B, 4>) -> Coming {
        let [n, height, width, channels] = x.dims();
        let Fetch { computed, values } = B::fetch(x);
        let map = move || {
            let data = values()?.convert_dtype(BurnDType::F32);
            Ok(Self {
                values: data.into_vec().map_err(unreadable)?,
                n,
                height,
                width,
                channels,
            })
        };
        Coming {
            computed,
            map: Box::new(map),
        }
    }

    /// Adds maps of the same size behind those that are here.
    fn append(&mut self, mut more: Self) {
        if self.n == 0 {
            *self = more;
            return;
        }
        self.n += more.n;
        self.values.append(&mut more.values);
    }

    /// Where the channels of a pixel start.
    const fn at(&self, n: usize, y: usize, x: usize) -> usize {
        ((n * self.height + y) * self.width + x) * self.channels
    }

    /// As callers see it, with the log-variances clamped.
    fn moments(&self, batch: usize, has_posterior: bool) -> Moments {
        let frames = self.n / batch;
        let channels = match has_posterior {
            true => self.channels / 2,
            false => self.channels,
        };
        let planes = |first: usize| {
            let mut planes = Vec::with_capacity(self.values.len());
            for element in 0..batch {
                for channel in first..first + channels {
                    let start = self.at(element * frames, 0, 0);
                    let cells = &self.values[start..self.at((element + 1) * frames, 0, 0)];
                    planes.extend(cells.iter().skip(channel).step_by(self.channels));
                }
            }
            planes
        };
        let clamp = |mut logvar: Vec<f32>| {
            logvar
                .iter_mut()
                .for_each(|x| *x = x.clamp(LOGVAR_MIN, LOGVAR_MAX));
            logvar
        };
        Moments {
            shape: [batch, channels, frames, self.height, self.width],
            mean: planes(0),
            logvar: has_posterior.then(|| clamp(planes(channels))),
        }
    }
}

impl PixelData {
    fn len(&self) -> usize {
        match self {
            Self::Rgb8(bytes) => bytes.len(),
            Self::Planar(values) => values.len(),
        }
    }
}
