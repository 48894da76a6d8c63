//! A [`Video`] as bytes, for those who keep what was found: a few dozen at a constant frame rate.
//!
//! Numbers are LEB128; timestamps are runs of equal distances.

use crate::{Video, turn::Turn};

/// Changes with the layout: what another release has packed is not read.
const VERSION: u8 = 1;
/// Most timestamps that are unpacked: ten times what a probe takes by default, and a bound on what
/// damaged bytes can ask for.
const MAX_TIMES: u64 = 20_000_000;
/// Longest name of a codec.
const MAX_NAME: u64 = 64;

impl Video {
    /// As bytes that [`Self::unpack`] reads. The same video has the same bytes.
    #[must_use]
    pub fn pack(&self) -> Vec<u8> {
        let flags = u8::from(self.turn.flip)
            | u8::from(self.square) << 1
            | u8::from(self.counted) << 2
            | (self.turn.quarters & 3) << 3
            | u8::from(self.led) << 5;
        let mut packed = vec![VERSION, flags];
        let [across, down] = self.lying;
        for number in [self.width, self.height, across, down, self.rotation.into()] {
            put(&mut packed, number.into());
        }
        for number in [self.stream, self.time_base.0, self.time_base.1] {
            put(&mut packed, number.into());
        }
        put(&mut packed, self.codec.len() as u64);
        packed.extend(self.codec.as_bytes());
        put_times(&mut packed, &self.times);
        put_times(&mut packed, &self.keys);
        put(&mut packed, zigzag(self.end));
        packed
    }

    /// What [`Self::pack`] made; none of anything else.
    #[must_use]
    pub fn unpack(packed: &[u8]) -> Option<Self> {
        let [VERSION, flags, rest @ ..] = packed else {
            return None;
        };
        let mut rest = rest;
        let mut number = || u32::try_from(take(&mut rest)?).ok();
        let (width, height) = (number()?, number()?);
        let lying = [number()?, number()?];
        let rotation = u16::try_from(number()?).ok()?;
        let stream = number()?;
        let time_base = (number()?, number()?);
        let name = take(&mut rest).filter(|&name| name <= MAX_NAME)?;
        let (name, mut rest) = rest.split_at_checked(usize::try_from(name).ok()?)?;
        let times = take_times(&mut rest)?;
        let keys = take_times(&mut rest)?;
        let end = unzigzag(take(&mut rest)?);
        let whole = rest.is_empty() && time_base.0 > 0 && time_base.1 > 0 && !times.is_empty();
        whole.then(|| Self {
            width,
            height,
            rotation,
            codec: String::from_utf8_lossy(name).into_owned(),
            time_base,
            times,
            end,
            stream,
            turn: Turn {
                flip: flags & 1 != 0,
                quarters: flags >> 3 & 3,
            },
            lying,
            square: flags & 2 != 0,
            keys,
            counted: flags & 4 != 0,
            led: flags & 32 != 0,
        })
    }
}

fn put(packed: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        packed.push(number as u8 | 0x80);
        number >>= 7;
    }
    packed.push(number as u8);
}

fn take(packed: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = packed.split_first()?;
        *packed = rest;
        number |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

/// Small for small numbers of either sign.
fn zigzag(number: i64) -> u64 {
    (number << 1 ^ number >> 63).cast_unsigned()
}

fn unzigzag(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -(number & 1).cast_signed()
}

/// Their number, the first one, and then how often each distance comes in a row.
fn put_times(packed: &mut Vec<u8>, times: &[i64]) {
    put(packed, times.len() as u64);
    let Some(first) = times.first() else { return };
    put(packed, zigzag(*first));
    let gaps: Vec<i64> = times
        .windows(2)
        .map(|two| two[1].wrapping_sub(two[0]))
        .collect();
    for run in gaps.chunk_by(|a, b| a == b) {
        put(packed, zigzag(run[0]));
        put(packed, run.len() as u64);
    }
}

fn take_times(packed: &mut &[u8]) -> Option<Vec<i64>> {
    let count = take(packed).filter(|&count| count <= MAX_TIMES)?;
    let mut times = Vec::new();
    if count == 0 {
        return Some(times);
    }
    let mut at = unzigzag(take(packed)?);
    times.push(at);
    let mut left = count - 1;
    while left > 0 {
        let gap = unzigzag(take(packed)?);
        let run = take(packed).filter(|run| (1..=left).contains(run))?;
        left -= run;
        for _ in 0..run {
            at = at.checked_add(gap)?;
            times.push(at);
        }
    }
    Some(times)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn video(times: Vec<i64>) -> Video {
        Video {
            width: 1280,
            height: 720,
            rotation: 90,
            codec: "h264".into(),
            time_base: (1, 90_000),
            end: times.last().map_or(0, |last| last + 3003),
            keys: times.iter().copied().step_by(12).collect(),
            times,
            stream: 1,
            turn: Turn {
                flip: true,
                quarters: 3,
            },
            lying: [720, 1280],
            square: true,
            counted: false,
            led: true,
        }
    }

    #[test]
    fn everything_comes_back() {
        let odd = vec![-90, -1, 0, 1, 5, 6, 7, 1 << 40];
        for times in [vec![7], odd, (0..300).map(|at| at * 3003 - 100).collect()] {
            let video = video(times);
            assert_eq!(Video::unpack(&video.pack()), Some(video));
        }
    }

    #[test]
    fn constant_rates_are_small() {
        let video = video((0..100_000).map(|at| at * 3003).collect());
        assert!(video.pack().len() < 64, "{}", video.pack().len());
    }

    #[test]
    fn damage_is_noticed_or_harmless() {
        let packed = video((0..50).map(|at| at * at).collect()).pack();
        for cut in 0..packed.len() {
            assert_eq!(Video::unpack(&packed[..cut]), None);
        }
        for at in 0..packed.len() {
            for change in [1, 0x80, 0xff] {
                let mut damaged = packed.clone();
                damaged[at] ^= change;
                let times = Video::unpack(&damaged).map_or(0, |video| video.times.len());
                assert!(times as u64 <= MAX_TIMES);
            }
        }
    }
}
