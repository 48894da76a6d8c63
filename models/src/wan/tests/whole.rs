//! The encoders of the Wan family in three dimensions, as diffusers runs a first frame: whole
//! kernels, with frames of zeros before the clip. Plain loops in f64, steered by the names of the
//! tensors alone.

mod clip;

use crate::golden::Tensors;

pub(super) use clip::Clip;

/// An encoder.
#[derive(Clone, Copy, Debug)]
pub(super) struct Whole<'a> {
    pub(super) tensors: &'a Tensors,
    pub(super) patch: usize,
    /// Zero frames before the clip for a kernel of three; the rest of two come behind it.
    pub(super) before: usize,
}

impl<'a> Whole<'a> {
    /// Kernels over three frames, and how many of them hold something in each of the slices that
    /// the collapse leaves out.
    pub(super) fn kernels_over_time(&self) -> [usize; 2] {
        let kernels = self.tensors.iter().filter(|(name, (shape, _))| {
            shape.len() == 5 && shape[2] == 3 && !name.contains("time_conv")
        });
        let mut counts = [0; 2];
        for (_, (shape, values)) in kernels {
            let slices: Vec<_> = values.chunks_exact(shape[3] * shape[4]).collect();
            let holds = |t| {
                let mut slices = slices.iter().skip(t).step_by(3);
                slices.any(|slice| slice.iter().any(|&weight| weight != 0.0))
            };
            counts[0] += 1;
            counts[1] += usize::from(holds(0) && holds(1));
        }
        counts
    }

    /// Means and log-variances, channel by channel.
    pub(super) fn encode(&self, clip: &Clip) -> Vec<f64> {
        let mut x = self.same("encoder.conv_in", &clip.patches(self.patch));
        for index in 0.. {
            let name = format!("encoder.down_blocks.{index}");
            x = match () {
                () if self.has(&format!("{name}.resnets.0.conv1")) => self.level(&name, &x),
                () if self.has(&format!("{name}.conv1")) => self.block(&name, &x),
                () if self.has(&format!("{name}.resample.1")) => self.halve(&name, &x),
                () => break,
            };
        }
        let x = self.block("encoder.mid_block.resnets.0", &x);
        let x = self.attention("encoder.mid_block.attentions.0", &x);
        let x = self.block("encoder.mid_block.resnets.1", &x);
        let x = self.norm("encoder.norm_out", &x).silu();
        let x = self.same("encoder.conv_out", &x);
        self.same("quant_conv", &x).data
    }

    /// Whether there is a convolution of this name.
    fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(&format!("{name}.weight"))
    }

    fn get(&self, name: &str) -> &'a (Vec<usize>, Vec<f32>) {
        let tensor = self.tensors.get(name);
        tensor.unwrap_or_else(|| panic!("no {name}"))
    }

    /// A level of Wan 2.2.
    fn level(&self, name: &str, x: &Clip) -> Clip {
        let blocks = (0..).map(|layer| format!("{name}.resnets.{layer}"));
        let blocks = blocks.take_while(|block| self.has(&format!("{block}.conv1")));
        let h = blocks.fold(x.clone(), |h, block| self.block(&block, &h));
        let outputs = h.shape[0];
        let down = format!("{name}.downsampler");
        if !self.has(&format!("{down}.resample.1")) {
            return h.add(&x.averages([1, 1], outputs));
        }
        let time = 1 + usize::from(self.has(&format!("{down}.time_conv")));
        let h = self.halve(&down, &h);
        h.add(&x.averages([time, 2], outputs))
    }

    fn block(&self, name: &str, x: &Clip) -> Clip {
        let h = self.norm(&format!("{name}.norm1"), x).silu();
        let h = self.same(&format!("{name}.conv1"), &h);
        let h = self.norm(&format!("{name}.norm2"), &h).silu();
        let h = self.same(&format!("{name}.conv2"), &h);
        let shortcut = format!("{name}.conv_shortcut");
        match self.has(&shortcut) {
            true => h.add(&self.same(&shortcut, x)),
            false => h.add(x),
        }
    }

    /// Halves height and width. Where time is halved as well, a first frame passes untouched.
    fn halve(&self, name: &str, x: &Clip) -> Clip {
        assert_eq!(x.shape[1], 1, "first frames only");
        let padded = x.pad([[0; 2], [0, 1], [0, 1]]);
        self.conv(&format!("{name}.resample.1"), &padded, 2)
    }

    /// One head over the pixels of a single frame.
    fn attention(&self, name: &str, x: &Clip) -> Clip {
        let [channels, frames, height, width] = x.shape;
        assert_eq!(frames, 1, "first frames only");
        let pixels = height * width;
        let normed = self.norm(&format!("{name}.norm"), x);
        let qkv = self.conv(&format!("{name}.to_qkv"), &normed, 1).data;
        let part = |part: usize, c: usize, at: usize| qkv[(part * channels + c) * pixels + at];
        let score = |query: usize, key: usize| {
            let terms = (0..channels).map(|c| part(0, c, query) * part(1, c, key));
            (terms.sum::<f64>() / (channels as f64).sqrt()).exp()
        };
        let mut mixed = vec![0.0; channels * pixels];
        for query in 0..pixels {
            let scores: Vec<_> = (0..pixels).map(|key| score(query, key)).collect();
            let total: f64 = scores.iter().sum();
            for c in 0..channels {
                let terms = scores.iter().enumerate();
                let terms = terms.map(|(key, score)| score * part(2, c, key));
                mixed[c * pixels + query] = terms.sum::<f64>() / total;
            }
        }
        let mixed = Clip { data: mixed, ..*x };
        self.conv(&format!("{name}.proj"), &mixed, 1).add(x)
    }

    /// Every pixel's channels, brought to a length of `sqrt(channels)`, times gamma.
    fn norm(&self, name: &str, x: &Clip) -> Clip {
        let gamma = &self.get(&format!("{name}.gamma")).1;
        let [channels, frames, height, width] = x.shape;
        let lengths = Clip::from_fn([1, frames, height, width], |[_, t, row, column]| {
            let squares = (0..channels).map(|c| x.at([c, t, row, column]).powi(2));
            squares.sum::<f64>().sqrt().max(1e-12)
        });
        Clip::from_fn(x.shape, |[c, t, row, column]| {
            let scale = (channels as f64).sqrt() * f64::from(gamma[c]);
            x.at([c, t, row, column]) / lengths.at([0, t, row, column]) * scale
        })
    }

    /// A causal convolution that keeps the size.
    fn same(&self, name: &str, x: &Clip) -> Clip {
        let shape = &self.get(&format!("{name}.weight")).0;
        let time = match shape[2] {
            1 => [0; 2],
            frames => [self.before, frames - 1 - self.before],
        };
        let padded = x.pad([time, [shape[3] / 2; 2], [shape[4] / 2; 2]]);
        self.conv(name, &padded, 1)
    }

    /// Every tap of the kernel of `name`; 2-D ones go frame by frame.
    fn conv(&self, name: &str, x: &Clip, stride: usize) -> Clip {
        let (shape, weight) = self.get(&format!("{name}.weight"));
        let bias = &self.get(&format!("{name}.bias")).1;
        let [outputs, inputs, time, side] = match *shape.as_slice() {
            [outputs, inputs, time, side, _] => [outputs, inputs, time, side],
            [outputs, inputs, side, _] => [outputs, inputs, 1, side],
            ref other => panic!("{name} of shape {other:?}"),
        };
        let [channels, frames, height, width] = x.shape;
        assert_eq!(channels, inputs, "{name}");
        let halved = |length: usize| (length - side) / stride + 1;
        let shape = [outputs, frames - time + 1, halved(height), halved(width)];
        let area = side * side;
        Clip::from_fn(shape, |[output, t, row, column]| {
            let taps = &weight[output * inputs * time * area..][..inputs * time * area];
            let taps = taps.iter().enumerate().map(|(tap, &weight)| {
                let (c, t) = (tap / area / time, t + tap / area % time);
                let (row, column) = (
                    row * stride + tap / side % side,
                    column * stride + tap % side,
                );
                f64::from(weight) * x.at([c, t, row, column])
            });
            f64::from(bias[output]) + taps.sum::<f64>()
        })
    }
}
