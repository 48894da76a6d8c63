//! Videos as a player would show them: rotations, odd sizes, aspect ratios, edits, other streams.

use preheat_clips::{
    Cut, Encoding, Input,
    fixtures::{Codec, Numbered, Pattern, read_blocks, read_colour},
};

use crate::with::{With, all_of};

#[test]
fn rotations_are_applied() {
    let Some(with) = With::new() else { return };
    for rotation in [0, 90, 180, 270] {
        let mut numbered = Numbered::new(Codec::H264, 20);
        (numbered.rotation, numbered.size) = (rotation, [144, 80]);
        let name = format!("{rotation}.mp4");
        let Some(input) = with.clip(&name, &numbered) else {
            return;
        };
        let video = with.probe(&input).unwrap();
        assert_eq!((video.width, video.height), (144, 80), "{rotation}");
        assert_eq!(video.rotation, rotation);
        let times = [video.times[3], video.times[17]];
        assert_eq!(
            with.numbers(&input, &video, &times),
            all_of([3, 17]),
            "{rotation}"
        );
        // Resize and crop are meant for the upright frame.
        let mut cut = Cut::whole(times.to_vec(), Encoding::Rgb8);
        cut.resize = Some([288, 160]);
        let frames = with
            .ffmpeg
            .frames(&input, &video, &cut, &with.limits)
            .unwrap();
        assert_eq!(frames.size(), [288, 160]);
        let numbers: Vec<_> = frames
            .map(|rgb| read_blocks(&rgb.unwrap(), [288, 160]))
            .collect();
        assert_eq!(numbers, all_of([3, 17]), "{rotation}");
        // The white corner alone, at the top left.
        cut.crop = Some([0, 0, 60, 30]);
        for rgb in with
            .ffmpeg
            .frames(&input, &video, &cut, &with.limits)
            .unwrap()
        {
            assert!(rgb.unwrap().iter().all(|&value| value > 220), "{rotation}");
        }
    }
}

#[test]
fn odd_sizes() {
    let Some(with) = With::new() else { return };
    for (codec, container) in [
        (Codec::H264, "mp4"),
        (Codec::H265, "mkv"),
        (Codec::Vp9, "webm"),
        (Codec::Mjpeg, "avi"),
    ] {
        let mut numbered = Numbered::new(codec, 15);
        numbered.size = [131, 97];
        let name = format!("{codec:?}.{container}");
        let Some(input) = with.clip(&name, &numbered) else {
            continue;
        };
        let video = with.probe(&input).unwrap();
        assert_eq!((video.width, video.height), (131, 97), "{name}");
        assert_eq!(with.all(&input).unwrap(), all_of(0..15), "{name}");
    }
}

#[test]
fn an_odd_size_on_its_side() {
    let Some(with) = With::new() else { return };
    let mut numbered = Numbered::new(Codec::Mjpeg, 15);
    (numbered.size, numbered.rotation) = ([131, 97], 90);
    let Some(input) = with.clip("odd.mov", &numbered) else {
        return;
    };
    assert_eq!(with.all(&input).unwrap(), all_of(0..15));
}

#[test]
fn samples_that_are_not_square() {
    let Some(with) = With::new() else { return };
    let mut numbered = Numbered::new(Codec::H264, 15);
    numbered.options = ["-vf", "setsar=4/3"].map(str::to_owned).into();
    let Some(input) = with.clip("wide.mp4", &numbered) else {
        return;
    };
    let video = with.probe(&input).unwrap();
    assert_eq!(
        (video.width, video.height),
        (171, 96),
        "128 * 4 / 3, rounded"
    );
    assert_eq!(with.all(&input).unwrap(), all_of(0..15));
    // On its side the height is what grows.
    numbered.rotation = 90;
    let Some(input) = with.clip("tall.mp4", &numbered) else {
        return;
    };
    let video = with.probe(&input).unwrap();
    assert_eq!((video.width, video.height), (128, 128), "96 * 4 / 3");
    assert_eq!(with.all(&input).unwrap(), all_of(0..15));
}

#[test]
fn an_edit_list_cuts_frames_away() {
    let Some(with) = With::new() else { return };
    let numbered = Numbered::new(Codec::H264, 50);
    let Some(_) = with.clip("whole.mp4", &numbered) else {
        return;
    };
    // Copied from 0.6 s on: the key frame at 0.48 s must come along, and must not be shown.
    with.run(&["-ss", "0.6", "-i", "whole.mp4", "-c", "copy", "cut.mp4"]);
    let input = Input::Path(with.path("cut.mp4"));
    let video = with.probe(&input).unwrap();
    assert_eq!(video.times[0], 0);
    let read = with.all(&input).unwrap();
    assert_eq!(read, all_of(15..50));
    assert_eq!(
        with.numbers(&input, &video, &video.times[20..22]),
        all_of([35, 36])
    );
}

#[test]
fn a_start_before_and_after_zero() {
    let Some(with) = With::new() else { return };
    let numbered = Numbered::new(Codec::H264, 30);
    let Some(_) = with.clip("zero.mp4", &numbered) else {
        return;
    };
    with.run(&[
        "-i",
        "zero.mp4",
        "-c",
        "copy",
        "-output_ts_offset",
        "7.3",
        "late.mkv",
    ]);
    let shift = "setts=pts=PTS-10*512:dts=DTS-10*512";
    with.run(&[
        "-i",
        "zero.mp4",
        "-c",
        "copy",
        "-bsf:v",
        shift,
        "-avoid_negative_ts",
        "disabled",
        "-use_editlist",
        "0",
        "early.mov",
    ]);
    for (name, starts_late) in [("late.mkv", true), ("early.mov", false)] {
        let input = Input::Path(with.path(name));
        let video = with.probe(&input).unwrap();
        let starts = video.seconds(video.times[0]);
        assert_eq!(starts > 5.0, starts_late, "{name} starts at {starts}");
        assert_eq!(with.all(&input).unwrap(), all_of(0..30), "{name}");
        assert_eq!(
            with.numbers(&input, &video, &video.times[26..27]),
            all_of([26]),
            "{name}"
        );
    }
}

#[test]
fn the_cover_is_not_the_video() {
    let Some(with) = With::new() else { return };
    let numbered = Numbered::new(Codec::H264, 15);
    let Some(_) = with.clip("clip.mp4", &numbered) else {
        return;
    };
    with.run(&[
        "-f",
        "lavfi",
        "-i",
        "color=red:size=64x64",
        "-frames:v",
        "1",
        "cover.png",
    ]);
    // The cover is the first stream.
    with.run(&[
        "-i",
        "cover.png",
        "-i",
        "clip.mp4",
        "-map",
        "0",
        "-map",
        "1",
        "-c",
        "copy",
        "-disposition:v:0",
        "attached_pic",
        "covered.mp4",
    ]);
    let input = Input::Path(with.path("covered.mp4"));
    assert_eq!(with.all(&input).unwrap(), all_of(0..15));
    // Nothing but a cover.
    with.run(&[
        "-f",
        "lavfi",
        "-i",
        "sine=duration=1",
        "-i",
        "cover.png",
        "-map",
        "0",
        "-map",
        "1",
        "-c:v",
        "copy",
        "-disposition:v:0",
        "attached_pic",
        "song.mp4",
    ]);
    let error = with.probe(&Input::Path(with.path("song.mp4"))).unwrap_err();
    assert!(error.to_string().contains("no stream of video"), "{error}");
}

#[test]
fn of_several_streams_the_default_one() {
    let Some(with) = With::new() else { return };
    let mut numbered = Numbered::new(Codec::H264, 15);
    let Some(_) = with.clip("blocks.mp4", &numbered) else {
        return;
    };
    numbered.pattern = Pattern::Colour;
    numbered.size = [64, 64];
    with.clip("colour.mp4", &numbered);
    for (default, other, size) in [(0, 1, 128), (1, 0, 64)] {
        let name = format!("two-{default}.mkv");
        let (default, other) = (
            format!("-disposition:v:{default}"),
            format!("-disposition:v:{other}"),
        );
        with.run(&[
            "-i",
            "blocks.mp4",
            "-i",
            "colour.mp4",
            "-map",
            "0",
            "-map",
            "1",
            "-c",
            "copy",
            &other,
            "0",
            &default,
            "default",
            &name,
        ]);
        let video = with.probe(&Input::Path(with.path(&name))).unwrap();
        assert_eq!(video.width, size);
    }
}

#[test]
fn colours_survive() {
    let Some(with) = With::new() else { return };
    for (codec, container) in [
        (Codec::H264, "mp4"),
        (Codec::Vp9, "webm"),
        (Codec::Mjpeg, "avi"),
    ] {
        let mut numbered = Numbered::new(codec, 216);
        (numbered.pattern, numbered.size) = (Pattern::Colour, [64, 48]);
        let name = format!("{codec:?}.{container}");
        let Some(input) = with.clip(&name, &numbered) else {
            continue;
        };
        let video = with.probe(&input).unwrap();
        let mut cut = Cut::whole(video.times.clone(), Encoding::Rgb8);
        (cut.resize, cut.crop) = (Some([50, 40]), Some([7, 3, 20, 30]));
        let frames = with
            .ffmpeg
            .frames(&input, &video, &cut, &with.limits)
            .unwrap();
        let numbers: Vec<_> = frames.map(|rgb| read_colour(&rgb.unwrap())).collect();
        assert_eq!(numbers, all_of(0..216), "{name}");
    }
}

#[test]
fn the_stated_matrix_and_range_are_used() {
    let Some(with) = With::new() else { return };
    // Pure green, which BT.601 and BT.709 write most differently.
    for (matrix, range) in [("bt709", "tv"), ("bt709", "pc"), ("smpte170m", "tv")] {
        let name = format!("{matrix}-{range}.mp4");
        with.run(&[
            "-f",
            "lavfi",
            "-i",
            "color=0x00ff00:size=64x64:duration=0.2",
            "-vf",
            &format!("scale=out_color_matrix={matrix}:out_range={range},format=yuv420p"),
            "-colorspace",
            matrix,
            "-color_range",
            range,
            "-c:v",
            "libx264",
            "-qp",
            "0",
            &name,
        ]);
        let input = Input::Path(with.path(&name));
        let video = with.probe(&input).unwrap();
        let cut = Cut::whole(video.times[..1].to_vec(), Encoding::Rgb8);
        let mut frames = with
            .ffmpeg
            .frames(&input, &video, &cut, &with.limits)
            .unwrap();
        let rgb = frames.next().unwrap().unwrap();
        let worst = rgb.chunks(3).map(|p| p[0].max(255 - p[1]).max(p[2])).max();
        assert!(worst <= Some(4), "{name}: {:?}", &rgb[..3]);
    }
}
