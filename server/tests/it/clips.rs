//! Clips: items of many frames, decoded while they arrive.

use bytes::{Bytes, BytesMut};
use preheat_proto::{ItemCode, Source, rope::Rope, v1};
use tonic::Code;

use crate::{
    files::{ASTRONAUT, CHELSEA, ROCKET, TRUNCATED},
    harness::{Ask, Replica, client, connect, eventually, soon},
    process::{Program, free_address, page},
    raw::{Raw, read},
};

/// A clip for outputs of 64x64: its frames are raw pixels, each of one grey.
fn greys(mut ask: Ask, greys: &[u8]) -> Ask {
    ask.meta.frames = greys.len() as u32;
    ask = ask.grey(0);
    let item = ask.meta.items.last_mut().unwrap();
    item.payloads = greys.len() as u32;
    ask.payloads.pop();
    let frame = |&grey: &u8| Bytes::from(vec![grey; 64 * 64 * 3]);
    ask.payloads.extend(greys.iter().map(frame));
    ask
}

/// The value of every cell of a latent frame in colour channels, of a grey.
fn level(grey: u8) -> f32 {
    f32::from(grey) / 127.5 - 1.0
}

/// What a call is on the wire, without the five bytes before it.
fn written(ask: &Ask) -> Bytes {
    let rope = Rope::new(ask.request().into_inner()).unwrap();
    let mut bytes = BytesMut::new();
    rope.pieces()
        .for_each(|piece| bytes.extend_from_slice(piece));
    bytes.freeze()
}

/// A metric on the page.
fn metric(page: &str, name: &str) -> f64 {
    let line = page.lines().find(|line| line.starts_with(name));
    let value = line.and_then(|line| line.rsplit(' ').next());
    value.map_or(0.0, |value| value.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_frame_is_in_its_place() {
    let replica = Replica::start(&["--model", "m=synthetic", "--decode-threads", "4"]).await;
    let (first, second): (Vec<u8>, Vec<u8>) = ((0..17).collect(), (100..117).collect());
    let ask = greys(greys(Ask::new(64, 64), &first), &second);
    let reply = replica.encode(&ask).await.unwrap();
    assert_eq!(reply.shape, [4, 17, 8, 8]);
    for (index, greys) in [first, second].iter().enumerate() {
        let latent = reply.latent(index);
        assert_eq!(latent.len(), 4 * 17 * 64);
        for (cell, value) in latent.iter().enumerate() {
            let (channel, frame) = (cell / (17 * 64), cell / 64 % 17);
            let expected = level(greys[frame]) + (channel / 3) as f32;
            assert!(
                (value - expected).abs() < 1e-5,
                "clip {index}, value {cell}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_transform_holds_for_all_frames_and_a_clip_of_one_is_an_image() {
    let replica = Replica::start(&["--model", "m=synthetic"]).await;
    let mut ask = Ask::new(128, 64)
        .file(ASTRONAUT.0, ASTRONAUT.1, [40, 24])
        .flipped();
    let image = replica.encode(&ask).await.unwrap();
    assert_eq!(image.shape, [4, 8, 16]);
    ask.meta.frames = 3;
    ask.meta.items[0].payloads = 3;
    let rocket = Bytes::from_static(ROCKET.0);
    ask.payloads = vec![rocket.clone(), Bytes::from_static(ASTRONAUT.0), rocket];
    let clip = replica.encode(&ask).await.unwrap();
    assert_eq!(clip.shape, [4, 3, 8, 16]);
    let (cells, frames) = (8 * 16, 3);
    for channel in 0..4 {
        let middle = (channel * frames + 1) * cells;
        let image = &image.latent(0)[channel * cells..(channel + 1) * cells];
        assert_eq!(&clip.latent(0)[middle..middle + cells], image);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_latent_frame_stands_for_a_group_and_other_lengths_are_refused_with_the_nearest() {
    let replica = Replica::start(&["--model", "m=synthetic:temporal-compression=4"]).await;
    let info = replica.client().info(v1::InfoRequest {}).await.unwrap();
    let model = &info.into_inner().models[0];
    assert_eq!((model.temporal_compression, model.frame_step), (4, 4));
    let shown: Vec<u8> = (0..9).map(|frame| frame * 20).collect();
    let reply = replica.encode(&greys(Ask::new(64, 64), &shown)).await;
    let reply = reply.unwrap();
    assert_eq!(reply.shape, [4, 3, 8, 8]);
    for (frame, mean) in [0.0, 50.0, 130.0].iter().enumerate() {
        let value = reply.latent(0)[frame * 64];
        assert!(
            (value - (mean / 127.5 - 1.0)).abs() < 1e-5,
            "{frame}: {value}"
        );
    }
    for (frames, nearest) in [(2, "1 and 5"), (8, "5 and 9"), (10, "9 and 13")] {
        let ask = greys(Ask::new(64, 64), &vec![1; frames]);
        let status = replica.encode(&ask).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        let say = format!("frames is {frames}, but this model takes k * 4 + 1 of them");
        assert!(status.message().contains(&say), "{status}");
        assert!(status.message().ends_with(nearest), "{status}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_frame_fails_its_clip_by_number_and_no_other() {
    let replica = Replica::start(&["--model", "m=synthetic"]).await;
    let good = greys(Ask::new(64, 64), &[1, 2, 3]);
    let mut ask = greys(greys(good, &[4, 5, 6]), &[7, 8, 9]);
    // Of the second clip.
    ask.meta.items[1].source = Source::Encoded;
    let [w, h] = ROCKET.1;
    let item = &mut ask.meta.items[1];
    (item.source_width, item.source_height) = (w, h);
    (item.resize_width, item.resize_height) = (w, h);
    for (frame, say, code) in [
        (TRUNCATED, "frame 1 of 3: ", ItemCode::BadImage),
        (
            CHELSEA.0,
            "frame 1 of 3: decodes to 512x384",
            ItemCode::Changed,
        ),
    ] {
        for at in 3..6 {
            ask.payloads[at] = Bytes::from_static(ROCKET.0);
        }
        ask.payloads[4] = Bytes::from_static(frame);
        let reply = replica.encode(&ask).await.unwrap();
        let (seen, message) = reply.items[1].as_ref().unwrap_err();
        assert_eq!(*seen, code);
        assert!(message.starts_with(say), "{message}");
        assert!((reply.latent(0)[0] - level(1)).abs() < 1e-5);
        assert!((reply.latent(2)[0] - level(7)).abs() < 1e-5);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_are_decoded_while_the_rest_is_on_its_way() {
    let free = free_address();
    let listen = free.to_string();
    let (_program, address) =
        Program::start(&["--model", "m=synthetic", "--metrics-listen", &listen]);
    let shown: Vec<u8> = (0..40).collect();
    let ask = greys(Ask::new(64, 64), &shown);
    let body = written(&ask);
    let raw = Raw::connect(address).await;
    let (response, mut sending) = raw.open(&[]).await.unwrap();
    // Half of the frames, and half of one.
    let half = body.len() / 2;
    sending.send_data(body.slice(..half), false).unwrap();
    let decoded = || metric(&page(free), "preheat_frames_decoded_total");
    eventually(async || decoded() == 19.0).await;
    // In its place, however little of it is there.
    let queued = metric(&page(free), "preheat_queued_pixels");
    assert_eq!(queued, f64::from(64 * 64 * 40));
    sending.send_data(body.slice(half..), true).unwrap();
    let answer = soon(read(response)).await.unwrap();
    assert_eq!(answer.status().unwrap().code(), Code::Ok);
    let whole = ask.send(&mut client(connect(address).await)).await.unwrap();
    assert_eq!(decoded(), 80.0);
    // The same bits as when all came at once.
    let reply = <preheat_proto::v1::EncodeResponse as prost::Message>::decode(&answer.body[5..]);
    let reply = crate::harness::Reply::open(&ask, &reply.unwrap());
    assert_eq!(reply, whole);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_breaks_off_frees_everything() {
    let free = free_address();
    let listen = free.to_string();
    let (_program, address) =
        Program::start(&["--model", "m=synthetic", "--metrics-listen", &listen]);
    let queued = || metric(&page(free), "preheat_queued_pixels");
    let decoded = || metric(&page(free), "preheat_frames_decoded_total");
    let ask = greys(greys(Ask::new(64, 64), &[1; 9]), &[2; 9]);
    let body = written(&ask);
    // The first clip is whole, and encoded for nobody; of the second there is a part.
    let most = body.len() * 3 / 4;
    let raw = Raw::connect(address).await;
    for end in [false, true] {
        let before = decoded();
        let (response, mut sending) = raw.open(&[]).await.unwrap();
        sending.send_data(body.slice(..most), false).unwrap();
        eventually(async || decoded() >= before + 12.0).await;
        if end {
            sending.send_data(Bytes::new(), true).unwrap();
            let status = soon(read(response)).await.unwrap().status().unwrap();
            assert_eq!(status.code(), Code::InvalidArgument, "{status}");
            assert!(
                status.message().contains("the request ends after"),
                "{status}"
            );
        } else {
            sending.send_reset(h2::Reason::CANCEL);
        }
        eventually(async || queued() == 0.0).await;
    }
    ask.send(&mut client(connect(address).await)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn counts_that_do_not_add_up_are_told_as_soon_as_they_are_known() {
    let replica = Replica::start(&["--model", "m=synthetic"]).await;
    let mut ask = greys(Ask::new(64, 64), &[1, 2, 3]);
    ask.payloads.pop();
    let status = replica.encode(&ask).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(
        status.message().contains("consume 3 payloads, but 2"),
        "{status}"
    );
    // One too many, and the end withheld: refused without it.
    let ask = greys(Ask::new(64, 64), &[1, 2, 3, 4]);
    let mut short = ask.clone();
    short.meta.frames = 3;
    short.meta.items[0].payloads = 3;
    let raw = Raw::connect(replica.address).await;
    let body = written(&short);
    let (response, mut sending) = raw.open(&[]).await.unwrap();
    sending
        .send_data(body.slice(..body.len() - 1), false)
        .unwrap();
    // The last byte of the fourth is missing, but not its beginning.
    let tail = body.slice(body.len() - 1..);
    sending.send_data(tail, false).unwrap();
    let status = soon(read(response)).await.unwrap().status().unwrap();
    assert!(status.message().contains("more were sent"), "{status}");
}

/// The largest clip that the limits promise: a replica holds its decoded frames once, and of what they
/// are made of what the decode threads need.
#[tokio::test(flavor = "multi_thread")]
async fn the_largest_clip_takes_bounded_memory() {
    const FRAMES: u32 = 121;
    const DECODED: u64 = 1280 * 720 * 3 * FRAMES as u64;
    /// Buffers of the decoders, the latent, and what the allocator keeps.
    const SLACK: u64 = 128 << 20;
    let (program, address) = Program::start(&["--model", "m=synthetic"]);
    let mut client = client(connect(address).await);
    Ask::new(8, 8).grey(1).send(&mut client).await.unwrap();
    let before = program.resident();
    let mut ask = Ask::new(1280, 720).file(ROCKET.0, ROCKET.1, [0, 280]);
    ask.meta.frames = FRAMES;
    let item = &mut ask.meta.items[0];
    (item.resize_width, item.resize_height) = (1280, 1280);
    item.payloads = FRAMES;
    ask.payloads = vec![Bytes::from_static(ROCKET.0); FRAMES as usize];
    let reply = ask.send(&mut client).await.unwrap();
    assert_eq!(reply.shape, [4, FRAMES, 90, 160]);
    let grown = program.peak().saturating_sub(before);
    assert!(grown < DECODED + SLACK, "grew by {} MiB", grown >> 20);
}
