//! One order, whatever the number of ranks, and from any step.

use preheat_bench::replica::Replica;
use preheat_client::{Batch, Config, DataLoader};
use tempfile::TempDir;

use crate::{config, folder, replica, run};

/// The ids of every step, over all ranks of a world.
fn steps(world_size: u32, config: &Config) -> Vec<Vec<u64>> {
    let ranks: Vec<Vec<Batch>> = (0..world_size)
        .map(|rank| {
            run(Config {
                rank,
                world_size,
                ..config.clone()
            })
        })
        .collect();
    (0..ranks[0].len())
        .map(|step| {
            ranks
                .iter()
                .flat_map(|batches| batches[step].ids())
                .collect()
        })
        .collect()
}

fn two_epochs(folder: &TempDir, replica: &Replica) -> Config {
    Config {
        global_batch: 8,
        epochs: Some(2),
        ..config(folder, replica)
    }
}

#[test]
fn ranks_together_deliver_the_same_steps_at_every_world_size() {
    let (folder, replica) = (folder(2), replica("synthetic"));
    let config = two_epochs(&folder, &replica);
    let one = steps(1, &config);
    assert_eq!(steps(1, &config), one, "from run to run");
    assert_eq!(steps(2, &config), one, "world size 2");
    assert_eq!(steps(4, &config), one, "world size 4");

    let (first, second) = one.split_at(one.len() / 2);
    assert_ne!(first, second, "epochs differ");
    assert_ne!(steps(1, &Config { seed: 1, ..config }), one, "seeds differ");
    for epoch in [first, second] {
        let mut ids = epoch.concat();
        ids.sort_unstable();
        assert_eq!(ids, (0..48).collect::<Vec<u64>>(), "every sample once");
    }
}

#[test]
fn a_run_resumes_at_another_world_size_with_the_same_latents() {
    let (folder, replica) = (folder(2), replica("synthetic"));
    let config = two_epochs(&folder, &replica);
    let whole = run(config.clone());
    for done in [1, 5, 6, 9] {
        let mut loader = DataLoader::new(config.clone()).unwrap();
        let mut taken = 0;
        while taken < done {
            // `None` between the epochs is not a batch.
            taken += usize::from(loader.next_batch().unwrap().is_some());
        }
        let state = preheat_client::State::from_json(&loader.state().to_json()).unwrap();
        drop(loader);
        let (epoch, step) = (state.epoch, state.step);
        let mut resumed: Vec<DataLoader> = (0..2)
            .map(|rank| {
                let resume = Some(state.clone());
                DataLoader::new(Config {
                    rank,
                    world_size: 2,
                    resume,
                    ..config.clone()
                })
                .unwrap()
            })
            .collect();
        let at = whole
            .iter()
            .position(|b| (b.epoch, b.step) >= (epoch, step))
            .unwrap();
        assert_eq!(at, done);
        let mut parts = resumed.iter_mut().map(|loader| {
            loop {
                if let Some(batch) = loader.next_batch().unwrap() {
                    break batch;
                }
            }
        });
        let (low, high) = (parts.next().unwrap(), parts.next().unwrap());
        assert_eq!(
            [low.ids(), high.ids()].concat(),
            whole[at].ids(),
            "after {done} batches"
        );
        let latents = [&low.latents.data[..], &high.latents.data[..]].concat();
        assert!(
            latents == whole[at].latents.data,
            "latents after {done} batches"
        );
    }
}
