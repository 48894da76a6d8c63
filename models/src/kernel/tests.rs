//! The kernels against the definitions, written as plainly as possible, in f64.

use super::{Act, Conv, Fused, Map, Norm, Over, Residual, Statistics};

fn wave(n: usize, frequency: f64) -> Vec<f32> {
    (0..n)
        .map(|i| ((i as f64 * frequency).sin() * 0.7) as f32)
        .collect()
}

/// One output value by the definition.
fn at(x: &[f32], size: [usize; 3], weight: &[f32], geometry: Geometry, [y, z]: [usize; 2]) -> f64 {
    let [height, width, channels] = size;
    let Geometry {
        kernel,
        stride,
        pad,
    } = geometry;
    let mut sum = 0.0;
    for ky in 0..kernel {
        for kx in 0..kernel {
            let (Some(iy), Some(ix)) = (
                (y * stride + ky).checked_sub(pad[0]),
                (z * stride + kx).checked_sub(pad[1]),
            ) else {
                continue;
            };
            if iy >= height || ix >= width {
                continue;
            }
            for channel in 0..channels {
                let value = x[(iy * width + ix) * channels + channel];
                sum += f64::from(value) * f64::from(weight[(channel * kernel + ky) * kernel + kx]);
            }
        }
    }
    sum
}

#[derive(Clone, Copy)]
struct Geometry {
    kernel: usize,
    stride: usize,
    pad: [usize; 4],
}

#[test]
fn convolutions_follow_their_definition() {
    let geometry = |kernel, stride, pad| Geometry {
        kernel,
        stride,
        pad,
    };
    let cases = [
        ([13, 17, 3], 20, geometry(3, 1, [1; 4])),
        ([9, 11, 32], 64, geometry(3, 2, [0, 0, 1, 1])),
        ([10, 9, 5], 33, geometry(3, 2, [1; 4])),
        ([8, 8, 5], 8, geometry(1, 1, [0; 4])),
        ([1, 1, 16], 1, geometry(3, 1, [1; 4])),
        ([40, 300, 16], 70, geometry(5, 1, [2; 4])),
    ];
    for (size, outputs, geometry) in cases {
        let Geometry {
            kernel,
            stride,
            pad,
        } = geometry;
        let [height, width, channels] = size;
        let n = 2;
        let x = wave(n * height * width * channels, 0.37);
        let weight = wave(outputs * channels * kernel * kernel, 0.71);
        let bias = wave(outputs, 1.3);
        let conv = Conv::new(
            Over::SINGLE,
            &weight,
            [outputs, channels, kernel, kernel],
            Some(&bias),
            (stride, pad),
        );
        let [out_height, out_width] = conv.output(height, width);
        let residual = wave(n * out_height * out_width * outputs, 0.11);
        let mut out = vec![f32::NAN; residual.len()];
        let fused = Fused {
            norms: None,
            residual: Residual::Apart(&residual),
            act: Act::Relu,
        };
        let map = Map {
            before: &[],
            data: &x,
            n,
            height,
            width,
            channels,
        };
        conv.run(map, fused, &mut out);
        let filter = channels * kernel * kernel;
        for (index, value) in out.iter().enumerate() {
            let (pixel, output) = (index / outputs, index % outputs);
            let (picture, pixel) = (
                pixel / (out_height * out_width),
                pixel % (out_height * out_width),
            );
            let place = [pixel / out_width, pixel % out_width];
            let x = &x[picture * height * width * channels..];
            let sum = at(x, size, &weight[output * filter..], geometry, place);
            let expected = (sum + f64::from(bias[output]) + f64::from(residual[index])).max(0.0);
            assert!(
                (f64::from(*value) - expected).abs() < 2e-5,
                "{size:?} {place:?} {output}"
            );
        }
    }
}

#[test]
fn a_kernel_over_frames_is_one_over_their_channels() {
    let ([height, width, channels], outputs) = ([7, 9, 5], 33);
    let weight = wave(outputs * 3 * channels * 9, 0.71);
    let sides = [outputs, 3 * channels, 3, 3];
    let pad = (2, [0, 0, 1, 1]);
    let picture = height * width * channels;
    for stride in [1, 2] {
        let over = Over { frames: 3, stride };
        let conv = Conv::new(over, &weight, sides, None, pad);
        let flat = Conv::new(Over::SINGLE, &weight, sides, None, pad);
        // Two of the frames lie elsewhere.
        let (frames, values) = (6, wave(6 * picture, 0.37));
        let (before, data) = values.split_at(2 * picture);
        let clip = Map {
            before,
            data,
            n: frames,
            height,
            width,
            channels,
        };
        let fused = Fused {
            norms: None,
            residual: Residual::None,
            act: Act::None,
        };
        let [out_height, out_width] = conv.output(height, width);
        let area = out_height * out_width * outputs;
        let mut out = vec![f32::NAN; conv.pictures(frames) * area];
        assert_eq!(out.len() / area, 4 / stride);
        conv.run(clip, fused, &mut out);
        for (index, out) in out.chunks_exact(area).enumerate() {
            let frame = |frame: usize| &values[(index * stride + frame) * picture..][..picture];
            let pixels = (0..picture).step_by(channels);
            let together: Vec<f32> = pixels
                .flat_map(|at| (0..3).flat_map(move |t| frame(t)[at..at + channels].to_vec()))
                .collect();
            let map = Map {
                before: &[],
                data: &together,
                n: 1,
                height,
                width,
                channels: 3 * channels,
            };
            let mut expected = vec![f32::NAN; area];
            flat.run(map, fused, &mut expected);
            for (a, b) in out.iter().zip(&expected) {
                assert!((a - b).abs() < 2e-5, "{a} {b}");
            }
        }
    }
}

#[test]
fn group_norm_follows_its_definition_even_where_nearly_flat() {
    let (height, width, channels, groups, eps) = (37, 19, 12, 3, 1e-6);
    let (gamma, beta) = (wave(channels, 0.3), wave(channels, 0.9));
    for amplitude in [1.0, 1e-4] {
        let plain = wave(2 * height * width * channels, 0.53);
        let x: Vec<f32> = plain.iter().map(|v| 3.0 + v * amplitude).collect();
        let map = Map {
            before: &[],
            data: &x,
            n: 2,
            height,
            width,
            channels,
        };
        let statistics = Statistics {
            gamma: &gamma,
            beta: &beta,
            groups,
            eps,
        };
        let norms = Norm::measure(map, statistics, Act::Silu);
        let mut out = vec![0.0; map.picture_len()];
        for (picture, norm) in norms.iter().enumerate() {
            norm.apply(map.picture(picture), &mut out);
            let x = map.picture(picture);
            let of = |g: usize| {
                let inside = move |(i, _): &(usize, &f32)| i % channels / (channels / groups) == g;
                x.iter()
                    .enumerate()
                    .filter(inside)
                    .map(|(_, v)| f64::from(*v))
            };
            let count = (x.len() / groups) as f64;
            for (index, value) in out.iter().enumerate() {
                let (channel, group) = (index % channels, index % channels / (channels / groups));
                let mean = of(group).sum::<f64>() / count;
                let variance = of(group).map(|v| (v - mean).powi(2)).sum::<f64>() / count;
                let normal = (f64::from(x[index]) - mean) / (variance + f64::from(eps)).sqrt();
                let y = normal * f64::from(gamma[channel]) + f64::from(beta[channel]);
                let expected = y / (1.0 + (-y).exp());
                assert!(
                    (f64::from(*value) - expected).abs() < 2e-6,
                    "{value} {expected}"
                );
                if index > 40 {
                    break;
                }
            }
        }
    }
}

#[test]
fn neither_batch_nor_threads_change_a_bit() {
    let (height, width, channels, outputs) = (50, 40, 64, 48);
    let x = wave(3 * height * width * channels, 0.37);
    let conv = Conv::new(
        Over::SINGLE,
        &wave(outputs * channels * 9, 0.71),
        [outputs, channels, 3, 3],
        None,
        (1, [1; 4]),
    );
    let statistics = Statistics {
        gamma: &[1.5; 64],
        beta: &[0.5; 64],
        groups: 8,
        eps: 1e-6,
    };
    let run = |n: usize| {
        let map = Map {
            before: &[],
            data: &x[..n * height * width * channels],
            n,
            height,
            width,
            channels,
        };
        let norms = Norm::measure(map, statistics, Act::Silu);
        let mut out = vec![0.0; n * height * width * outputs];
        conv.run(
            map,
            Fused {
                norms: Some(&norms),
                residual: Residual::None,
                act: Act::None,
            },
            &mut out,
        );
        out
    };
    let many = run(3);
    let one = rayon::ThreadPoolBuilder::new()
        .num_threads(1)
        .build()
        .unwrap()
        .install(|| run(1));
    assert_eq!(many[..one.len()], one);
}
