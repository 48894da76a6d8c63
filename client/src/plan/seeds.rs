//! Counter-based randomness: every number is a function of what it is for, so that any of them can
//! be drawn at any time, by any rank, in any order.

/// What a number is for. The values are part of the order: never reuse or renumber them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Key of the order of a bucket's samples; `sample` is the bucket.
    Order = 1,
    /// Key of the order of an epoch's steps; `sample` is 0.
    Schedule = 2,
    /// Left edge of the crop.
    CropX = 3,
    /// Top edge of the crop.
    CropY = 4,
    /// Whether to mirror.
    Flip = 5,
    /// Key of the posterior draw.
    Posterior = 6,
    /// Share of the image that a resized crop shows.
    Scale = 7,
    /// Whether to drop the caption.
    Caption = 8,
    /// Key of the order of an epoch's shards; `sample` is 0.
    Shards = 9,
    /// Key of the order of a group's batches; `sample` is the group.
    Group = 10,
    /// Key of the order of a bucket's samples within a group: what [`Purpose::Order`] drew for the
    /// bucket is the seed, and `sample` is the group.
    Block = 11,
    /// Whether a sample is in the subset; the epoch is 0.
    Subset = 12,
    /// Key of what weights draw in a bucket; `sample` is the bucket.
    Drawn = 13,
    /// Where the points of a bucket's comb begin: what [`Purpose::Drawn`] drew is the seed.
    Comb = 14,
    /// Key of the order of fractions that lie together: what [`Purpose::Drawn`] drew is the seed, and
    /// `sample` is the first member.
    Slots = 15,
    /// Where in its video a clip begins.
    Start = 16,
}

/// The number for (seed, epoch, sample, purpose): 64 uniform bits.
pub fn draw(seed: u64, epoch: u64, sample: u64, purpose: Purpose) -> u64 {
    [epoch, sample, purpose as u64]
        .into_iter()
        // One after the other: were they mixed apart and then joined, equal ones would cancel.
        .fold(mix(seed), |state, part| mix(state.wrapping_add(part)))
}

/// Maps 64 uniform bits to `0..bound`; the bias is below `bound / 2^64`.
pub fn below(bits: u64, bound: u32) -> u32 {
    ((u128::from(bits) * u128::from(bound)) >> 64) as u32
}

/// Whether 64 uniform bits, as a number from 0 up to 1, are at least `from` and below `to`.
pub(super) fn between(bits: u64, from: f64, to: f64) -> bool {
    // 53 bits are exact in a float, and so is the product with a power of two.
    let number = (bits >> 11) as f64 / (1_u64 << 53) as f64;
    number >= from && number < to
}

/// Whether a sample is in the share `from` to `to` of a dataset.
pub(super) fn inside(seed: u64, sample: u64, from: f64, to: f64) -> bool {
    between(draw(seed, 0, sample, Purpose::Subset), from, to)
}

/// The finaliser of SplitMix64: a bijection in which every input bit changes half of the output.
pub(super) fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_part_counts() {
        let mut seen = HashSet::new();
        for seed in 0..10 {
            for epoch in 0..10 {
                for sample in 0..100 {
                    for purpose in [Purpose::CropX, Purpose::CropY, Purpose::Flip] {
                        assert!(seen.insert(draw(seed, epoch, sample, purpose)));
                    }
                }
            }
        }
    }

    /// A change here changes the order of every run: it needs a new `ORDER_VERSION`.
    #[test]
    fn draws_are_frozen() {
        assert_eq!(draw(0, 0, 0, Purpose::Order), 0x698dfba9f1fc1b53);
        assert_eq!(
            draw(7, 3, 1_000_000, Purpose::Posterior),
            0x108168f4263180d3
        );
    }

    #[test]
    fn below_is_uniform() {
        let mut counts = [0_u32; 7];
        for sample in 0..70_000 {
            counts[below(draw(1, 2, sample, Purpose::CropX), 7) as usize] += 1;
        }
        assert!(counts.iter().all(|&count| (9_600..10_400).contains(&count)));
    }
}
