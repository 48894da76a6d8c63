use super::*;
use proptest::prelude::*;

fn spec(frames: &[u32], pace: Pace, start: Start) -> ClipSpec {
    ClipSpec {
        frames: frames.into(),
        pace,
        start,
    }
}

fn rate(text: &str) -> Pace {
    Pace::Rate(Rate::parse(text).unwrap())
}

/// A video of `frames` at a constant rate, with timestamps rounded to its ticks.
fn video(frames: u32, shown: Rate, time_base: (u32, u32)) -> (Extent, Vec<i64>) {
    let at = |number: u32| {
        let ticks = i128::from(number) * i128::from(shown.seconds) * i128::from(time_base.1);
        let of = i128::from(shown.frames) * i128::from(time_base.0);
        i64::try_from((2 * ticks + of).div_euclid(2 * of)).unwrap()
    };
    let extent = Extent {
        time_base,
        frames,
        first: 0,
        end: at(frames),
    };
    (extent, (0..frames).map(at).collect())
}

#[test]
fn rates_are_read_exactly() {
    let read = |text| Rate::parse(text).map(|rate| rate.to_string());
    assert_eq!(read("24").unwrap(), "24");
    assert_eq!(read("24000/1001").unwrap(), "24000/1001");
    assert_eq!(read("12.50").unwrap(), "25/2");
    assert_eq!(read("0.5").unwrap(), "1/2");
    for odd in [
        "", "0", "0/1", "1/0", "-1", "1e3", "a", "1/2/3", "1.2.3", "NaN",
    ] {
        assert_eq!(read(odd), None, "{odd}");
    }
}

#[test]
fn equal_rates_take_every_frame_whatever_the_container_rounds_to() {
    for (text, time_base) in [
        ("24", (1, 1000)),
        ("30000/1001", (1, 1000)),
        ("24000/1001", (1001, 24_000)),
        ("25", (1, 12_800)),
        ("60", (1, 90_000)),
        ("24", (1, 24)),
        ("24", (1, 12_800)),
        ("30000/1001", (1001, 30_000)),
    ] {
        let shown = Rate::parse(text).unwrap();
        let (extent, times) = video(100, shown, time_base);
        let first = spec(&[81], rate(text), Start::First);
        assert_eq!(first.capacity(&extent), 100, "{text}");
        let pick = first.pick((0, 0, 0), (&extent, &times), (100, None));
        assert!(pick.frames.iter().copied().eq(0..100), "{text}: {pick:?}");
        let random = spec(&[81], rate(text), Start::Random);
        for sample in 0..50 {
            let pick = random.pick((1, 2, sample), (&extent, &times), (81, None));
            let start = pick.frames[0];
            assert!(pick.frames.iter().copied().eq(start..start + 81), "{text}");
        }
    }
}

#[test]
fn slower_videos_repeat_and_faster_ones_skip() {
    let (extent, times) = video(10, Rate::new(12, 1), (1, 1200));
    let spec = |text| spec(&[4], rate(text), Start::First);
    let pick = spec("24").pick((0, 0, 0), (&extent, &times), (6, None));
    assert_eq!(pick.frames, [0, 0, 1, 1, 2, 2]);
    assert_eq!(spec("24").capacity(&extent), 20);
    let pick = spec("4").pick((0, 0, 0), (&extent, &times), (4, None));
    assert_eq!(pick.frames, [0, 3, 6, 9]);
    assert_eq!(spec("4").capacity(&extent), 4);
}

#[test]
fn ticks_that_are_frames_are_exact() {
    let (extent, times) = video(50, Rate::new(25, 1), (1, 25));
    for (text, wanted) in [("50", [0, 0, 1, 1, 2, 2]), ("20", [0, 1, 2, 3, 5, 6])] {
        let spec = spec(&[6], rate(text), Start::First);
        let pick = spec.pick((0, 0, 0), (&extent, &times), (6, None));
        assert_eq!(pick.frames, wanted, "{text}");
    }
}

#[test]
fn starts_are_as_many_as_the_video_has_frames() {
    let (extent, times) = video(60, Rate::new(24, 1), (1, 24_000));
    let spec = spec(&[5], rate("8"), Start::Random);
    let starts: std::collections::BTreeSet<_> = (0..2000)
        .map(|id| spec.pick((1, 0, id), (&extent, &times), (5, None)).frames)
        .collect();
    // The last frame of a clip is 12 after its first one.
    assert_eq!(starts.len(), 48);
    let apart = |frames: &Vec<u32>| frames.windows(2).all(|two| two[1] - two[0] == 3);
    assert!(starts.iter().all(apart));
}

#[test]
fn a_frame_is_shown_until_the_next_however_long() {
    let times = [0, 100, 900, 1000];
    let extent = Extent {
        time_base: (1, 1000),
        frames: 4,
        first: 0,
        end: 1100,
    };
    let spec = spec(&[5], rate("5"), Start::First);
    assert_eq!(spec.capacity(&extent), 6);
    let pick = spec.pick((0, 0, 0), (&extent, &times), (6, None));
    assert_eq!(pick.frames, [0, 1, 1, 1, 1, 3]);
}

#[test]
fn windows_are_the_longest_that_fit_and_stills_the_last_resort() {
    let windows = |frames: &[u32], capacity| {
        let spec = spec(frames, Pace::Stride(1), Start::Windows);
        let count = spec.samples(capacity);
        let all = (0..count).map_while(|at| spec.window(capacity, at));
        assert_eq!(spec.window(capacity, count), None);
        all.collect::<Vec<_>>()
    };
    assert_eq!(windows(&[5, 17], 45), [(0, 17), (17, 17), (34, 5), (39, 5)]);
    assert_eq!(windows(&[1, 17], 40), [(0, 17), (17, 17)]);
    assert_eq!(windows(&[1, 17], 16), [(0, 1)]);
    assert_eq!(windows(&[17], 16), []);
}

#[test]
fn nonsense_is_refused() {
    let refused = |frames: &[u32], pace| {
        let spec = spec(frames, pace, Start::First);
        spec.check().unwrap_err().to_string()
    };
    assert!(refused(&[], Pace::Stride(1)).contains("`frames` has 0 lengths"));
    assert!(refused(&[9, 0], Pace::Stride(1)).contains("has 0, must be 1..=1024"));
    assert!(refused(&[9, 9], Pace::Stride(1)).contains("with a length twice"));
    assert!(refused(&[9], Pace::Stride(0)).contains("`pace` is 0"));
    let rate = Pace::Rate(Rate::new(1001, 1));
    assert!(refused(&[9], rate).contains("1001/1 frames a second"));
}

fn paces() -> impl Strategy<Value = Pace> {
    prop_oneof![
        (1_u32..8).prop_map(Pace::Stride),
        (1_u32..120, 1_u32..5).prop_map(|(a, b)| Pace::Rate(Rate::new(a, b))),
        Just(Pace::Rate(Rate::new(30_000, 1001))),
    ]
}

fn starts() -> impl Strategy<Value = Start> {
    prop_oneof![
        Just(Start::Random),
        Just(Start::First),
        Just(Start::Center),
        Just(Start::Windows)
    ]
}

proptest! {
    /// Over any video: a clip lies within it, frames ascend, each is the one shown at its instant.
    #[test]
    fn clips_lie_within_their_video(
        gaps in proptest::collection::vec(1_i64..200, 1..60), first in -500_i64..500,
        pace in paces(), start in starts(), ticks in 1_u32..2000, epoch in 0_u64..4,
    ) {
        let mut times = vec![first];
        times.extend(gaps.iter().scan(first, |at, gap| { *at += gap; Some(*at) }));
        let end = times.pop().unwrap();
        let frames = times.len() as u32;
        let extent = Extent { time_base: (1, ticks), frames, first, end };
        let spec = spec(&[1, 5, 9], pace, start);
        let capacity = spec.capacity(&extent);
        prop_assert!(capacity >= 1);
        let mut covered = 0;
        for number in 0..spec.samples(capacity) {
            let (window, length) = match start {
                Start::Windows => {
                    let (at, length) = spec.window(capacity, number).unwrap();
                    prop_assert_eq!(at, covered);
                    covered += length;
                    (Some(at), length)
                }
                _ => (None, spec.length(capacity).unwrap()),
            };
            let pick = spec.pick((3, epoch, number), (&extent, &times), (length, window));
            prop_assert_eq!(pick.frames.len(), length as usize);
            prop_assert!(pick.frames.is_sorted());
            prop_assert!(pick.frames.iter().all(|&at| at < frames));
            if let Pace::Stride(stride) = pace {
                prop_assert!(pick.frames.windows(2).all(|two| two[1] - two[0] == stride));
            }
            if let Pace::Rate(rate) = pace {
                for (number, &at) in (0_u32..).zip(&pick.frames) {
                    // To within half a tick, and what floats lose.
                    let step = f64::from(ticks) * f64::from(rate.seconds) / f64::from(rate.frames);
                    let instant = pick.start.as_f64() * f64::from(ticks) + f64::from(number) * step;
                    prop_assert!(times[at as usize] as f64 <= instant + 0.5 + 1e-6);
                    let next = times.get(at as usize + 1).copied().unwrap_or(end);
                    prop_assert!(next as f64 > instant - 0.5 - 1e-6);
                }
            }
        }
        prop_assert!(covered <= capacity);
    }
}
