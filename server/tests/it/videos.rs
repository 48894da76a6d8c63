//! Video files as they lie: which frames come to the encoder, and what becomes of files that are none.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use preheat_clips::{
    Ffmpeg, Input, Limits,
    fixtures::{Codec, Numbered, ffmpeg, read_blocks},
};
use preheat_models::PixelData;
use preheat_proto::{ItemCode, Source, v1};
use tempfile::TempDir;

use crate::{
    harness::{Ask, Replica, client, connect, eventually, scripted},
    process::Program,
};

/// What a clip is planned with.
struct Clip {
    file: Bytes,
    size: [u32; 2],
    times: Vec<i64>,
}

/// Makes a clip, if this FFmpeg can.
fn clip(ffmpeg: &Ffmpeg, directory: &TempDir, name: &str, numbered: &Numbered) -> Option<Clip> {
    let path = directory.path().join(name);
    if !numbered.write(ffmpeg, &path).unwrap() {
        eprintln!("NOT TESTED: no encoder for {:?}", numbered.codec);
        return None;
    }
    let video = ffmpeg.probe(&Input::Path(path.clone()), &Limits::default());
    let video = video.unwrap();
    Some(Clip {
        file: fs::read(path).unwrap().into(),
        size: [video.width, video.height],
        times: video.times,
    })
}

/// Adds frames of a clip, by number, to a call for that many.
fn add(mut ask: Ask, clip: &Clip, frames: &[usize]) -> Ask {
    ask.meta.frames = frames.len() as u32;
    ask = ask.file(&[], clip.size, [0, 0]);
    let item = ask.meta.items.last_mut().unwrap();
    item.source = Source::Video;
    item.times = frames.iter().map(|&frame| clip.times[frame]).collect();
    *ask.payloads.last_mut().unwrap() = clip.file.clone();
    ask
}

/// A replica that tells the numbers in the frames that its encoder is given.
async fn reader() -> (Replica, flume::Receiver<Vec<Option<u32>>>) {
    let (seen, numbers) = flume::bounded(64);
    let models = scripted(move |pixels| {
        let PixelData::Rgb8(rgb) = &pixels.data else {
            panic!("the replica sends bytes");
        };
        let size = [pixels.width as u32, pixels.height as u32];
        let frames = rgb.chunks_exact(pixels.height * pixels.width * 3);
        let _ = seen.try_send(frames.map(|frame| read_blocks(frame, size)).collect());
        Ok(())
    });
    // One at a time, so that a batch is a clip.
    (
        Replica::with_models(&["--max-batch", "1"], models).await,
        numbers,
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn the_frames_that_are_asked_for_come_to_the_encoder() {
    let Some(ffmpeg) = ffmpeg() else { return };
    let directory = tempfile::tempdir().unwrap();
    let (replica, numbers) = reader().await;
    let info = replica.client().info(v1::InfoRequest {}).await.unwrap();
    assert!(info.into_inner().limits.unwrap().video_files);
    for (codec, name, rotation) in [
        (Codec::H264, "a.mp4", 0),
        (Codec::H264, "b.mp4", 90),
        (Codec::Vp9, "c.webm", 0),
        (Codec::Mjpeg, "d.avi", 0),
    ] {
        let mut numbered = Numbered::new(codec, 40);
        numbered.rotation = rotation;
        let Some(clip) = clip(&ffmpeg, &directory, name, &numbered) else {
            continue;
        };
        let frames = [0, 3, 3, 17, 39];
        let reply = replica
            .encode(&add(Ask::new(128, 96), &clip, &frames))
            .await;
        assert_eq!(reply.unwrap().shape, [4, 5, 12, 16]);
        let seen = numbers.try_recv().unwrap();
        assert_eq!(seen, frames.map(|frame| Some(frame as u32)), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_good_video_fails_alone_with_the_reason() {
    let Some(ffmpeg) = ffmpeg() else { return };
    let directory = tempfile::tempdir().unwrap();
    let mut numbered = Numbered::new(Codec::Mjpeg, 40);
    // So that what is behind the cut is not decoded from what is before it.
    numbered.options = vec!["-movflags".into(), "+faststart".into()];
    let Some(good) = clip(&ffmpeg, &directory, "a.mp4", &numbered) else {
        return;
    };
    let (replica, numbers) = reader().await;
    let (cut, garbled) = (
        good.file.slice(..good.file.len() / 2),
        Bytes::from_static(b"no video"),
    );
    let mut ask = Ask::new(128, 96);
    for _ in 0..5 {
        ask = add(ask, &good, &[1, 2, 38]);
    }
    ask.payloads[1] = cut;
    ask.payloads[2] = garbled;
    ask.meta.items[3].source_width = 256;
    ask.meta.items[3].resize_width = 256;
    ask.meta.items[4].times[1] += 1;
    let reply = replica.encode(&ask).await.unwrap();
    assert!(reply.items[0].is_ok());
    assert_eq!(numbers.drain().count(), 1);
    for (index, code, say) in [
        (1, ItemCode::BadImage, "damaged at "),
        (2, ItemCode::BadImage, "not a video"),
        (
            3,
            ItemCode::Changed,
            "is 128x96, but the call was planned with 256x96",
        ),
        (4, ItemCode::Changed, "no frame has the timestamp"),
    ] {
        let (seen, message) = reply.items[index].as_ref().unwrap_err();
        assert_eq!(*seen, code, "{index}: {message}");
        assert!(message.contains(say), "{index}: {message}");
    }
}

/// A program that says it is FFmpeg, and then does this.
fn fake(directory: &Path, does: &str) -> PathBuf {
    let path = directory.join("ffmpeg");
    let script = format!(
        "#!/bin/sh\ncase $1 in -version) echo \"ffmpeg version 7.1 Copyright\"; exit;; esac\n{does}\n"
    );
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_make_ffmpeg_hang_or_crash_hold_up_nothing() {
    let Some(ffmpeg) = ffmpeg() else { return };
    let directory = tempfile::tempdir().unwrap();
    let Some(clip) = clip(
        &ffmpeg,
        &directory,
        "a.mp4",
        &Numbered::new(Codec::Mjpeg, 9),
    ) else {
        return;
    };
    for (does, say) in [
        ("exec sleep 86398", "FFmpeg was ended after 1 s of waiting"),
        ("kill -SEGV $$", "signal 11"),
    ] {
        let program = fake(directory.path(), does);
        let options = [
            "--model",
            "m=synthetic",
            "--video-timeout",
            "1",
            "--decode-threads",
            "1",
        ];
        let (replica, address) = Program::start_in(&options, &[("PREHEAT_FFMPEG", &program)]);
        let mut client = client(connect(address).await);
        let hanging = add(Ask::new(128, 96), &clip, &[0, 4]);
        let meanwhile = async {
            // So that it is known to be seen while it is there.
            if does.contains("sleep") {
                eventually(async || replica.children() > 0).await;
            }
            let image = Ask::new(8, 8).grey(1).send(&mut client.clone()).await;
            assert!(image.unwrap().items[0].is_ok());
        };
        let video = async { hanging.send(&mut client.clone()).await };
        let (videos, ()) = tokio::join!(video, meanwhile);
        let (code, message) = videos.unwrap().items.remove(0).unwrap_err();
        assert_eq!(code, ItemCode::BadImage);
        assert!(message.contains(say), "{message}");
        // It is gone, and the next call finds all free.
        assert_eq!(replica.children(), 0);
        Ask::new(8, 8).grey(1).send(&mut client).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_cannot_or_may_not_says_so() {
    let missing = Path::new("/nowhere/ffmpeg");
    let clip = Clip {
        file: Bytes::from_static(b"whatever"),
        size: [64, 64],
        times: vec![0, 1],
    };
    let model = ["--model", "m=synthetic"];
    for (options, say) in [
        (model.to_vec(), "install FFmpeg"),
        (
            [&model[..], &["--no-video-files"]].concat(),
            "--no-video-files",
        ),
    ] {
        let (_program, address) = Program::start_in(&options, &[("PREHEAT_FFMPEG", missing)]);
        let mut client = client(connect(address).await);
        let info = client.info(v1::InfoRequest {}).await.unwrap().into_inner();
        assert!(!info.limits.unwrap().video_files);
        let reply = add(Ask::new(64, 64), &clip, &[0, 1])
            .send(&mut client)
            .await;
        let (code, message) = reply.unwrap().items.remove(0).unwrap_err();
        assert_eq!(code, ItemCode::Unsupported);
        assert!(
            message.contains(say) && message.contains("send the frames"),
            "{message}"
        );
    }
}
