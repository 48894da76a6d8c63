//! What must come, held against what came: a loader that is fast and wrong fails here.

use anyhow::bail;
use preheat_client::{Dataset, plan::Plan};

use super::protocol::{Spec, Step};

/// Samples that an error shows.
const SHOWN: usize = 8;

/// The steps that one trainer has yet to get.
pub(super) struct Expected {
    plan: Plan,
    trainer: u64,
    world_size: u32,
    epoch: u64,
    step: u64,
    /// Samples that came as they should have.
    pub(super) samples: u64,
}

impl Expected {
    /// Of the trainer that has this rank.
    ///
    /// # Errors
    /// Where its loader could make no plan either.
    pub(super) fn new(spec: &Spec, dataset: &Dataset) -> anyhow::Result<Self> {
        let config = spec.config();
        Ok(Self {
            plan: Plan::new(config.plan_spec(), &dataset.delivered(&config)?)?,
            trainer: spec.trainer,
            world_size: spec.world_size,
            epoch: 0,
            step: 0,
            samples: 0,
        })
    }

    /// What all its ranks got in the next step: exactly the plan's samples, in its order.
    ///
    /// # Errors
    /// With the first rank that got anything else.
    pub(super) fn check(&mut self, got: &[Step]) -> anyhow::Result<()> {
        let (epoch, step) = (self.epoch, self.step);
        for (rank, got) in (0..).zip(got) {
            let planned = self.plan.rank_slice(epoch, step, (rank, self.world_size));
            let ids: Vec<u64> = planned.positions.iter().map(|one| one.sample).collect();
            if (got.epoch, got.step) != (epoch, step) || got.ids != ids {
                let trainer = self.trainer;
                let differs = ids.iter().zip(&got.ids).take_while(|(a, b)| a == b).count();
                let from = |ids: &[u64]| {
                    let rest = ids.iter().skip(differs).take(SHOWN);
                    format!("{} samples, from place {differs} on {:?}", ids.len(), {
                        rest.collect::<Vec<_>>()
                    })
                };
                bail!(
                    "not the plan's order: trainer {trainer}, rank {rank} was due epoch {epoch}, \
                     step {step} with {}, and got epoch {}, step {} with {}",
                    from(&ids),
                    got.epoch,
                    got.step,
                    from(&got.ids)
                );
            }
            self.samples += ids.len() as u64;
        }
        (self.epoch, self.step) = if step + 1 == self.plan.steps() {
            (epoch + 1, 0)
        } else {
            (epoch, step + 1)
        };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trainer::tests::spec;
    use preheat_client::BadSamples;

    fn expected(world_size: u32) -> (tempfile::TempDir, Expected) {
        let folder = tempfile::tempdir().unwrap();
        crate::photos::unpack(folder.path(), 48).unwrap();
        let spec = Spec {
            global_batch: 4,
            world_size,
            ..spec(folder.path())
        };
        let dataset = Dataset::open(&spec.config(), BadSamples::Fail, &|_| ()).unwrap();
        (folder, Expected::new(&spec, &dataset).unwrap())
    }

    fn planned(expected: &Expected, epoch: u64, step: u64) -> Vec<Step> {
        let world = expected.world_size;
        let slice = |rank| {
            expected
                .plan
                .rank_slice(epoch, step, (rank, world))
                .positions
        };
        (0..world)
            .map(|rank| Step {
                epoch,
                step,
                ids: slice(rank).iter().map(|one| one.sample).collect(),
                ..Step::default()
            })
            .collect()
    }

    #[test]
    fn two_epochs_of_the_plan_pass() {
        let (_folder, mut expected) = expected(2);
        let steps = expected.plan.steps();
        for (epoch, step) in (0..2).flat_map(|epoch| (0..steps).map(move |step| (epoch, step))) {
            let got = planned(&expected, epoch, step);
            expected.check(&got).unwrap();
        }
        assert_eq!(expected.samples, 2 * steps * 4);
    }

    #[test]
    fn anything_else_is_named() {
        let (_folder, mut expected) = expected(2);
        let right = planned(&expected, 0, 0);
        let mut swapped = right.clone();
        swapped[1].ids.swap(0, 1);
        let mut short = right.clone();
        short[1].ids.pop();
        let mut others = right.clone();
        others.swap(0, 1);
        let skipped = planned(&expected, 0, 1);
        for (wrong, word) in [
            (swapped, "rank 1"),
            (short, "1 samples"),
            (others, "rank 0"),
            (skipped, "got epoch 0, step 1"),
        ] {
            let said = expected.check(&wrong).unwrap_err().to_string();
            assert!(said.contains(word), "{said}");
        }
        expected.check(&right).unwrap();
    }
}
