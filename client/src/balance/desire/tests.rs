//! The signal by itself, and in a loop with trainers and an autoscaler.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn steady(up: u32, work: f64) -> Demand {
    Demand {
        up,
        capacity: f64::from(up),
        work,
        asked: true,
        ..Demand::default()
    }
}

fn once(demand: &Demand) -> u32 {
    Desire::new(false).update(Duration::ZERO, demand).replicas
}

#[test]
fn enough_for_the_work_with_room_to_spare() {
    assert_eq!(once(&steady(10, 8.5)), 10);
    assert_eq!(once(&steady(10, 8.6)), 11);
    assert_eq!(once(&steady(10, 0.1)), 1);
    let urgent = Demand {
        urgent: 17.0,
        ..steady(10, 8.5)
    };
    assert_eq!(once(&urgent), 12);
    // Ten that are worth eight: ten more are worth eight more.
    let slow = Demand {
        capacity: 8.0,
        ..steady(10, 8.5)
    };
    assert_eq!(once(&slow), 13);
}

#[test]
fn starving_asks_for_a_quarter_more_unless_the_fleet_is_idle() {
    let starving = |up, work| Demand {
        starving: true,
        ..steady(up, work)
    };
    assert_eq!(once(&starving(8, 8.0)), 10);
    assert_eq!(once(&starving(1, 1.0)), 2);
    assert_eq!(once(&starving(8, 5.6)), 10);
    assert_eq!(once(&starving(8, 1.0)), 2);
    let waits = Demand {
        urgent: 0.1,
        ..starving(8, 1.0)
    };
    assert_eq!(once(&waits), 10);
}

#[test]
fn nonsense_is_not_passed_on() {
    for value in [f64::NAN, f64::INFINITY, -1.0] {
        let demand = Demand {
            capacity: value,
            work: value,
            urgent: value,
            ..steady(3, 0.0)
        };
        let desired = Desire::new(false).update(Duration::ZERO, &demand);
        assert_eq!(desired.replicas, 1, "{value}");
        assert!(desired.utilization.is_finite(), "{value}");
    }
    assert_eq!(once(&steady(3, 1e300)), MAX_DESIRED as u32);
}

#[test]
fn it_falls_only_after_a_minute_and_not_to_zero() {
    let mut desire = Desire::new(false);
    assert_eq!(desire.update(SECOND, &steady(10, 8.0)).replicas, 10);
    let little = steady(10, 2.0);
    for second in 2..=60 {
        assert_eq!(desire.update(SECOND * second, &little).replicas, 10);
    }
    assert_eq!(desire.update(SECOND * 61, &little).replicas, 3);
    let nothing = Demand {
        asked: false,
        ..steady(10, 0.0)
    };
    for second in 62..10_000 {
        desire.update(SECOND * second, &nothing);
        assert!(desire.held.len() <= 61);
    }
    assert_eq!(desire.update(SECOND * 10_000, &nothing).replicas, 1);
}

#[test]
fn zero_is_for_those_who_want_it_and_only_after_a_while() {
    let mut desire = Desire::new(true);
    let nothing = Demand {
        asked: false,
        ..steady(1, 0.0)
    };
    desire.update(Duration::ZERO, &steady(1, 0.1));
    let replicas: Vec<_> = (1..=700)
        .map(|second| desire.update(SECOND * second, &nothing).replicas)
        .collect();
    // Ten minutes, and the minute for which everything holds.
    assert_eq!(replicas.iter().position(|n| *n == 0), Some(600 + 58));
    let asked = Demand {
        asked: true,
        ..steady(0, 0.0)
    };
    assert_eq!(desire.update(SECOND * 701, &asked).replicas, 1);
}

#[test]
fn all_lost_at_once_is_not_a_reason_for_fewer() {
    let mut desire = Desire::new(true);
    desire.update(Duration::ZERO, &steady(40, 34.0));
    for second in 1..300 {
        let lost = Demand {
            starving: true,
            ..steady(0, 0.0)
        };
        assert_eq!(desire.update(SECOND * second, &lost).replicas, 40);
    }
}

/// Trainers that take `demand` replica-seconds a second if they get them, and an autoscaler
/// that needs half a minute. What was desired and what was up, by second.
fn closed_loop(demand: impl Fn(u32) -> f64, seconds: u32) -> Vec<(u32, u32)> {
    let mut desire = Desire::new(false);
    let mut course: Vec<(u32, u32)> = Vec::new();
    for second in 0..seconds {
        let asked = |ago| second.checked_sub(ago).map(|at| course[at as usize].0);
        let up = asked(30).unwrap_or(2);
        let wanted = demand(second);
        let state = Demand {
            starving: wanted > f64::from(up),
            ..steady(up, wanted.min(f64::from(up)))
        };
        course.push((desire.update(SECOND * second, &state).replicas, up));
    }
    course
}

#[test]
fn a_closed_loop_grows_until_nobody_starves_and_rests_there() {
    let course = closed_loop(|_| 20.0, 1200);
    let enough = course.iter().position(|(_, up)| *up >= 20).unwrap();
    assert!(enough < 420, "{enough} s to get from 2 to 20");
    let most = course.iter().map(|(desired, _)| *desired).max().unwrap();
    assert!(most <= 25, "{most} were desired where 20 are busy");
    // 20 / 0.85 is 23.5.
    assert!(course[700..].iter().all(|state| *state == (24, 24)));
}

#[test]
fn it_follows_a_demand_that_falls() {
    let course = closed_loop(|second| if second < 900 { 20.0 } else { 5.0 }, 1200);
    assert!(course[900..959].iter().all(|(desired, _)| *desired == 24));
    assert!(course[1000..].iter().all(|(desired, _)| *desired == 6));
}

#[test]
fn a_demand_that_wavers_does_not_shake_it() {
    let wavers = |second: u32| 20.0 + 2.0 * f64::from(second % 7) / 6.0;
    let course = closed_loop(wavers, 1200);
    let settled = course[800].0;
    assert!(course[800..].iter().all(|(desired, _)| *desired == settled));
}
