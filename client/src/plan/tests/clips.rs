//! Buckets in time.

use super::*;
use crate::plan::{ClipSpec, Pace, Rate, Start};

/// Videos of one shape that can give so many frames each; `None` cannot be read.
struct Videos(Vec<Option<u32>>);

impl Samples for Videos {
    fn count(&self) -> u64 {
        self.0.len() as u64
    }

    fn size(&self, id: u64) -> Option<Size> {
        self.0[id as usize].map(|_| [Size::new(80, 80), Size::new(160, 80)][id as usize % 2])
    }

    fn frames(&self, id: u64) -> u32 {
        self.0[id as usize].unwrap_or(0)
    }

    fn shard_starts(&self) -> &[u64] {
        &[0]
    }

    fn fingerprint(&self) -> &'static str {
        "videos"
    }
}

fn clips(frames: &[u32]) -> PlanSpec {
    PlanSpec {
        clips: Some(ClipSpec {
            frames: frames.into(),
            pace: Pace::Rate(Rate::new(24, 1)),
            start: Start::Random,
        }),
        ..spec(4, Tail::Short)
    }
}

proptest! {
    #[test]
    fn each_is_in_the_longest_bucket_it_can_give(
        frames in proptest::collection::vec(proptest::option::weighted(0.9, 1_u32..40), 1..120),
    ) {
        let videos = Videos(frames);
        let lengths = [1, 5, 17];
        let plan = Plan::new(clips(&lengths), &videos);
        let Ok(plan) = plan else {
            prop_assert!(videos.0.iter().all(Option::is_none));
            return Ok(());
        };
        let mut seen = 0;
        for step in 0..plan.steps() {
            let batch = plan.global_batch(0, step);
            for position in batch.positions {
                seen += 1;
                let Some(can) = videos.0[position.sample as usize] else { continue };
                let longest = lengths.into_iter().filter(|&one| one <= can).max().unwrap();
                prop_assert_eq!(batch.size.frames, longest);
            }
        }
        prop_assert_eq!(seen, videos.0.len());
    }
}

#[test]
fn what_is_too_short_is_unusable_by_name() {
    let videos = Videos(vec![Some(16), Some(17), Some(1), Some(90), None]);
    let plan = Plan::new(clips(&[17]), &videos).unwrap();
    assert_eq!(plan.unusable(), [0, 2, 4]);
    let sizes: Vec<_> = plan.report().buckets.iter().map(|one| one.size).collect();
    assert!(sizes.iter().all(|size| size.frames == 17), "{sizes:?}");
}

/// A bucket of stills is ordered as one of images is, and clips are ordered apart.
#[test]
fn images_keep_their_order() {
    let videos = Videos(vec![Some(1); 40]);
    let of = |spec: PlanSpec| {
        let plan = Plan::new(spec, &videos).unwrap();
        epoch_ids(&plan, 3, 2)
    };
    let images = of(PlanSpec {
        clips: None,
        ..clips(&[1])
    });
    assert_eq!(of(clips(&[1])), images);
    assert_eq!(of(clips(&[1, 17])), images);
    let long = Videos(vec![Some(17); 40]);
    let plan = Plan::new(clips(&[17]), &long).unwrap();
    assert_ne!(epoch_ids(&plan, 3, 2), images);
}

#[test]
fn too_many_pixels_are_refused_before_anything_is_read() {
    let error = clips(&[1024]);
    let error = PlanSpec {
        buckets: Buckets::Sizes(vec![Size::new(640, 640)]),
        ..error
    };
    let error = error.check().unwrap_err().to_string();
    assert!(
        error.contains("`frames` has 1024, and a clip of 640x640x1024"),
        "{error}"
    );
}
