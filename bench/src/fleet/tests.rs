//! Small fleets, so that every policy goes through every mishap in seconds.

use clap::Parser;

use super::*;

#[derive(Debug, Parser)]
#[command(args_override_self = true)]
struct Cli {
    #[command(flatten)]
    args: Args,
}

const QUICK: [&str; 5] = [
    "fleet",
    "--replicas=12",
    "--seconds=15",
    "--warm-up=3",
    "--step-seconds=1",
];
/// Everything that can befall replicas.
const TROUBLE: [&str; 6] = [
    "--stall-share=0.1",
    "--stall-seconds=1",
    "--crash-every=8",
    "--restart-seconds=2",
    "--wave=0.5@6,1@9",
    "--lying=0.2",
];
const ALL: [Scenario; 3] = [Scenario::Loaded, Scenario::Saturation, Scenario::Starving];

fn args(options: &[&str]) -> Args {
    let all = QUICK.iter().chain(options);
    Cli::try_parse_from(all).unwrap().args
}

fn world(scene: &Scene, kind: Kind) -> Outcome {
    World::new(scene, kind).run(|_| {})
}

#[test]
fn the_seed_decides_everything() {
    let told = |options: &[&str], kind| {
        let scene = args(options).scene(Scenario::Loaded);
        let outcome = world(&scene, kind);
        let tally = &outcome.tally;
        (
            tally.all,
            tally.sends,
            tally.hedges,
            tally.pixels,
            tally.milliseconds(0.5),
            tally.milliseconds(0.99),
        )
    };
    for &kind in Kind::value_variants() {
        let once = told(&TROUBLE, kind);
        assert_eq!(once, told(&TROUBLE, kind), "{kind}");
        let other: Vec<_> = TROUBLE.into_iter().chain(["--rng-seed=1"]).collect();
        assert_ne!(once, told(&other, kind), "{kind}");
    }
}

#[test]
fn every_policy_gets_the_same_requests_and_mishaps() {
    let scene = args(&TROUBLE).scene(Scenario::Loaded);
    let seen = |kind: &Kind| {
        let outcome = world(&scene, *kind);
        (outcome.tally.submitted, outcome.able.to_bits())
    };
    let all: Vec<_> = Kind::value_variants().iter().map(seen).collect();
    assert!(all.windows(2).all(|two| two[0] == two[1]), "{all:?}");
    assert!(all[0].0 > 500);
}

#[test]
fn every_request_ends_once() {
    for scenario in ALL {
        let scene = args(&TROUBLE).scene(scenario);
        for &kind in Kind::value_variants() {
            let outcome = world(&scene, kind);
            let all = outcome.tally.all;
            assert!(all.submitted > 100, "{scenario:?} {kind}: {all:?}");
            assert_eq!(
                all.answered + all.failed,
                all.submitted,
                "{scenario:?} {kind}"
            );
            assert_eq!(all.wrong, 0, "{scenario:?} {kind}");
            assert_eq!(
                all.failed, 0,
                "{scenario:?} {kind}: no request ends replicas"
            );
            let bothered = outcome.tally.retries + outcome.tally.hedges;
            assert!(bothered > 0, "{scenario:?} {kind}: there was no mishap");
        }
    }
}

#[test]
fn nobody_does_more_than_the_fluid_optimum() {
    for options in [&["--noise=0"][..], &TROUBLE] {
        let mut options = options.to_vec();
        options.push("--noise=0");
        let scene = args(&options).scene(Scenario::Saturation);
        for &kind in Kind::value_variants() {
            let outcome = world(&scene, kind);
            // What was begun before the measured time: at most one request a replica.
            let begun = scene.replicas as f64 * 2048.0 * 2048.0;
            let seconds = scene.seconds.as_secs_f64();
            let most = outcome.able * scene.capacity() * seconds + begun;
            assert!(outcome.tally.pixels <= most, "{kind}");
            assert!(outcome.throughput > 0.05, "{kind}");
            assert!(outcome.worked.iter().all(|&share| share <= 1.0), "{kind}");
            assert!(outcome.able <= 1.0);
        }
    }
}

#[test]
fn a_replica_is_a_queue_with_one_server() {
    // What a request takes has the variance of an exponential distribution, so the mean time in the
    // system is that of M/M/1, by Pollaczek and Khinchine: service / (1 - load).
    let options = [
        "--replicas=1",
        "--speeds=1",
        "--sizes=256",
        "--noise=0.832555",
        "--load=0.5",
        "--rtt-ms=4",
        "--seconds=4000",
    ];
    let scene = args(&options).scene(Scenario::Loaded);
    let outcome = world(&scene, Kind::RoundRobin);
    let mean = outcome.tally.completion.mean() / 1e6;
    let service = 65_536.0 / 2.6e6;
    let expected = service / (1.0 - 0.5) + 0.004;
    // 80,000 requests, of which neighbours wait together: four standard errors are 5 %.
    assert!((mean / expected - 1.0).abs() < 0.05, "{mean} {expected}");
    assert!(
        (outcome.worked[0] - 0.5).abs() < 0.02,
        "{:?}",
        outcome.worked
    );
    assert!((outcome.throughput - 0.5).abs() < 0.02);
}

#[test]
fn who_stands_still_does_nothing() {
    let options = ["--stall-share=0.2", "--stall-seconds=1", "--seconds=100"];
    let scene = args(&options).scene(Scenario::Saturation);
    let outcome = world(&scene, Kind::LeastRequests);
    // 12 replicas, unequal, with about 20 stalls each: four standard errors.
    assert!((outcome.able - 0.8).abs() < 0.1, "{}", outcome.able);
    assert!(outcome.throughput < outcome.able + 0.01);
}

#[test]
fn a_loader_that_has_all_it_needs_does_not_wait() {
    let options = ["--speeds=4", "--load=0.3", "--seconds=20", "--look-ahead=4"];
    let scene = args(&options).scene(Scenario::Starving);
    let outcome = world(&scene, Kind::LeastRequests);
    let waits = outcome.waits.unwrap();
    assert_eq!(waits.later, 0.0, "{waits:?}");
    // The first batch cannot be there at once.
    assert!(waits.at_first > 0.0, "{waits:?}");
    assert!(
        waits.caught_up > 0 && waits.caught_up < CATCH_UP,
        "{waits:?}"
    );
}

#[test]
fn all_is_told_and_drawn() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("fleet.png");
    let picture = format!("--picture={}", path.display());
    let options = [
        &picture,
        "--seconds=5",
        "--scenario=saturation,loaded,stalling,starving",
    ];
    let report = serde_json::to_value(run(&args(&options)).unwrap()).unwrap();
    let tables = report["tables"].as_array().unwrap();
    let bounds = tables.iter().find(|table| table["title"] == "Bounds");
    let bounds = bounds.unwrap()["rows"].as_array().unwrap();
    assert_eq!(bounds.len(), 6, "{bounds:?}");
    let policies = tables[0]["rows"].as_array().unwrap();
    assert_eq!(policies.len(), Kind::value_variants().len() + 1);
    let drawn = image::open(&path).unwrap().to_rgb8();
    let colours: std::collections::HashSet<_> = drawn.pixels().collect();
    assert!(colours.len() > 100);
}

#[test]
fn only_what_was_asked_for_runs() {
    let options = ["--policy=ours,random", "--scenario=loaded", "--seconds=2"];
    let report = serde_json::to_value(run(&args(&options)).unwrap()).unwrap();
    let rows = report["tables"][0]["rows"].as_array().unwrap();
    let names: Vec<_> = rows.iter().map(|row| row[0].as_str().unwrap()).collect();
    assert_eq!(names, ["ours", "random", FLUID]);
}

#[test]
fn what_cannot_be_simulated_is_refused() {
    let said = |options: &[&str]| format!("{:#}", run(&args(options)).unwrap_err());
    let few = said(&["--replicas=3"]);
    assert!(few.contains("--replicas 3 are fewer than the 4"), "{few}");
    let fast = said(&["--restart-seconds=1", "--rtt-ms=900"]);
    assert!(fast.contains("two round trips"), "{fast}");
    let jpeg = said(&["--picture=fleet.jpg"]);
    assert!(jpeg.contains("must end in .png"), "{jpeg}");
    for bad in [
        "--load=1.5",
        "--noise=-1",
        "--policy=best",
        "--wave=1",
        "--replicas=0",
    ] {
        assert!(Cli::try_parse_from(["fleet", bad]).is_err(), "{bad}");
    }
}
