//! The schedule of [`Shuffle::Given`](super::Shuffle::Given).

use super::{Bucket, PlanSpec, layout::Words};

/// Which batch each step delivers, counting through all buckets: each where the last of its entries
/// stands in the list, incomplete ones at the end, in the order of the buckets.
pub(super) fn schedule(spec: &PlanSpec, buckets: &[Bucket], entries: &Words) -> Vec<u32> {
    let batch = u64::from(spec.global_batch);
    let mut seen = vec![0_u64; buckets.len()];
    let mut slots = Vec::new();
    for bucket in entries.iter() {
        let at = bucket as usize;
        seen[at] += 1;
        if seen[at].is_multiple_of(batch) {
            slots.push(buckets[at].first_slot + seen[at] / batch - 1);
        }
    }
    for (bucket, seen) in buckets.iter().zip(seen) {
        slots.extend((seen / batch..bucket.report.batches).map(|at| bucket.first_slot + at));
    }
    slots.into_iter().map(|slot| slot as u32).collect()
}
