//! Systematic sampling: equally spaced points over the fractions of a bucket, laid end to end, from a
//! start that is drawn in every epoch. A fraction of `f` so holds a point in a share `f` of the
//! epochs, and never two where points are at least 1 apart.

/// The points of one bucket in one epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Comb {
    /// Sum of the fractions, in units of 2^-32.
    total: u64,
    teeth: u64,
    /// Below the total: where the first tooth is, times the number of teeth.
    start: u64,
}

impl Comb {
    /// `bits` are uniform.
    pub(super) fn new(total: u64, teeth: u64, bits: u64) -> Self {
        let start = ((u128::from(bits) * u128::from(total)) >> 64) as u64;
        Self {
            total,
            teeth,
            start,
        }
    }

    /// Where a point is, below the total.
    pub(crate) fn point(&self, tooth: u64) -> u64 {
        let at = u128::from(tooth) * u128::from(self.total) + u128::from(self.start);
        (at / u128::from(self.teeth)) as u64
    }

    /// How many points are below `end`.
    pub(crate) fn before(&self, end: u64) -> u64 {
        if self.total == 0 {
            return 0;
        }
        let end = u128::from(end) * u128::from(self.teeth);
        let points = end.saturating_sub(self.start.into());
        (points.div_ceil(self.total.into()) as u64).min(self.teeth)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn points_are_inside_and_counted(
            total in prop_oneof![1_u64..200, 1..=u64::MAX], teeth in 1_u64..40, bits: u64, end: u64,
        ) {
            let comb = Comb::new(total, teeth, bits);
            let points: Vec<u64> = (0..teeth).map(|tooth| comb.point(tooth)).collect();
            prop_assert!(points.is_sorted() && points.iter().all(|&point| point < total));
            let apart = points.windows(2).map(|pair| pair[1] - pair[0]);
            prop_assert!(apart.min().is_none_or(|least| least >= total / teeth));
            for end in [end % total, total, points[0], points[0] + 1] {
                let below = points.iter().filter(|&&point| point < end).count() as u64;
                prop_assert_eq!(comb.before(end), below);
            }
        }
    }
}
