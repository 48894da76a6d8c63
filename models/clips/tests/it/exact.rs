//! The frames that are asked for are the frames that come: each carries its number.

use preheat_clips::{
    Input,
    fixtures::{Codec, Numbered},
};

use crate::with::{With, all_of};

/// Random selections, some frames twice, read back; and the first, the last and all frames.
fn selections_come_back(with: &With, input: &Input, frames: u32, seed: u64, what: &str) {
    let video = with.probe(input).unwrap();
    assert_eq!(video.times.len(), frames as usize, "{what}");
    assert!(video.times.is_sorted_by(|a, b| a < b), "{what}");
    assert!(video.end > *video.times.last().unwrap(), "{what}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut selections: Vec<Vec<u32>> = vec![vec![0], vec![frames - 1], (0..frames).collect()];
    for count in [3, 9] {
        let mut selection: Vec<_> = (0..count).map(|_| random.u32(0..frames)).collect();
        selection.sort_unstable();
        selections.push(selection);
    }
    for selection in selections {
        let times: Vec<_> = selection.iter().map(|&n| video.times[n as usize]).collect();
        let read = with.numbers(input, &video, &times);
        assert_eq!(read, all_of(selection), "{what}");
    }
}

#[test]
fn every_codec_in_every_container() {
    let Some(with) = With::new() else { return };
    let cases = [
        (Codec::H264, "mp4"),
        (Codec::H264, "mkv"),
        (Codec::H264, "avi"),
        (Codec::H264, "mov"),
        (Codec::H265, "mp4"),
        (Codec::H265, "mkv"),
        (Codec::Vp9, "webm"),
        (Codec::Vp9, "mp4"),
        (Codec::Av1, "mp4"),
        (Codec::Av1, "webm"),
        (Codec::Av1, "mkv"),
        (Codec::Mjpeg, "avi"),
        (Codec::Mjpeg, "mkv"),
        (Codec::Mjpeg, "mov"),
    ];
    for (seed, (codec, container)) in (1..).zip(cases) {
        let name = format!("{codec:?}.{container}");
        let numbered = Numbered::new(codec, 50);
        if let Some(input) = with.clip(&name, &numbered) {
            selections_come_back(&with, &input, 50, seed, &name);
        }
    }
}

#[test]
fn every_rate() {
    let Some(with) = With::new() else { return };
    let rates = [(24000, 1001), (30000, 1001), (30, 1), (60, 1), (15, 2)];
    for (number, rate) in (1u8..).zip(rates) {
        for (codec, container) in [
            (Codec::H264, "mp4"),
            (Codec::H264, "avi"),
            (Codec::Mjpeg, "avi"),
            (Codec::Vp9, "webm"),
        ] {
            let name = format!("{codec:?}-{number}.{container}");
            let mut numbered = Numbered::new(codec, 40);
            numbered.rate = rate;
            let Some(input) = with.clip(&name, &numbered) else {
                continue;
            };
            selections_come_back(&with, &input, 40, number.into(), &name);
            let video = with.probe(&input).unwrap();
            let expected = 40.0 * f64::from(rate.1) / f64::from(rate.0);
            // Matroska rounds to milliseconds.
            assert!(
                (video.duration() - expected).abs() < 2e-3,
                "{name} {video:?}"
            );
        }
    }
}

#[test]
fn a_variable_rate() {
    let Some(with) = With::new() else { return };
    for (codec, container) in [
        (Codec::H264, "mp4"),
        (Codec::H265, "mkv"),
        (Codec::Vp9, "webm"),
        (Codec::Mjpeg, "mkv"),
    ] {
        let name = format!("{codec:?}.{container}");
        let mut numbered = Numbered::new(codec, 40);
        numbered.lasts = vec![40, 17, 100, 33, 350];
        let Some(input) = with.clip(&name, &numbered) else {
            continue;
        };
        selections_come_back(&with, &input, 40, 5, &name);
        let video = with.probe(&input).unwrap();
        let millis = |time: i64| {
            let (num, den) = video.time_base;
            (time * i64::from(num) * 1000 + i64::from(den) / 2) / i64::from(den)
        };
        let times: Vec<_> = video.times.iter().map(|&time| millis(time)).collect();
        assert_eq!(times, numbered.shown_at(), "{name}");
    }
}

/// Fragments, groups that are not closed, an index at the start: none of it moves a frame.
#[test]
fn other_layouts_of_the_same_frames() {
    let Some(with) = With::new() else { return };
    for (codec, name, options) in [
        (
            Codec::H264,
            "fragments.mp4",
            "-movflags +frag_keyframe+empty_moov",
        ),
        (Codec::H264, "early.mp4", "-movflags +faststart"),
        (
            Codec::H264,
            "open.mp4",
            "-x264-params open-gop=1:bframes=3:keyint=12:scenecut=0",
        ),
        (
            Codec::H264,
            "open.mkv",
            "-x264-params open-gop=1:bframes=3:keyint=12:scenecut=0",
        ),
        (
            Codec::H265,
            "open.hevc.mp4",
            "-x265-params open-gop=1:keyint=12:log-level=none",
        ),
        (Codec::H264, "refresh.mp4", "-x264-params intra-refresh=1"),
        (Codec::H264, "no-b.avi", "-bf 0"),
    ] {
        let mut numbered = Numbered::new(codec, 50);
        numbered.options = options.split(' ').map(str::to_owned).collect();
        if let Some(input) = with.clip(name, &numbered) {
            selections_come_back(&with, &input, 50, 11, name);
        }
    }
}

/// A late frame of a long video costs what its own group of pictures costs: nothing before it is decoded, and
/// so nothing before it may be damaged.
#[test]
fn late_frames_are_reached_without_the_early_ones() {
    let Some(with) = With::new() else { return };
    let mut numbered = Numbered::new(Codec::H264, 120);
    numbered.options = ["-x264-params", "keyint=12:scenecut=0"]
        .map(str::to_owned)
        .into();
    let Some(input) = with.clip("long.mp4", &numbered) else {
        return;
    };
    let video = with.probe(&input).unwrap();
    let path = with.path("long.mp4");
    let mut bytes = std::fs::read(&path).unwrap();
    let early = bytes.len() / 8..bytes.len() / 3;
    bytes[early].fill(0xff);
    std::fs::write(&path, bytes).unwrap();
    assert!(with.all(&input).is_err(), "it is damaged");
    for first in [60, 73, 85, 100] {
        let wanted: Vec<u32> = (first..first + 17).step_by(4).collect();
        let times: Vec<_> = wanted.iter().map(|&n| video.times[n as usize]).collect();
        assert_eq!(with.numbers(&input, &video, &times), all_of(wanted));
    }
}

/// What was cut out of other files without encoding it anew begins anywhere, and before zero.
#[test]
fn files_that_were_cut_without_encoding() {
    let Some(with) = With::new() else { return };
    for (name, groups) in [
        ("closed.mp4", "keyint=12:scenecut=0"),
        ("open.mp4", "open-gop=1:bframes=3:keyint=12:scenecut=0"),
    ] {
        let mut numbered = Numbered::new(Codec::H264, 75);
        numbered.options = ["-x264-params", groups].map(str::to_owned).into();
        let Some(_) = with.clip(name, &numbered) else {
            return;
        };
        for (cut, before, after) in [
            ("led.mkv", "", "-ss 1.3 -copyinkf -c copy"),
            (
                "below.mkv",
                "",
                "-c copy -output_ts_offset -1 -avoid_negative_ts disabled",
            ),
        ] {
            let what = format!("{name} to {cut}");
            let arguments = [before, "-i", name, after, cut].join(" ");
            with.run(&arguments.split_whitespace().collect::<Vec<_>>());
            let input = Input::Path(with.path(cut));
            let video = with.probe(&input).unwrap();
            let numbers: Vec<u32> = with
                .all(&input)
                .unwrap_or_else(|error| panic!("{what}: {error}"))
                .into_iter()
                .map(|number| number.unwrap_or_else(|| panic!("{what}: no number")))
                .collect();
            assert!(numbers.len() > 20, "{what}: {numbers:?}");
            assert!(
                numbers.is_sorted_by(|a, b| b - a == 1),
                "{what}: {numbers:?}"
            );
            for at in (0..numbers.len()).step_by(5) {
                let alone = with.numbers(&input, &video, &[video.times[at]]);
                assert_eq!(alone, [Some(numbers[at])], "{what}");
            }
        }
    }
}

/// Where two frames have one time, the first of them is the one of that time, wherever decoding begins.
#[test]
fn two_frames_at_one_time() {
    let Some(with) = With::new() else { return };
    let mut numbered = Numbered::new(Codec::H264, 60);
    numbered.options = ["-bf", "0", "-x264-params", "keyint=12:scenecut=0"]
        .map(str::to_owned)
        .into();
    let Some(_) = with.clip("once.mp4", &numbered) else {
        return;
    };
    // 512 ticks are a frame. The 24th begins a group.
    let same = "setts=ts=if(eq(N\\,24)\\,TS-512\\,TS)";
    let arguments = ["-i", "once.mp4", "-c", "copy", "-bsf:v", same, "twice.mkv"];
    with.run(&arguments);
    let input = Input::Path(with.path("twice.mkv"));
    let video = with.probe(&input).unwrap();
    let expected: Vec<u32> = (0..60).filter(|&number| number != 24).collect();
    assert_eq!(with.all(&input).unwrap(), all_of(expected.clone()));
    for at in [22, 23, 24, 30, 58] {
        let alone = with.numbers(&input, &video, &[video.times[at]]);
        assert_eq!(alone, [Some(expected[at])], "{at}");
    }
}
