use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::load::tally::milliseconds;

/// Answers after what the test says.
struct Scripted<F> {
    asked: AtomicU64,
    answer: F,
}

impl<F: Fn(Instant) -> (Duration, Verdict) + Send + Sync + 'static> Caller for Scripted<F> {
    async fn call(&self, _: u64) -> Answer {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let (after, verdict) = (self.answer)(Instant::now());
        sleep(after).await;
        verdict.into()
    }
}

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

fn step(pace: Pace) -> Step {
    Step {
        pace,
        warmup: SECOND,
        time: 10 * SECOND,
        deadline: 30 * SECOND,
    }
}

fn steady(rate: f64, bound: usize) -> Pace {
    Pace::Open {
        rate,
        seed: 1,
        bound,
    }
}

async fn run<F>(step: Step, answer: F) -> (Arc<Tally>, u64)
where
    F: Fn(Instant) -> (Duration, Verdict) + Send + Sync + 'static,
{
    let caller = Arc::new(Scripted {
        asked: AtomicU64::new(0),
        answer,
    });
    let tally = Arc::new(Tally::new(step.window(), 2, step.deadline));
    drive(&caller, step, &tally, &Stop::new()).await;
    (tally, caller.asked.load(Ordering::Relaxed))
}

#[tokio::test(start_paused = true)]
async fn an_open_loop_sees_a_stall_that_a_closed_one_hides() {
    // Nobody is answered between the third and the fifth second of the step.
    let begin = Instant::now();
    let stall = move |now: Instant| {
        let at = now - begin;
        let stalled = (3 * SECOND..5 * SECOND).contains(&at);
        let after = if stalled {
            5 * SECOND - at
        } else {
            Duration::ZERO
        };
        (after + 10 * MS, Verdict::Whole)
    };
    let (open, _) = run(step(steady(100.0, 1000)), stall).await;
    // A fifth of the calls of ten seconds began in the stall; a tenth waits for a second and more.
    let p95 = milliseconds(&open.state().latency, 0.95).unwrap();
    assert!((500.0..2010.0).contains(&p95), "{p95}");

    let begin = Instant::now();
    let stall = move |now: Instant| {
        let at = now - begin;
        let stalled = (3 * SECOND..5 * SECOND).contains(&at);
        let after = if stalled {
            5 * SECOND - at
        } else {
            Duration::ZERO
        };
        (after + 10 * MS, Verdict::Whole)
    };
    let (closed, _) = run(step(Pace::Closed(1)), stall).await;
    let p95 = milliseconds(&closed.state().latency, 0.95).unwrap();
    assert!(p95 < 20.0, "{p95}");
}

#[tokio::test(start_paused = true)]
async fn latency_counts_from_when_a_call_was_to_begin() {
    // A loop that is held up sends late, and says so.
    let window = step(Pace::Closed(1)).window();
    let tally = Tally::new(window, 2, SECOND);
    sleep_until(window.begin + 40 * MS).await;
    let due = window.begin + 10 * MS;
    tally.sent(due);
    sleep(20 * MS).await;
    tally.answered(due, &Verdict::Whole.into());
    let state = tally.state();
    let within = |seen: Option<f64>, wanted: f64| (seen.unwrap() / wanted - 1.0).abs() < 0.001;
    assert!(within(milliseconds(&state.latency, 1.0), 50.0));
    assert!(within(milliseconds(&state.lag, 1.0), 30.0));
}

#[tokio::test(start_paused = true)]
async fn what_is_past_the_bound_is_not_sent_and_is_counted() {
    let (tally, asked) = run(step(steady(50.0, 5)), |_| (SECOND, Verdict::Whole)).await;
    let counts = tally.state().counts.clone();
    assert!(counts.not_sent > 300, "{counts:?}");
    assert_eq!(counts.offered, counts.not_sent + counts.whole);
    assert_eq!(tally.state().most_in_flight, 5);
    assert_eq!(tally.state().in_flight, 0);
    // Those of the warm-up were asked too.
    assert!(asked > counts.sent() && asked <= 60, "{asked}");
}

#[tokio::test(start_paused = true)]
async fn refusals_are_not_tried_again_in_an_open_loop_and_waited_out_in_a_closed_one() {
    let busy = |_| (MS, Verdict::Busy(Some(SECOND)));
    let (tally, asked) = run(step(steady(50.0, 100)), busy).await;
    let counts = tally.state().counts.clone();
    assert_eq!((counts.busy, counts.images), (counts.offered, 0));
    assert!((400..700).contains(&asked), "{asked}");
    let (_, asked) = run(step(Pace::Closed(3)), busy).await;
    // Eleven seconds, a call a second in each of three slots.
    assert_eq!(asked, 33);
    let silent = |_| (MS, Verdict::Busy(None));
    let (tally, _) = run(step(Pace::Closed(1)), silent).await;
    let counts = tally.state().counts.clone();
    assert!(counts.busy > 0 && counts.without_pushback == counts.busy);
}

#[tokio::test(start_paused = true)]
async fn late_answers_are_whole_and_not_good() {
    let late = Step {
        deadline: SECOND,
        ..step(Pace::Closed(1))
    };
    let (tally, _) = run(late, |_| (1050 * MS, Verdict::Whole)).await;
    let counts = tally.state().counts.clone();
    assert!(counts.late == 0 && counts.images == 2 * 10, "{counts:?}");
    let (tally, _) = run(late, |_| (1200 * MS, Verdict::Whole)).await;
    let counts = tally.state().counts.clone();
    assert!(counts.late == counts.whole && counts.images == 0 && counts.whole > 0);
}

#[tokio::test(start_paused = true)]
async fn a_stopped_run_ends_though_nobody_answers() {
    let step = step(steady(50.0, 100));
    let caller = Arc::new(Scripted {
        asked: AtomicU64::new(0),
        answer: |_| (3600 * SECOND, Verdict::Whole),
    });
    let tally = Arc::new(Tally::new(step.window(), 2, step.deadline));
    let stop = Stop::new();
    let begin = Instant::now();
    let stopping = async {
        sleep(2 * SECOND).await;
        stop.now("first");
        stop.now("second");
    };
    tokio::join!(drive(&caller, step, &tally, &stop), stopping);
    assert!(begin.elapsed() < 4 * SECOND);
    assert_eq!(stop.reason().unwrap(), "first");
    // And without being told, too: every wait has a bound.
    let stop = Stop::new();
    let tally = Arc::new(Tally::new(step.window(), 2, step.deadline));
    let begin = Instant::now();
    drive(&caller, step, &tally, &stop).await;
    assert!(begin.elapsed() < 60 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn failing_connections_are_silence_until_somebody_answers() {
    let window = step(Pace::Closed(1)).window();
    let tally = Tally::new(window, 2, SECOND);
    let answer = |verdict: Verdict| {
        tally.sent(Instant::now());
        tally.answered(Instant::now(), &verdict.into());
    };
    answer(Verdict::Lost("gone".into()));
    sleep(3 * SECOND).await;
    answer(Verdict::Deadline);
    assert_eq!(tally.silent(), 3 * SECOND);
    answer(Verdict::Busy(None));
    assert_eq!(tally.silent(), Duration::ZERO);
}
