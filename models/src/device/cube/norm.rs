//! Group norm and root-mean-square norm with statistics in f32, for any GPU.
//!
//! Moments are taken around a value of their own before they are merged (Chan, Golub, LeVeque 1979,
//! "Updating formulae and a pairwise algorithm for computing sample variances"), so that a nearly
//! flat image loses no digits.

use cubecl::prelude::*;

use super::conv::{FusedAct, activate};

/// Pixels of a channel whose moments one unit takes.
pub(super) const RUN: u32 = 64;
/// Units that merge the moments of one group.
pub(super) const MERGERS: u32 = 256;
/// Units that share a pixel in the root-mean-square norm.
pub(super) const LANES: u32 = 32;
/// Pixels of a cube there.
pub(super) const ROWS: u32 = 8;

/// Mean, and sum of squared distances from it, of every channel over runs of pixels: `x [n, pixels,
/// channels]`, `moments [n, runs, channels, 2]`. One unit a run and channel.
#[cube(launch)]
pub(super) fn run_moments<F: Float>(
    x: &Tensor<F>,
    moments: &mut Tensor<f32>,
    runs: u32,
    pixels: u32,
    channels: u32,
    #[define(F)] _dtype: StorageType,
) {
    let unit = ABSOLUTE_POS as u32;
    if unit as usize * 2 >= moments.len() {
        terminate!();
    }
    let (channel, run) = (unit % channels, unit / channels % runs);
    let image = unit / channels / runs;
    let first = run * RUN;
    let count = u32::min(RUN, pixels - first);
    let start = (image * pixels + first) * channels + channel;
    let pivot = f32::cast_from(x[start as usize]);
    let mut sum = 0.0f32;
    let mut squares = 0.0f32;
    for i in 0..count {
        let distance = f32::cast_from(x[(start + i * channels) as usize]) - pivot;
        sum += distance;
        squares += distance * distance;
    }
    let mean = sum / f32::cast_from(count);
    moments[(unit * 2) as usize] = pivot + mean;
    moments[(unit * 2 + 1) as usize] = f32::max(squares - sum * mean, 0.0);
}

/// Mean and `1 / sqrt(variance + eps)` of every group from the moments of its runs: `[n, groups, 2]`.
/// One cube a group (x) of an image (y).
#[cube(launch)]
pub(super) fn merge_moments(
    moments: &Tensor<f32>,
    groups: &mut Tensor<f32>,
    runs: u32,
    pixels: u32,
    channels: u32,
    width: u32,
    eps: f32,
) {
    let mut counts = SharedMemory::<f32>::new(comptime![MERGERS as usize]);
    let mut means = SharedMemory::<f32>::new(comptime![MERGERS as usize]);
    let mut squares = SharedMemory::<f32>::new(comptime![MERGERS as usize]);
    let unit = UNIT_POS;

    let mut count = 0.0f32;
    let mut mean = 0.0f32;
    let mut square = 0.0f32;
    for i in range_stepped(unit, runs * width, MERGERS) {
        let (run, channel) = (i / width, CUBE_POS_X * width + i % width);
        let at = ((CUBE_POS_Y * runs + run) * channels + channel) * 2;
        let more = f32::cast_from(u32::min(RUN, pixels - run * RUN));
        let distance = moments[at as usize] - mean;
        let both = count + more;
        mean += distance * (more / both);
        square += moments[(at + 1) as usize] + distance * distance * (count * more / both);
        count = both;
    }
    counts[unit as usize] = count;
    means[unit as usize] = mean;
    squares[unit as usize] = square;
    sync_cube();

    #[unroll]
    for step in 1..comptime![MERGERS.ilog2() + 1] {
        let apart = comptime![MERGERS >> step];
        if unit < apart {
            let (a, b) = (unit as usize, (unit + apart) as usize);
            let both = counts[a] + counts[b];
            if both > 0.0 {
                let distance = means[b] - means[a];
                let share = counts[b] / both;
                squares[a] = squares[a] + squares[b] + distance * distance * (counts[a] * share);
                means[a] = means[a] + distance * share;
                counts[a] = both;
            }
        }
        sync_cube();
    }
    if unit == 0 {
        let at = (CUBE_POS_Y * CUBE_COUNT_X + CUBE_POS_X) * 2;
        groups[at as usize] = means[0];
        groups[(at + 1) as usize] = 1.0 / f32::sqrt(squares[0] / counts[0] + eps);
    }
}

/// `act((x - mean) * rstd * gamma + beta)`, with the statistics of `merge_moments`. One unit a value.
#[cube(launch)]
pub(super) fn normalise<F: Float>(
    x: &Tensor<F>,
    groups: &Tensor<f32>,
    gamma: &Tensor<f32>,
    beta: &Tensor<f32>,
    out: &mut Tensor<F>,
    pixels: u32,
    channels: u32,
    width: u32,
    #[comptime] act: FusedAct,
    #[define(F)] _dtype: StorageType,
) {
    if ABSOLUTE_POS >= out.len() {
        terminate!();
    }
    let at = ABSOLUTE_POS as u32;
    let (channel, image) = (at % channels, at / channels / pixels);
    let group = ((image * (channels / width) + channel / width) * 2) as usize;
    let value = (f32::cast_from(x[ABSOLUTE_POS]) - groups[group]) * groups[group + 1];
    let value = value * gamma[channel as usize] + beta[channel as usize];
    out[ABSOLUTE_POS] = F::cast_from(activate(value, act));
}

/// `act(x / rms(x) * gamma + beta)` over the channels of a pixel, `rms = max(sqrt(mean of squares +
/// eps), least)`. A row of units a pixel.
#[cube(launch)]
pub(super) fn rms<F: Float>(
    x: &Tensor<F>,
    gamma: &Tensor<f32>,
    beta: &Tensor<f32>,
    out: &mut Tensor<F>,
    pixels: u32,
    channels: u32,
    eps: f32,
    least: f32,
    #[comptime] act: FusedAct,
    #[define(F)] _dtype: StorageType,
) {
    let mut sums = SharedMemory::<f32>::new(comptime![(LANES * ROWS) as usize]);
    let (lane, row) = (UNIT_POS_X, UNIT_POS_Y);
    let pixel = CUBE_POS as u32 * ROWS + row;
    let here = row * LANES;

    let mut sum = 0.0f32;
    if pixel < pixels {
        for channel in range_stepped(lane, channels, LANES) {
            let value = f32::cast_from(x[(pixel * channels + channel) as usize]);
            sum += value * value;
        }
    }
    sums[(here + lane) as usize] = sum;
    sync_cube();
    #[unroll]
    for step in 1..comptime![LANES.ilog2() + 1] {
        let apart = comptime![LANES >> step];
        if lane < apart {
            let more = sums[(here + lane + apart) as usize];
            sums[(here + lane) as usize] += more;
        }
        sync_cube();
    }
    if pixel < pixels {
        let mean = sums[here as usize] / f32::cast_from(channels);
        let root = f32::max(f32::sqrt(mean + eps), least);
        for channel in range_stepped(lane, channels, LANES) {
            let at = (pixel * channels + channel) as usize;
            let value = f32::cast_from(x[at]) / root;
            let value = value * gamma[channel as usize] + beta[channel as usize];
            out[at] = F::cast_from(activate(value, act));
        }
    }
}
