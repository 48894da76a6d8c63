//! A fleet of real processes that are killed, paused and of mixed speed, called by the loader itself and
//! through a balancer.

mod figures;

use std::time::{Duration, Instant};

use preheat_bench::replica::Replica;
use preheat_client::{Batch, Config, DataLoader, balance::Standing};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::{balancer, browser, config, folder, held_address, replica, replica_at, run};

/// The bound on a wait for a replica that is paused: what it was given was expected to take a window,
/// may be late by the bound on hedges, and is then done elsewhere; and the machine is busy.
const HEDGED_WITHIN: Duration = Duration::from_secs(5);
/// How late a replica that returns may be noticed.
const BACK_WITHIN: Duration = Duration::from_secs(5);
/// How late one that is gone may be shown.
const GONE_WITHIN: Duration = Duration::from_secs(3);

fn endpoints(replicas: &[Replica]) -> String {
    let all: Vec<_> = replicas.iter().map(Replica::endpoint).collect();
    all.join(",")
}

/// Calls of one image: the more of them, the more there is to lose.
fn over(folder: &TempDir, endpoint: &str, first: &Replica) -> Config {
    Config {
        endpoint: endpoint.to_owned(),
        chunk_items: Some(1),
        max_batches_ahead: 8,
        ..config(folder, first)
    }
}

fn signal(replica: &Replica, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(replica.id()).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

/// Waits for something that must come, and says how long it took.
fn within(bound: Duration, what: &str, mut holds: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < bound, "not within {bound:?}: {what}");
        std::thread::yield_now();
    }
    start.elapsed()
}

fn same(batches: &[Batch], expected: &[Batch]) {
    assert_eq!(batches.len(), expected.len());
    for (batch, expected) in batches.iter().zip(expected) {
        assert_eq!((batch.epoch, batch.step), (expected.epoch, expected.step));
        assert_eq!(batch.samples, expected.samples);
        assert!(batch.latents == expected.latents, "step {}", batch.step);
    }
}

/// An epoch in which about every second another replica is killed and started again.
fn survives_kills(through: impl Fn(&str) -> (String, Option<Replica>)) {
    let model = "synthetic:ms-per-megapixel=8000";
    let folder = folder(40);
    let listen = |_| replica_at(model, &held_address());
    let mut replicas: Vec<_> = (0..3).map(listen).collect();
    let undisturbed = run(over(&folder, &replicas[0].endpoint(), &replicas[0]));
    let (endpoint, _balancer) = through(&endpoints(&replicas));
    let mut loader = DataLoader::new(over(&folder, &endpoint, &replicas[0])).unwrap();
    let mut batches = Vec::new();
    let mut kills = 0;
    while let Some(batch) = loader.next_batch().unwrap() {
        batches.push(batch);
        if batches.len() % 24 == 12 {
            let victim = replicas.remove(0);
            let address = victim.address().to_string();
            victim.kill();
            replicas.push(replica_at(model, &address));
            kills += 1;
        }
    }
    assert!(kills >= 8, "{kills}");
    same(&batches, &undisturbed);
}

#[test]
fn an_epoch_survives_the_death_of_one_replica_after_another() {
    survives_kills(|all| (all.to_owned(), None));
}

#[test]
fn so_it_does_through_a_balancer() {
    survives_kills(|all| {
        let balancer = balancer(&[all]);
        (balancer.endpoint(), Some(balancer))
    });
}

#[test]
fn a_paused_replica_holds_nothing_up_and_works_again_when_it_goes_on() {
    let model = "synthetic:ms-per-megapixel=2000";
    let folder = folder(20);
    let replicas: Vec<_> = (0..3).map(|_| replica(model)).collect();
    let mut config = over(&folder, &endpoints(&replicas), &replicas[0]);
    config.epochs = None;
    let mut loader = DataLoader::new(config).unwrap();
    for _ in 0..20 {
        loader.next_batch().unwrap();
    }
    signal(&replicas[0], Signal::STOP);
    let name = replicas[0].endpoint();
    let view = |loader: &DataLoader| {
        let fleet = loader.fleet();
        fleet
            .replicas
            .into_iter()
            .find(|one| *one.name == *name)
            .unwrap()
    };
    let mut longest = Duration::ZERO;
    let paused = Instant::now();
    while view(&loader).standing == Standing::Up || paused.elapsed() < Duration::from_secs(2) {
        let asked = Instant::now();
        loader.next_batch().unwrap();
        longest = longest.max(asked.elapsed());
        assert!(paused.elapsed() < 2 * HEDGED_WITHIN, "nobody noticed");
    }
    assert!(longest < HEDGED_WITHIN, "{longest:?}");
    let before = view(&loader).answered_calls;
    signal(&replicas[0], Signal::CONT);
    within(BACK_WITHIN, "it works again", || {
        loader.next_batch().unwrap();
        view(&loader).answered_calls > before + 5
    });
}

#[test]
fn the_status_page_shows_who_is_gone() {
    let listen = |_| replica_at("synthetic", &held_address());
    let mut replicas: Vec<_> = (0..3).map(listen).collect();
    let balancer = balancer(&[&endpoints(&replicas)]);
    let page = balancer.page().unwrap().to_owned();
    let data = format!("{page}view.json");
    let count = |word: &str| {
        let view: serde_json::Value = serde_json::from_str(&browser::get(&data)).unwrap();
        let replicas = view["replicas"].as_array().unwrap().clone();
        let here = replicas.iter().filter(|one| one["standing"] == word);
        here.count()
    };
    within(Duration::from_secs(10), "all are up", || count("up") == 3);
    let shown = browser::dom(&page);
    for replica in &replicas {
        assert!(shown.contains(&replica.endpoint()), "{shown}");
    }
    let gone = replicas.remove(0);
    let name = gone.endpoint();
    gone.kill();
    let took = within(GONE_WITHIN, "it is gone", || count("away") == 1);
    let shown = browser::dom(&page);
    let row = shown.split("<tr").find(|row| row.contains(&name)).unwrap();
    assert!(row.contains("away"), "after {took:?}: {row}");
}
