//! Which bucket a sample goes to, fast: a search among thresholds instead of a look at every size.
//!
//! Sizes are sorted by aspect ratio. Between two neighbouring ratios the line is their geometric
//! mean, compared in integers, so the choice is that of [`nearest`](super::nearest) exactly.

use std::cmp::Reverse;

use super::{Buckets, Size};

/// Sizes of one aspect ratio: indices into the list of all sizes, by area and then by index.
type Group = Vec<usize>;

/// The sizes that compete by aspect ratio alone.
struct Tier {
    groups: Vec<Group>,
    /// Between group `i` and the next: the products of their widths and of their heights.
    lines: Vec<(u128, u128)>,
}

/// Assigns samples to buckets by the rule of [`Buckets`].
pub(crate) struct Chooser {
    sizes: Vec<Size>,
    tiers: Vec<Tier>,
    /// Whether equal aspect ratios are told apart by what would enlarge the image.
    by_area: bool,
}

impl Chooser {
    pub(crate) fn new(buckets: &Buckets) -> Self {
        let sizes = buckets.sizes();
        let tiers = buckets.tiers();
        Self {
            tiers: tiers.iter().map(|tier| Tier::new(&sizes, tier)).collect(),
            sizes,
            by_area: matches!(buckets, Buckets::Sizes(_)),
        }
    }

    /// All sizes, ascending.
    pub(crate) fn sizes(&self) -> &[Size] {
        &self.sizes
    }

    /// Index into [`Self::sizes`] of the bucket for a source.
    pub(crate) fn choose(&self, source: Size) -> usize {
        let of_tier = |tier: &Tier| {
            let nearest = tier.nearest(source);
            if self.by_area {
                nearest.max_by_key(|&at| self.fit(source, at))
            } else {
                nearest.max_by_key(|&at| (self.sizes[at].area(), Reverse(at)))
            }
        };
        let chosen = match &self.tiers[..] {
            [tier] => of_tier(tier),
            tiers => tiers
                .iter()
                .filter_map(of_tier)
                .max_by_key(|&at| self.fit(source, at)),
        };
        chosen.unwrap_or(0)
    }

    /// Ranks the largest that does not enlarge first, or else the smallest; the first of equals.
    fn fit(&self, source: Size, at: usize) -> (bool, i128, Reverse<usize>) {
        let size = self.sizes[at];
        let fits = size.width <= source.width && size.height <= source.height;
        let area = i128::from(size.area());
        (fits, if fits { area } else { -area }, Reverse(at))
    }
}

impl Tier {
    fn new(all: &[Size], tier: &[Size]) -> Self {
        let mut members: Vec<usize> = (0..all.len())
            .filter(|&at| tier.contains(&all[at]))
            .collect();
        let cross = |a: Size, b: Size| u64::from(a.width) * u64::from(b.height);
        let by_aspect = |a: Size, b: Size| cross(a, b).cmp(&cross(b, a));
        // Stable, so indices ascend within a group.
        members.sort_by(|&a, &b| by_aspect(all[a], all[b]));
        let groups: Vec<Group> = members
            .chunk_by(|&a, &b| by_aspect(all[a], all[b]).is_eq())
            .map(<[usize]>::to_vec)
            .collect();
        let product = |a: u32, b: u32| u128::from(a) * u128::from(b);
        let lines = groups
            .windows(2)
            .map(|pair| (all[pair[0][0]], all[pair[1][0]]))
            .map(|(a, b)| (product(a.width, b.width), product(a.height, b.height)))
            .collect();
        Self { groups, lines }
    }

    /// All sizes of the nearest aspect ratio, or of the two that are equally near.
    fn nearest(&self, source: Size) -> impl Iterator<Item = usize> + '_ {
        let width = u128::from(source.width).pow(2);
        let height = u128::from(source.height).pow(2);
        let wider = |&(w, h): &(u128, u128)| width * h > height * w;
        let at = self.lines.partition_point(wider);
        let tie = self
            .lines
            .get(at)
            .is_some_and(|&(w, h)| width * h == height * w);
        let last = at + usize::from(tie);
        self.groups[at..=last].iter().flatten().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{buckets, nearest};
    use proptest::prelude::*;

    fn size() -> impl Strategy<Value = Size> {
        // Small sides make ties, large ones overflow.
        prop_oneof![1_u32..40, 1_u32..33_000, Just(u32::MAX)].prop_flat_map(|w| {
            prop_oneof![1_u32..40, 1_u32..33_000, Just(u32::MAX)].prop_map(move |h| Size::new(w, h))
        })
    }

    proptest! {
        #[test]
        fn equals_the_plain_search(side in 64_u64..2048, source in size(), aspect in 1.0..8.0) {
            for step in [8, 64] {
                let (area, max_aspect) = (side * side, aspect);
                let sizes = buckets(area, step, max_aspect);
                let chooser = Chooser::new(&Buckets::Aspect { area, step, max_aspect });
                prop_assert_eq!(chooser.choose(source), nearest(&sizes, source));
            }
        }

        #[test]
        fn equals_the_plain_search_between_equals(w in 1_u32..9, h in 1_u32..9) {
            // 1:1 and 4:1 are equally far from 2:1.
            let sizes = [Size::new(8, 8), Size::new(32, 8), Size::new(8, 32)];
            let tier = Tier::new(&sizes, &sizes);
            let found: Vec<_> = tier.nearest(Size::new(w, h)).collect();
            prop_assert!(found.contains(&nearest(&sizes, Size::new(w, h))));
        }

        #[test]
        fn lists_go_by_aspect_then_area(
            list in proptest::collection::btree_set((1_u32..20, 1_u32..20), 1..12),
            w in 1_u32..24, h in 1_u32..24,
        ) {
            let sizes: Vec<_> = list.into_iter().map(|(w, h)| Size::new(w, h)).collect();
            let source = Size::new(w, h);
            let chosen = Chooser::new(&Buckets::Sizes(sizes.clone())).choose(source);
            let off = |size: Size| {
                let (a, b) = (size.width * h, size.height * w);
                (a.max(b), a.min(b))
            };
            let fits = |size: Size| size.width <= w && size.height <= h;
            let (near, taken) = (off(sizes[chosen]), sizes[chosen]);
            for size in sizes {
                let here = off(size);
                prop_assert!(near.0 * here.1 <= here.0 * near.1, "{size} is nearer than {taken}");
                if near.0 * here.1 == here.0 * near.1 {
                    let better = if fits(taken) {
                        fits(size) && size.area() > taken.area()
                    } else {
                        fits(size) || size.area() < taken.area()
                    };
                    prop_assert!(!better, "{size} is better than {taken} for {source}");
                }
            }
        }
    }

    #[test]
    fn several_areas_do_not_enlarge_where_avoidable() {
        let rule = Buckets::Areas {
            areas: vec![1024 * 1024, 256 * 256, 512 * 512],
            step: 64,
            max_aspect: 2.0,
        };
        let chooser = Chooser::new(&rule);
        let pick = |w, h| chooser.sizes()[chooser.choose(Size::new(w, h))].to_string();
        assert_eq!(pick(4000, 4000), "1024x1024");
        assert_eq!(pick(1023, 1023), "512x512");
        assert_eq!(pick(300, 300), "256x256");
        assert_eq!(pick(100, 100), "256x256");
        assert_eq!(pick(1000, 500), "640x384");
        assert_eq!(pick(1408, 704), "1408x704");
    }
}
