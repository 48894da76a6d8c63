//! Bad files: each is an error that says what and when, never other frames than asked for.

use std::fs;

use preheat_clips::{
    ClipError, Cut, Encoding, Input, Limits,
    fixtures::{Codec, Numbered},
};

use crate::with::{With, all_of};

/// A clip whose index is at its start, so that it can be read when its end is missing.
fn streamable(with: &With, codec: Codec, name: &str) -> Option<Vec<u8>> {
    let mut numbered = Numbered::new(codec, 60);
    numbered.size = [320, 240];
    // Noise, so that there is something to lose.
    numbered.options = ["-vf", "noise=alls=12:allf=t"].map(str::to_owned).into();
    if std::path::Path::new(name).extension()?.eq("mp4") {
        numbered
            .options
            .extend(["-movflags", "+faststart"].map(str::to_owned));
    }
    with.clip(name, &numbered)?;
    fs::read(with.path(name)).ok()
}

#[test]
fn files_that_end_early() {
    let Some(with) = With::new() else { return };
    for (codec, name) in [
        (Codec::H264, "h264.mp4"),
        (Codec::H264, "h264.mkv"),
        (Codec::H264, "h264.avi"),
        (Codec::Vp9, "vp9.webm"),
        (Codec::Mjpeg, "mjpeg.avi"),
    ] {
        let Some(whole) = streamable(&with, codec, name) else {
            continue;
        };
        for percent in [40, 70, 95] {
            let part = whole[..whole.len() * percent / 100].to_vec();
            let error = with.all(&Input::Bytes(part.into())).unwrap_err();
            assert!(
                matches!(error, ClipError::Damaged { at, .. } if at > 0.0 && at < 2.4),
                "{name} at {percent} %: {error}"
            );
            assert!(
                error.to_string().contains("ends too early"),
                "{name}: {error}"
            );
            assert!(error.blames_clip());
        }
        for length in [0, 3, 40] {
            let part = whole[..length].to_vec();
            let error = with.all(&Input::Bytes(part.into())).unwrap_err();
            assert!(
                matches!(
                    error,
                    ClipError::NotVideo { .. } | ClipError::NoFrames { .. }
                ),
                "{name}, {length} bytes: {error}"
            );
        }
    }
}

#[test]
fn an_mp4_whose_index_was_never_written() {
    let Some(with) = With::new() else { return };
    let Some(_) = with.clip("whole.mp4", &Numbered::new(Codec::H264, 30)) else {
        return;
    };
    let whole = fs::read(with.path("whole.mp4")).unwrap();
    let index = whole.windows(4).position(|four| four == b"moov").unwrap();
    let error = with
        .all(&Input::Bytes(whole[..index].to_vec().into()))
        .unwrap_err();
    assert!(error.to_string().contains("moov atom not found"), "{error}");
}

#[test]
fn damage_in_the_middle_is_never_painted_over() {
    let Some(with) = With::new() else { return };
    for (codec, name) in [
        (Codec::H264, "h264.mp4"),
        (Codec::H264, "h264.avi"),
        (Codec::Mjpeg, "mjpeg.avi"),
    ] {
        let Some(whole) = streamable(&with, codec, name) else {
            continue;
        };
        let mut bytes = whole.clone();
        let middle = bytes.len() / 2;
        let mut random = fastrand::Rng::with_seed(1);
        bytes[middle..middle + 300]
            .iter_mut()
            .for_each(|byte| *byte = random.u8(..));
        let input = Input::Bytes(bytes.into());
        let video = with.probe(&input).unwrap();
        let cut = Cut::whole(video.times.clone(), Encoding::Rgb8);
        let frames = with
            .ffmpeg
            .frames(&input, &video, &cut, &with.limits)
            .unwrap();
        let size = frames.size();
        let (good, mut bad): (Vec<_>, Vec<_>) = frames.partition(Result::is_ok);
        assert_eq!(bad.len(), 1, "{name}: after an error nothing comes");
        let error = bad.remove(0).unwrap_err();
        let at = match error {
            ClipError::Damaged { at, .. } => at,
            other => panic!("{name}: {other}"),
        };
        // The frames before it are right, and it says where they end.
        let numbers: Vec<_> = good
            .into_iter()
            .map(|rgb| preheat_clips::fixtures::read_blocks(&rgb.unwrap(), size))
            .collect();
        let count = u32::try_from(numbers.len()).unwrap();
        assert_eq!(numbers, all_of(0..count), "{name}");
        assert!((5..55).contains(&count), "{name}: {count}");
        let expected = f64::from(count) / 25.0;
        assert!((at - expected).abs() < 1e-3, "{name}: {at}, {expected}");
        if name == "h264.avi" {
            // Without timestamps frames are counted, and all before them must be whole.
            continue;
        }
        // What does not need the damage is not touched by it.
        let times = &video.times[58..];
        assert_eq!(
            with.numbers(&input, &video, times),
            all_of([58, 59]),
            "{name}"
        );
    }
}

/// Matroska goes on behind what it cannot read, and says so quietly.
#[test]
fn lost_frames_are_noticed() {
    let Some(with) = With::new() else { return };
    for (codec, name) in [(Codec::H264, "h264.mkv"), (Codec::Vp9, "vp9.webm")] {
        let Some(mut bytes) = streamable(&with, codec, name) else {
            continue;
        };
        let middle = bytes.len() / 2;
        let mut random = fastrand::Rng::with_seed(1);
        bytes[middle..middle + 9000]
            .iter_mut()
            .for_each(|byte| *byte = random.u8(..));
        let error = with.all(&Input::Bytes(bytes.into())).unwrap_err();
        assert!(
            error.to_string().contains("frames are lost"),
            "{name}: {error}"
        );
        assert!(
            matches!(error, ClipError::Damaged { at, .. } if at > 0.4 && at < 2.0),
            "{error}"
        );
    }
}

#[test]
fn files_that_are_no_videos() {
    let Some(with) = With::new() else { return };
    with.run(&["-f", "lavfi", "-i", "sine=duration=1", "sound.mp4"]);
    with.run(&[
        "-f",
        "lavfi",
        "-i",
        "color=red:size=64x64",
        "-frames:v",
        "1",
        "picture.png",
    ]);
    with.run(&[
        "-f",
        "lavfi",
        "-i",
        "color=red:duration=1",
        "-f",
        "mpegts",
        "stream.mp4",
    ]);
    fs::write(with.path("text.mp4"), "a caption, not a clip\n".repeat(999)).unwrap();
    fs::write(with.path("zeros.mp4"), vec![0; 1 << 20]).unwrap();
    for name in [
        "sound.mp4",
        "picture.png",
        "stream.mp4",
        "text.mp4",
        "zeros.mp4",
    ] {
        let error = with.probe(&Input::Path(with.path(name))).unwrap_err();
        assert!(
            matches!(error, ClipError::NotVideo { .. }),
            "{name}: {error}"
        );
    }
    let error = with.probe(&Input::Path(with.path(""))).unwrap_err();
    assert!(error.to_string().contains("regular file"), "{error}");
    let error = with
        .probe(&Input::Path(with.path("not there.mp4")))
        .unwrap_err();
    assert!(matches!(error, ClipError::Unreadable { .. }), "{error}");
    assert!(
        error.blames_clip(),
        "one file that is gone is not the others' fault"
    );
}

/// Playlists name other files, or addresses of the network behind the wall.
#[test]
fn playlists_are_not_followed() {
    let Some(with) = With::new() else { return };
    let Some(_) = with.clip("real.mp4", &Numbered::new(Codec::H264, 12)) else {
        return;
    };
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let real = with.path("real.mp4");
    let real = real.display();
    let hls = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n";
    let cases = [
        ("hls.mp4", format!("{hls}{real}\n#EXT-X-ENDLIST\n")),
        (
            "net.mp4",
            format!("{hls}http://{address}/x.ts\n#EXT-X-ENDLIST\n"),
        ),
        ("list.mp4", format!("ffconcat version 1.0\nfile '{real}'\n")),
        (
            "list.ffconcat",
            format!("ffconcat version 1.0\nfile '{real}'\n"),
        ),
        (
            "net.m3u8",
            format!("{hls}http://{address}/x.ts\n#EXT-X-ENDLIST\n"),
        ),
        (
            "session.sdp",
            format!(
                "v=0\nc=IN IP4 127.0.0.1\nm=video {} RTP/AVP 96\n",
                address.port()
            ),
        ),
    ];
    for (name, text) in cases {
        fs::write(with.path(name), text).unwrap();
        let error = with.probe(&Input::Path(with.path(name))).unwrap_err();
        assert!(
            matches!(error, ClipError::NotVideo { .. }),
            "{name}: {error}"
        );
    }
    // A name that is a protocol is only a name.
    fs::rename(with.path("real.mp4"), with.path("concat:a|b.mp4")).unwrap();
    assert!(
        with.probe(&Input::Path(with.path("concat:a|b.mp4")))
            .is_ok()
    );
    assert_eq!(
        listener.accept().unwrap_err().kind(),
        std::io::ErrorKind::WouldBlock,
        "nobody called"
    );
}

#[test]
fn what_is_too_large_is_said() {
    let Some(mut with) = With::new() else { return };
    let Some(input) = with.clip("clip.mp4", &Numbered::new(Codec::H264, 60)) else {
        return;
    };
    for (limits, of) in [
        (
            Limits {
                source_pixels: 128 * 96 - 1,
                ..Limits::default()
            },
            "128x96",
        ),
        (
            Limits {
                source_frames: 59,
                ..Limits::default()
            },
            "59",
        ),
        (
            Limits {
                source_seconds: 2,
                ..Limits::default()
            },
            "2.4",
        ),
    ] {
        with.limits = limits;
        let error = with.probe(&input).unwrap_err();
        assert!(matches!(error, ClipError::TooLarge { .. }), "{error}");
        assert!(error.to_string().contains(of), "{error}");
    }
}

/// A header that lies about its size costs neither memory nor time.
#[test]
fn absurd_sizes() {
    let Some(with) = With::new() else { return };
    let Some(_) = with.clip("clip.mkv", &Numbered::new(Codec::Mjpeg, 20)) else {
        return;
    };
    let mut bytes = fs::read(with.path("clip.mkv")).unwrap();
    // The width and height in the frame headers: baseline, 8 bits, 96 by 128.
    let header = [0xff, 0xc0, 0, 17, 8, 0, 96, 0, 128];
    let mut at = 0;
    while let Some(found) = bytes[at..].windows(9).position(|nine| nine == header) {
        at += found;
        bytes[at + 5..at + 9].copy_from_slice(&[0xff, 0xf0, 0xff, 0xf0]);
    }
    assert!(at > 0);
    let error = with.all(&Input::Bytes(bytes.into())).unwrap_err();
    assert!(
        matches!(
            error,
            ClipError::TooLarge { .. } | ClipError::Damaged { .. }
        ),
        "{error}"
    );
}

#[test]
fn cuts_that_cannot_be_made() {
    let Some(with) = With::new() else { return };
    let Some(input) = with.clip("clip.mp4", &Numbered::new(Codec::H264, 12)) else {
        return;
    };
    let video = with.probe(&input).unwrap();
    let good = Cut::whole(video.times.clone(), Encoding::Rgb8);
    let cut = |change: fn(&mut Cut)| {
        let mut cut = good.clone();
        change(&mut cut);
        cut
    };
    for (cut, says) in [
        (cut(|cut| cut.times.clear()), "at least one"),
        (cut(|cut| cut.times.reverse()), "ascend"),
        (cut(|cut| cut.times[3] += 1), "no frame has the timestamp"),
        (cut(|cut| cut.times = vec![0; 5000]), "at most 4096"),
        (cut(|cut| cut.resize = Some([0, 5])), "no pixel"),
        (
            cut(|cut| cut.resize = Some([1 << 16, 1 << 16])),
            "the limit",
        ),
        (
            cut(|cut| cut.crop = Some([100, 0, 64, 64])),
            "not inside 128x96",
        ),
        (
            cut(|cut| cut.crop = Some([u32::MAX, 0, 2, 2])),
            "not inside",
        ),
        (
            cut(|cut| cut.encoding = Encoding::Jpeg { quality: 0 }),
            "1 to 100",
        ),
        (cut(|cut| cut.encoding = Encoding::Source), "h264"),
    ] {
        let error = with
            .ffmpeg
            .frames(&input, &video, &cut, &with.limits)
            .unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
        assert!(!error.blames_clip());
    }
}
