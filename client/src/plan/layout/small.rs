//! What becomes of buckets with few samples.

use std::cmp::Reverse;

use crate::plan::{Size, SmallBucket, SmallBuckets, bucket::nearness};

pub(super) struct Settled {
    /// For every bucket the one that its samples go to; `None` where they are left out.
    pub(super) moved: Vec<Option<usize>>,
    pub(super) small: Vec<SmallBucket>,
}

pub(super) fn settle(sizes: &[Size], counts: &[u64], rule: SmallBuckets) -> Settled {
    let mut moved: Vec<_> = (0..sizes.len()).map(Some).collect();
    match rule {
        SmallBuckets::Keep => {}
        SmallBuckets::Merge { below } => merge(sizes, counts, below, &mut moved),
        SmallBuckets::Drop { below } => {
            for (to, &count) in moved.iter_mut().zip(counts) {
                if (1..below).contains(&count) {
                    *to = None;
                }
            }
        }
    }
    let small = (0..sizes.len())
        .filter(|&at| moved[at] != Some(at))
        .map(|at| SmallBucket {
            size: sizes[at],
            samples: counts[at],
            into: moved[at].map(|to| sizes[to]),
        })
        .collect();
    Settled { moved, small }
}

fn merge(sizes: &[Size], counts: &[u64], below: u64, moved: &mut [Option<usize>]) {
    let mut counts = counts.to_vec();
    loop {
        let counted = |at: &usize| counts[*at] > 0;
        // A clip of another length would be another clip.
        let others = |small: usize| {
            let alike = move |at: &usize| *at != small && sizes[*at].frames == sizes[small].frames;
            (0..sizes.len()).filter(counted).filter(alike)
        };
        // A bucket that is the only one of its length stays, however small.
        let small = (0..counts.len())
            .filter(|&at| (1..below).contains(&counts[at]) && others(at).next().is_some())
            .min_by_key(|&at| (counts[at], at));
        let Some(small) = small else { return };
        // Of equally near ones the nearest in area, then the first.
        let to = others(small).max_by(|&a, &b| {
            let area = |at: usize| sizes[at].area().abs_diff(sizes[small].area());
            nearness(sizes[a], sizes[b], sizes[small])
                .then_with(|| Reverse((area(a), a)).cmp(&Reverse((area(b), b))))
        });
        let Some(to) = to else { return };
        counts[to] += counts[small];
        counts[small] = 0;
        for at in moved.iter_mut().filter(|at| **at == Some(small)) {
            *at = Some(to);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_goes_first_to_its_neighbour() {
        let sizes = [(4, 8), (6, 7), (8, 8), (7, 6), (8, 4)].map(|(w, h)| Size::new(w, h));
        let counts = [2, 0, 100, 3, 9];
        let settled = settle(&sizes, &counts, SmallBuckets::Merge { below: 10 });
        // 4x8 to 8x8; 7x6 to 8x8, nearer than 8x4; and so, last, 8x4.
        let to: Vec<_> = settled.moved.into_iter().map(Option::unwrap).collect();
        assert_eq!(to, [2, 1, 2, 2, 2]);
        assert_eq!(settled.small.len(), 3);
        assert_eq!(settled.small[0].into, Some(sizes[2]));
    }

    #[test]
    fn chains_end_where_the_last_went() {
        let sizes = [(4, 8), (6, 8), (8, 8)].map(|(w, h)| Size::new(w, h));
        let settled = settle(&sizes, &[1, 2, 50], SmallBuckets::Merge { below: 5 });
        let to: Vec<_> = settled.moved.into_iter().map(Option::unwrap).collect();
        assert_eq!(to, [2, 2, 2]);
    }

    #[test]
    fn clips_stay_as_long_as_they_are() {
        let sizes = [(8, 8, 5), (8, 8, 17), (8, 16, 5)].map(|(w, h, t)| Size::clip(w, h, t));
        let settled = settle(&sizes, &[3, 1, 50], SmallBuckets::Merge { below: 10 });
        assert_eq!(settled.moved, [Some(2), Some(1), Some(2)]);
    }

    #[test]
    fn one_bucket_stays_and_drop_drops() {
        let sizes = [Size::new(8, 8), Size::new(8, 16)];
        let settled = settle(&sizes, &[3, 0], SmallBuckets::Merge { below: 5 });
        assert_eq!(settled.moved, [Some(0), Some(1)]);
        let settled = settle(&sizes, &[3, 7], SmallBuckets::Drop { below: 5 });
        assert_eq!(settled.moved, [None, Some(1)]);
        assert_eq!(settled.small[0].samples, 3);
        assert_eq!(settled.small[0].into, None);
    }
}
