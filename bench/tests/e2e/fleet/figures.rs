//! What a fleet of real processes does, in figures. On an idle machine:
//!
//! ```text
//! cargo test --release -p preheat-bench --test e2e -- --ignored --nocapture --test-threads 1 figures
//! ```

use std::time::{Duration, Instant};

use preheat_bench::replica::Replica;
use preheat_client::{DataLoader, balance::View};
use tempfile::TempDir;

use super::{endpoints, over, same};
use crate::{balancer, folder, held_address, replica, replica_at};

/// Relative speeds of the replicas.
const SPEEDS: [f64; 4] = [1.0, 2.0, 5.0, 10.0];
/// Milliseconds a megapixel of the slowest: 82 ms for an image of 64 by 64.
const SLOWEST: f64 = 20_000.0;
/// How long each rate is measured, after as long again to get going.
const MEASURED: Duration = Duration::from_secs(10);
/// Between two kills, and how long they go on.
const KILL_EVERY: Duration = Duration::from_secs(3);
const KILLING: Duration = Duration::from_secs(120);

fn of_speed(speed: f64) -> Replica {
    let pace = SLOWEST / speed;
    replica(&format!("synthetic:ms-per-megapixel={pace},decode=off"))
}

fn endless(folder: &TempDir, endpoint: &str, first: &Replica) -> DataLoader {
    let mut config = over(folder, endpoint, first);
    config.epochs = None;
    config.max_batches_ahead = 64;
    DataLoader::new(config).unwrap()
}

/// Images taken in so much time.
fn take_for(loader: &mut DataLoader, time: Duration) -> f64 {
    let start = Instant::now();
    let before = loader.stats().images;
    while start.elapsed() < time {
        loader.next_batch().unwrap();
    }
    (loader.stats().images - before) as f64
}

/// Images a second, and the share of each replica, once the fleet is known.
fn measure(loader: &mut DataLoader) -> (f64, Vec<f64>) {
    let answered = |view: View| -> Vec<f64> {
        let replicas = view.replicas.iter();
        replicas.map(|one| one.answered_pixels as f64).collect()
    };
    take_for(loader, MEASURED);
    let (start, before) = (Instant::now(), answered(loader.fleet()));
    take_for(loader, MEASURED);
    let (took, after) = (start.elapsed().as_secs_f64(), answered(loader.fleet()));
    let work: Vec<f64> = after.iter().zip(&before).map(|(a, b)| a - b).collect();
    let all: f64 = work.iter().sum();
    let shares = work.iter().map(|one| one / all).collect();
    (all / (64.0 * 64.0) / took, shares)
}

#[test]
#[ignore = "a measurement"]
fn mixed_speeds() {
    let folder = folder(50);
    let replicas: Vec<_> = SPEEDS.iter().map(|&speed| of_speed(speed)).collect();
    let alone = |one: &Replica| measure(&mut endless(&folder, &one.endpoint(), one)).0;
    let singly: Vec<f64> = replicas.iter().map(alone).collect();
    let sum: f64 = singly.iter().sum();
    println!("singly: {singly:.1?} images/s, {sum:.1} in all");
    let all = endpoints(&replicas);
    let relay = balancer(&[&all]);
    for (how, endpoint) in [("direct", all.clone()), ("balancer", relay.endpoint())] {
        let (rate, shares) = measure(&mut endless(&folder, &endpoint, &replicas[0]));
        println!("{how}: {rate:.1} images/s, {:.3} of the sum", rate / sum);
        assert!(rate >= 0.95 * sum);
        if how == "direct" {
            for (share, alone) in shares.iter().zip(&singly) {
                let off = share / (alone / sum) - 1.0;
                println!("  share {share:.4}, {:+.1} % of its speed", off * 100.0);
                assert!(off.abs() <= 0.05, "{off}");
            }
        }
    }
}

fn two_minutes_of_kills(through_balancer: bool) {
    let folder = folder(50);
    let pace = "synthetic:ms-per-megapixel=4000,decode=off";
    let listen = |_| replica_at(pace, &held_address());
    let mut replicas: Vec<_> = (0..3).map(listen).collect();
    let alone = measure(&mut endless(&folder, &replicas[0].endpoint(), &replicas[0])).0;
    let relay = through_balancer.then(|| balancer(&[&endpoints(&replicas)]));
    let all = relay
        .as_ref()
        .map_or_else(|| endpoints(&replicas), Replica::endpoint);
    let mut loader = endless(&folder, &all, &replicas[0]);
    take_for(&mut loader, MEASURED);
    let from = loader.state();
    let before = loader.stats().images;
    let (start, mut away, mut kills) = (Instant::now(), Duration::ZERO, 0);
    let mut batches = Vec::new();
    while start.elapsed() < KILLING {
        batches.extend(loader.next_batch().unwrap());
        if start.elapsed() > KILL_EVERY * (kills + 1) {
            let victim = replicas.remove(0);
            let address = victim.address().to_string();
            let killed = Instant::now();
            victim.kill();
            replicas.push(replica_at(pace, &address));
            away += killed.elapsed();
            kills += 1;
        }
    }
    let took = start.elapsed();
    let images = (loader.stats().images - before) as f64;
    let living = alone * (3.0 * took.as_secs_f64() - away.as_secs_f64());
    println!("{kills} kills in {took:.0?}, replicas away for {away:.1?} in all");
    println!(
        "{images} images, {:.3} of what the living could do",
        images / living
    );
    println!("{:?}", loader.fleet().totals);

    let mut config = over(&folder, &endpoints(&replicas), &replicas[0]);
    (config.resume, config.epochs) = (Some(from), None);
    let mut again = DataLoader::new(config).unwrap();
    let mut expected = Vec::new();
    while expected.len() < batches.len() {
        expected.extend(again.next_batch().unwrap());
    }
    same(&batches, &expected);
    assert!(images >= 0.9 * living);
}

#[test]
#[ignore = "a measurement"]
fn kills() {
    two_minutes_of_kills(false);
}

#[test]
#[ignore = "a measurement"]
fn kills_behind_a_balancer() {
    two_minutes_of_kills(true);
}
