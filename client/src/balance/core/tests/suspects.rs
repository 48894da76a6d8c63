//! What ends replicas is failed by name, and nothing else is, whoever was aboard with it.

use super::*;
use crate::balance::types::{Outcome, ReplicaId, Time};

const PIXELS: u64 = 1 << 20;
const POISON: u64 = 13;

fn only_failure(world: &World, poison: RequestId) {
    let failed: Vec<_> = world.failures.iter().map(|(id, _)| *id).collect();
    assert_eq!(failed, [poison]);
    let error = &world.failures[0].1;
    assert!(error.message.contains("http://replica-"), "{error}");
}

/// A replica ended, as one of the requests that it had is told.
fn ends(world: &mut World, replica: ReplicaId, request: RequestId) {
    let machine = world.machine(replica);
    machine.calls.retain(|&aboard| aboard != request);
    machine.ends = Time::MAX;
    let (underway, reason) = (true, "reset".into());
    world.reports(request, replica, Outcome::Away { underway, reason });
}

/// It answers when it is asked how it is, perhaps as another process.
fn back(world: &mut World, machine: usize) {
    let (now, id) = (world.now, world.machines[machine].id);
    world.core.up(now, id, served());
    world.settle();
}

/// Two replicas that are late, and two requests under way on both of them: a second attempt of each.
fn two_on_both(pixels: [u64; 2]) -> (World, [ReplicaId; 2], [RequestId; 2]) {
    let mut world = World::new(&[1e7; 2]);
    world.saturate(6, &[PIXELS], 5 * SECOND);
    world.run(world.now + 10 * SECOND);
    for machine in &mut world.machines {
        machine.manner = Manner::Silent;
    }
    let asked = pixels.map(|pixels| world.ask("trainer", pixels, SECOND));
    let replicas = [0, 1].map(|one| world.machines[one].id);
    while world.machines.iter().any(|one| one.calls.len() < 2) {
        assert!(world.now < 60 * SECOND, "no second attempts");
        world.run(world.now + 10 * MS);
    }
    (world, replicas, asked)
}

#[test]
fn poison_ends_two_replicas_and_no_third() {
    let mut world = World::new(&[1e7; 6]);
    for machine in &mut world.machines {
        machine.manner = Manner::EndsBy(13);
    }
    let mut asked = Vec::new();
    for number in 0..200 {
        asked.push(world.ask("trainer", if number == 100 { 13 } else { 1 << 18 }, SECOND));
    }
    world.run(30 * SECOND);
    let gone = world.view().replicas;
    let gone = gone
        .iter()
        .filter(|one| one.standing == Standing::Away)
        .count();
    assert_eq!(gone, 2);
    assert_eq!(world.answers.len(), 199);
    only_failure(&world, asked[100]);
}

#[test]
fn a_second_attempt_of_another_does_not_meet_the_poison_again() {
    let mut world = World::new(&[1e7; 2]);
    world.saturate(6, &[PIXELS], 5 * SECOND);
    world.run(world.now + 10 * SECOND);
    for machine in &mut world.machines {
        machine.manner = Manner::EndsBy(POISON);
        // Half a minute for what was expected to take 0.1 s, so that it is tried on both.
        machine.speed = PIXELS as f64 / 30.0;
    }
    let innocent = world.ask("trainer", PIXELS, SECOND);
    let asked = world.now;
    while world.machines.iter().any(|one| one.calls.is_empty()) {
        assert!(world.now < asked + 20 * SECOND, "no second attempt");
        world.run(world.now + 10 * MS);
    }
    let poison = world.ask("trainer", POISON, SECOND);
    while world.now < asked + 60 * SECOND {
        world.run(world.now + SECOND);
        for one in [0, 1] {
            // It is slow, and says so when it is asked.
            if world.standing(one) == Standing::Stalled {
                back(&mut world, one);
            }
        }
    }
    only_failure(&world, poison);
    assert_eq!(world.answers.last().unwrap().0, innocent);
}

#[test]
fn of_two_that_are_on_the_next_replica_already_one_is_called_back() {
    for poison_first in [true, false] {
        let pixels = if poison_first {
            [POISON, PIXELS]
        } else {
            [PIXELS, POISON]
        };
        let (mut world, [first, second], asked) = two_on_both(pixels);
        let [poison, innocent] = if poison_first {
            asked
        } else {
            [asked[1], asked[0]]
        };
        for request in asked {
            ends(&mut world, first, request);
        }
        assert_eq!(world.machine(second).calls.len(), 1);
        if world.machine(second).calls == [poison] {
            ends(&mut world, second, poison);
            only_failure(&world, poison);
        }
        for one in [0, 1] {
            world.machines[one].manner = Manner::EndsBy(POISON);
            let (now, id) = (world.now, world.machines[one].id);
            world.begin(id, now);
            back(&mut world, one);
        }
        world.run(world.now + 60 * SECOND);
        only_failure(&world, poison);
        assert!(world.answers.iter().any(|(id, _)| *id == innocent));
    }
}

#[test]
fn who_is_not_told_yet_of_the_end_is_suspect_too() {
    let mut world = World::new(&[1e7; 2]);
    world.saturate(6, &[PIXELS], 5 * SECOND);
    world.run(world.now + 10 * SECOND);
    // One has work for seconds. The other gets both, and is late with them: second attempts wait.
    let long = world.ask("trainer", 64 * PIXELS, SECOND);
    let busy = world.machines.iter().position(|one| !one.calls.is_empty());
    let [first, second] = [1 - busy.unwrap(), busy.unwrap()].map(|one| world.machines[one].id);
    world.machine(first).manner = Manner::Silent;
    let [told, untold] = [0; 2].map(|_| world.ask("trainer", PIXELS, SECOND));
    world.run(world.now + 4 * SECOND);
    assert_eq!(world.machine(first).calls, [told, untold]);
    ends(&mut world, first, told);
    // It was silent for long: what it had is taken back, and says nothing more.
    assert!(world.machine(first).calls.is_empty());
    for one in [told, untold] {
        assert_eq!(world.core.requests[&one].deaths, [first]);
    }
    while world.answers.last().unwrap().0 != long {
        world.run(world.now + 10 * MS);
    }
    assert_eq!(world.machine(second).calls.len(), 1);
}

#[test]
fn late_word_of_an_end_says_nothing_of_who_is_back() {
    let mut world = World::new(&[1e7]);
    world.saturate(6, &[PIXELS], 5 * SECOND);
    world.run(world.now + 10 * SECOND);
    world.machines[0].manner = Manner::Silent;
    let [first, late] = [0; 2].map(|_| world.ask("trainer", PIXELS, SECOND));
    let id = world.machines[0].id;
    ends(&mut world, id, first);
    assert_eq!(world.standing(0), Standing::Away);
    back(&mut world, 0);
    // The first ends it again: of the other nobody has said anything, and it was aboard once.
    world.run(world.now + 20 * SECOND);
    assert_eq!(world.core.replica(id).unwrap().aboard, [late, first]);
    ends(&mut world, id, first);
    assert_eq!(world.core.requests[&first].deaths, [id, id]);
    assert_eq!(world.core.requests[&late].deaths, [id]);
    back(&mut world, 0);
    ends(&mut world, id, late);
    assert_eq!(world.standing(0), Standing::Up);
}

#[test]
fn silence_is_nobodys_fault() {
    let (mut world, replicas, asked) = two_on_both([PIXELS; 2]);
    world.run(world.now + 10 * SECOND);
    let stalled = [0, 1].map(|one| world.standing(one) == Standing::Stalled);
    let stalled = replicas[stalled.iter().position(|&one| one).unwrap()];
    // They were aboard when these two ended, which something else explained at the time.
    for id in asked {
        world.core.requests.get_mut(&id).unwrap().deaths = replicas.to_vec();
    }
    world.core.away(world.now, stalled, "it does not answer");
    world.settle();
    assert!(world.failures.is_empty(), "{:?}", world.failures);
}
