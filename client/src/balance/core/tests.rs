//! What the balancer does in a small world around it. Time is a number here, so nothing ever waits.

mod suspects;
mod world;

use std::sync::Arc;

use self::world::{MS, Machine, Manner, SECOND, World, served};
use super::*;
use crate::balance::view::Standing;

#[test]
fn work_is_shared_by_speed() {
    for sizes in [&[1 << 20][..], &[1 << 16, 1 << 18, 1 << 20, 1 << 22]] {
        let mut world = World::new(&[2.6e6, 5.2e6, 13e6, 26e6]);
        world.saturate(64, sizes, 20 * SECOND);
        let before: Vec<u64> = world.machines.iter().map(|one| one.done).collect();
        world.saturate(64, sizes, 80 * SECOND);
        for (machine, before) in world.machines.iter().zip(before) {
            let rate = (machine.done - before) as f64 / 60.0;
            let share = rate / machine.speed;
            assert!(
                (0.95..1.05).contains(&share),
                "{} of its {}",
                share,
                machine.speed
            );
        }
    }
}

#[test]
fn a_large_request_waits_for_a_fast_replica() {
    let mut world = World::new(&[1e6, 1e8]);
    world.saturate(8, &[1 << 20], 5 * SECOND);
    world.run(20 * SECOND);
    let slow = world.machines[0].got.len();
    // More than fits the fast one's window, which is through with all of them long before the slow
    // one would be with the first.
    for _ in 0..40 {
        world.ask("trainer", 1 << 20, Duration::ZERO);
    }
    world.run(21 * SECOND);
    assert_eq!(world.machines[0].got.len(), slow);
}

#[test]
fn a_replica_slower_than_any_guess_is_learned() {
    let mut world = World::new(&[1e6, 2e7, 2e7]);
    // It comes when the others are known, and is taken for one like them.
    let slow = world.machines[0].id;
    world.core.away(world.now, slow, "gone");
    world.saturate(100, &[1 << 20], 20 * SECOND);
    world.core.up(world.now, slow, served());
    world.saturate(100, &[1 << 20], 60 * SECOND);
    let before = world.machines[0].done;
    world.saturate(100, &[1 << 20], 160 * SECOND);
    let rate = (world.machines[0].done - before) as f64 / 100.0;
    assert!(rate > 0.9e6, "{rate}");
    assert_eq!(world.standing(0), Standing::Up);
}

#[test]
fn what_a_silent_replica_has_is_tried_elsewhere() {
    let mut world = World::new(&[1e7, 1e7, 1e7]);
    world.saturate(6, &[1 << 20], 5 * SECOND);
    world.machines[0].manner = Manner::Silent;
    let stopped = world.now;
    let asked = world.answers.len();
    for _ in 0..10 {
        world.ask("trainer", 1 << 20, 30 * SECOND);
    }
    world.run(60 * SECOND);
    assert_eq!(world.failures.len(), 0);
    assert_eq!(world.answers.len(), world.pixels.len(), "all are answered");
    let last = world.answers[asked..]
        .iter()
        .map(|&(_, at)| at)
        .max()
        .unwrap();
    // It had a window of work, expected to take 0.4 s; and then the bound on hedges.
    assert!(last < stopped + 3 * SECOND, "{:?}", last - stopped);
    assert_eq!(world.standing(0), Standing::Stalled);
    assert!(world.probes.contains(&world.machines[0].id));
    // It wakes up.
    world.machines[0].manner = Manner::Well;
    let id = world.machines[0].id;
    world.core.up(world.now, id, served());
    assert_eq!(world.standing(0), Standing::Up);
}

#[test]
fn a_slow_call_of_the_only_replica_holds_up_nothing_else() {
    let mut world = World::new(&[1e7]);
    world.machines[0].manner = Manner::Forgets(1 << 20);
    // Its very first: it may have no other by then.
    let slow = world.ask("trainer", 1 << 20, SECOND);
    for _ in 0..20 {
        world.ask("trainer", 1 << 16, SECOND);
    }
    world.run(10 * SECOND);
    assert_eq!(world.answers.len(), 20);
    assert!(!world.answers.iter().any(|&(one, _)| one == slow));
}

#[test]
fn a_silent_replica_that_is_the_only_one_is_not_given_everything() {
    let mut world = World::new(&[1e7]);
    world.saturate(4, &[1 << 20], 5 * SECOND);
    world.machines[0].manner = Manner::Silent;
    for _ in 0..200 {
        world.ask("trainer", 1 << 20, SECOND);
    }
    world.run(world.now + 60 * SECOND);
    let has = world.machines[0].calls.len();
    // A window of work when it stopped, and about one call more with every look at it.
    assert!(has <= 32, "{has} calls of 204");
}

#[test]
fn a_replica_that_fails_fast_attracts_nothing() {
    let mut world = World::new(&[1e7, 1e7, 1e7]);
    world.machines[0].manner = Manner::Faulty;
    for _ in 0..1000 {
        world.ask("trainer", 1 << 16, SECOND);
        world.run(world.now + 10 * MS);
    }
    world.run(world.now + 5 * SECOND);
    assert_eq!((world.answers.len(), world.failures.len()), (1000, 0));
    assert!(
        world.machines[0].got.len() < 10,
        "{} calls",
        world.machines[0].got.len()
    );
    assert_eq!(world.standing(0), Standing::Ejected);
}

#[test]
fn never_is_everybody_ejected() {
    let mut world = World::new(&[1e7; 4]);
    for machine in &mut world.machines {
        machine.manner = Manner::Faulty;
    }
    for _ in 0..100 {
        world.ask("trainer", 1 << 16, SECOND);
        world.run(world.now + 100 * MS);
    }
    let ejected = |world: &mut World| {
        let all = world.view().replicas;
        all.iter()
            .filter(|one| one.standing == Standing::Ejected)
            .count()
    };
    assert_eq!(ejected(&mut world), 2);
    // One that is up goes: one of the ejected has to help.
    let up = (0..4)
        .find(|&one| world.standing(one) == Standing::Up)
        .unwrap();
    let id = world.machines[up].id;
    world.core.away(world.now, id, "gone");
    assert_eq!(ejected(&mut world), 1);
}

#[test]
fn a_replica_that_flatters_itself_gets_what_it_can_do() {
    let mut world = World::new(&[1e6, 1e7]);
    let flatterer = world.machines[0].id;
    let says = Report {
        pixels_per_second: 1e9,
        ..Report::default()
    };
    while world.now < 60 * SECOND {
        while world.view().queue.requests < 64 {
            world.ask("trainer", 1 << 18, 2 * SECOND);
        }
        world.core.report(world.now, flatterer, &says);
        world.run(world.now + 20 * MS);
    }
    let done: Vec<u64> = world.machines.iter().map(|one| one.done).collect();
    assert!(done[1] > 8 * done[0], "{done:?}");
    let reason = world.view().replicas[0].reason.to_string();
    assert!(
        reason.contains("1000.0 megapixels a second, and does 1.0"),
        "{reason}"
    );
}

#[test]
fn full_is_not_broken() {
    let mut world = World::new(&[1e7, 1e7]);
    world.machines[0].manner = Manner::Full;
    for _ in 0..100 {
        world.ask("trainer", 1 << 18, SECOND);
    }
    world.run(20 * SECOND);
    assert_eq!((world.answers.len(), world.failures.len()), (100, 0));
    assert_eq!(world.standing(0), Standing::Up);
    assert_eq!(world.view().replicas[0].faults, 0);
}

#[test]
fn who_is_about_to_starve_goes_first() {
    let mut world = World::new(&[1e7]);
    for _ in 0..40 {
        world.ask("far ahead", 1 << 20, 60 * SECOND);
    }
    let urgent = world.ask("starving", 1 << 20, Duration::ZERO);
    world.run(world.now + SECOND);
    let place = world
        .answers
        .iter()
        .position(|&(id, _)| id == urgent)
        .unwrap();
    assert!(place < 5, "{place}");
}

#[test]
fn urgent_work_is_shared_by_trainer() {
    let mut world = World::new(&[1e7]);
    for _ in 0..300 {
        world.ask("greedy", 1 << 20, Duration::ZERO);
    }
    for _ in 0..30 {
        world.ask("modest", 1 << 20, Duration::ZERO);
    }
    // Time for about 60 of them.
    world.run(world.now + 6 * SECOND);
    let trainers = world.view().trainers;
    let answered: Vec<_> = trainers
        .iter()
        .map(|one| (&*one.name, one.answered))
        .collect();
    assert!(
        answered[1].0 == "modest" && answered[1].1 > 25,
        "{answered:?}"
    );
}

#[test]
fn only_the_pinned_fingerprint_answers() {
    let mut world = World::new(&[1e7, 1e7]);
    let other = Served {
        models: vec![("vae".to_owned(), vec!["other".to_owned()])],
    };
    let first = world.machines[0].id;
    world.core.up(world.now, first, Arc::new(other.clone()));
    for _ in 0..50 {
        world.ask("trainer", 1 << 18, SECOND);
    }
    world.run(10 * SECOND);
    assert_eq!((world.answers.len(), world.machines[0].got.len()), (50, 0));
    let second = world.machines[1].id;
    world.core.up(world.now, second, Arc::new(other));
    world.ask("trainer", 1 << 18, SECOND);
    world.run(world.now + SECOND);
    let (_, error) = &world.failures[0];
    assert_eq!(error.code, Code::WrongFingerprint);
    assert!(error.message.contains("seen: other"), "{error}");
}

#[test]
fn made_up_names_fill_nothing() {
    let mut world = World::new(&[1e7]);
    for number in 0..2 * MAX_GROUPS {
        let ask = Ask {
            model: &format!("model-{number}"),
            fingerprint: "",
            trainer: "stranger",
            weight: 1.0,
            pixels: 1,
            needed_at: world.now,
            ready: None,
        };
        world.core.submit(world.now, &ask).unwrap();
        world.settle();
    }
    assert_eq!(world.failures.len(), 2 * MAX_GROUPS);
    assert_eq!(world.failures[0].1.code, Code::UnknownModel);
    world.ask("trainer", 1 << 18, SECOND);
    world.run(world.now + SECOND);
    assert_eq!(world.answers.len(), 1);
}

#[test]
fn patience_ends_when_nobody_is_there() {
    let mut world = World::new(&[1e7]);
    let id = world.machines[0].id;
    world.core.away(world.now, id, "connection refused");
    world.ask("trainer", 1 << 18, SECOND);
    world.run(100 * SECOND);
    assert!(world.failures.is_empty());
    world.run(130 * SECOND);
    let error = &world.failures[0].1;
    assert_eq!(error.code, Code::Unavailable);
    assert!(
        error
            .message
            .contains("connection refused; gave up after 120s"),
        "{error}"
    );
    assert_eq!(world.view().totals.failed, 1);
}

#[test]
fn a_fleet_that_is_away_for_a_minute_goes_on_by_itself() {
    let mut world = World::new(&[1e7]);
    let id = world.machines[0].id;
    world.core.away(world.now, id, "connection refused");
    for _ in 0..50 {
        world.ask("trainer", 1 << 18, SECOND);
    }
    world.run(60 * SECOND);
    assert!(world.failures.is_empty() && world.answers.is_empty());
    world.core.up(world.now, id, served());
    world.settle();
    // The work of 1.3 s.
    world.run(63 * SECOND);
    assert_eq!((world.answers.len(), world.failures.len()), (50, 0));
}

#[test]
fn a_new_replica_starts_slowly() {
    let mut world = World::new(&[1e7, 1e7]);
    world.saturate(100, &[1 << 18], 10 * SECOND);
    let id = world.core.join(world.now, "http://new");
    world.machines.push(Machine {
        id,
        speed: 1e7,
        manner: Manner::Well,
        calls: Vec::new(),
        ends: Time::MAX,
        done: 0,
        got: Vec::new(),
    });
    world.core.up(world.now, id, served());
    world.settle();
    assert_eq!(world.machines[2].calls.len(), 1);
    world.saturate(100, &[1 << 18], 12 * SECOND);
    assert!(
        world.machines[2].calls.len() > 5,
        "{}",
        world.machines[2].calls.len()
    );
}

#[test]
fn what_is_withdrawn_is_forgotten() {
    let mut world = World::new(&[1e7]);
    let asked: Vec<_> = (0..50)
        .map(|_| world.ask("trainer", 1 << 20, SECOND))
        .collect();
    for id in asked {
        world.core.withdraw(world.now, id);
    }
    world.settle();
    let view = world.view();
    assert_eq!((view.queue.requests, view.queue.pixels), (0, 0));
    assert_eq!(view.replicas[0].outstanding_pixels, 0);
    assert_eq!(view.trainers[0].outstanding_pixels, 0);
    assert!(world.core.requests.is_empty() && world.core.timers.is_empty());
}
