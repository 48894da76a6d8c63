//! The main road: pictures in, the right latents out.

use preheat_models::image;
use preheat_proto::{DType, ItemCode, Posterior};

use crate::{
    files::{ASTRONAUT, BOMB, CHELSEA, EMPTY, NOT_AN_IMAGE, PNG, ROCKET, TRUNCATED, TURNED, WEBP},
    harness::{Ask, Replica, Reply},
};

/// The synthetic latent of a crop, from its definition: means over cells of 8x8 pixels.
fn cell_means(file: &[u8], [x, y]: [usize; 2], [w, h]: [usize; 2], flip: bool) -> Vec<f32> {
    let rgb = image::decode(file, 1 << 20).unwrap();
    let value = |c: usize, row: usize, col: usize| {
        let col = if flip { w - 1 - col } else { col };
        let at = ((y + row) * rgb.width as usize + x + col) * 3 + c % 3;
        f32::from(rgb.data[at]) / 127.5 - 1.0
    };
    let mut means = Vec::new();
    for c in 0..4 {
        for cell in 0..h / 8 * (w / 8) {
            let (top, left) = (cell / (w / 8) * 8, cell % (w / 8) * 8);
            let pixels = (0..64).map(|i| value(c, top + i / 8, left + i % 8));
            means.push(pixels.sum::<f32>() / 64.0 + (c / 3) as f32);
        }
    }
    means
}

fn assert_close(seen: &[f32], expected: &[f32]) {
    assert_eq!(seen.len(), expected.len());
    for (index, (a, b)) in seen.iter().zip(expected).enumerate() {
        assert!((a - b).abs() < 1e-5, "value {index} is {a}, expected {b}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn photos_crops_and_flips_give_their_cell_means() {
    let replica = Replica::start(&["--model", "m=synthetic"]).await;
    let ask = Ask::new(256, 128)
        .file(ASTRONAUT.0, ASTRONAUT.1, [0, 0])
        .file(CHELSEA.0, CHELSEA.1, [17, 33])
        .file(ROCKET.0, ROCKET.1, [256, 384])
        .flipped();
    let reply = replica.encode(&ask).await.unwrap();
    assert_eq!(reply.shape, [4, 16, 32]);
    let size = [256, 128];
    assert_close(
        reply.latent(0),
        &cell_means(ASTRONAUT.0, [0, 0], size, false),
    );
    assert_close(
        reply.latent(1),
        &cell_means(CHELSEA.0, [17, 33], size, false),
    );
    assert_close(
        reply.latent(2),
        &cell_means(ROCKET.0, [256, 384], size, true),
    );
    replica.stopped().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn other_formats_and_orientations() {
    let replica = Replica::start(&["--model", "m=synthetic"]).await;
    let ask = Ask::new(64, 64)
        .file(TURNED.0, TURNED.1, [8, 300])
        .file(PNG.0, PNG.1, [0, 8])
        .file(WEBP.0, WEBP.1, [99, 1]);
    let reply = replica.encode(&ask).await.unwrap();
    for (index, (file, at)) in [(TURNED.0, [8, 300]), (PNG.0, [0, 8]), (WEBP.0, [99, 1])]
        .into_iter()
        .enumerate()
    {
        assert_close(reply.latent(index), &cell_means(file, at, [64, 64], false));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_items_fail_alone_with_their_code() {
    let replica = Replica::start(&["--model", "m=synthetic"]).await;
    let mut ask = Ask::new(64, 64)
        .file(TRUNCATED, [451, 300], [0, 0])
        .file(CHELSEA.0, CHELSEA.1, [64, 64])
        .file(EMPTY, [64, 64], [0, 0])
        .file(NOT_AN_IMAGE, [64, 64], [0, 0])
        .file(BOMB, [451, 300], [0, 0])
        .file(ASTRONAUT.0, [640, 512], [0, 0])
        .grey(7)
        .grey(255);
    ask.payloads[6] = ask.payloads[6].slice(1..);
    let reply = replica.encode(&ask).await.unwrap();
    assert_eq!(reply.code(0), ItemCode::BadImage);
    assert_close(
        reply.latent(1),
        &cell_means(CHELSEA.0, [64, 64], [64, 64], false),
    );
    assert_eq!(reply.code(2), ItemCode::BadImage);
    assert!(matches!(
        reply.code(3),
        ItemCode::BadImage | ItemCode::Unsupported
    ));
    assert_eq!(reply.code(4), ItemCode::TooLarge);
    assert_eq!(reply.code(5), ItemCode::Changed);
    let (_, message) = reply.items[5].as_ref().unwrap_err();
    assert!(
        message.contains("512x512") && message.contains("640x512"),
        "{message}"
    );
    assert_eq!(reply.code(6), ItemCode::BadImage);
    assert_close(&reply.latent(7)[..64], &[1.0; 64]);
    // Two tensors of 4x8x8 floats, and no gap for those that failed.
    assert_eq!(reply.bytes, 2 * 1024);

    // The replica is unharmed.
    replica.encode(&Ask::new(64, 64).grey(1)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_of_only_bad_items_still_says_why_for_each() {
    let replica = Replica::start(&["--model", "m=synthetic"]).await;
    let mut ask = Ask::new(64, 64);
    for _ in 0..preheat_proto::limits::MAX_ITEMS {
        ask = ask.file(EMPTY, [64, 64], [0, 0]);
    }
    let reply = replica.encode(&ask).await.unwrap();
    assert_eq!(reply.bytes, 0);
    assert!(reply.items.iter().all(Result::is_err));
}

#[tokio::test(flavor = "multi_thread")]
async fn batch_mates_do_not_change_a_result() {
    let replica = Replica::start(&["--model", "m=synthetic"]).await;
    let alone = Ask::new(128, 128).file(CHELSEA.0, CHELSEA.1, [5, 9]);
    let alone = replica.encode(&alone).await.unwrap();
    let crowd = |seed: u8| {
        let mut ask = Ask::new(128, 128);
        for index in 0..15 {
            ask = ask.grey(seed.wrapping_mul(31).wrapping_add(index));
        }
        ask.file(CHELSEA.0, CHELSEA.1, [5, 9])
    };
    let asks: Vec<_> = (0..6).map(crowd).collect();
    let replies = futures::future::join_all(asks.iter().map(|ask| replica.encode(ask))).await;
    for (seed, reply) in replies.into_iter().enumerate() {
        let reply: Reply = reply.unwrap();
        assert_eq!(reply.latent(15), alone.latent(0));
        let grey = (seed as u8).wrapping_mul(31).wrapping_add(3);
        let expected = f32::from(grey) / 127.5 - 1.0;
        assert_close(&reply.latent(3)[..256], &[expected; 256]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clips_keep_their_frames_in_order() {
    let replica = Replica::start(&["--model", "m=synthetic"]).await;
    let mut ask = Ask::new(16, 8).grey(0);
    ask.meta.frames = 3;
    ask.meta.items[0].payloads = 3;
    ask.payloads = [10_u8, 20, 30].map(|v| vec![v; 16 * 8 * 3].into()).into();
    let reply = replica.encode(&ask).await.unwrap();
    assert_eq!(reply.shape, [4, 3, 1, 2]);
    let expected: Vec<_> = [10.0, 10.0, 20.0, 20.0, 30.0, 30.0]
        .iter()
        .map(|v| v / 127.5 - 1.0)
        .collect();
    assert_close(&reply.latent(0)[..6], &expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn tensors_are_aligned_in_every_dtype() {
    let replica = Replica::start(&["--model", "m=synthetic"]).await;
    let mut ask = Ask::new(8, 8).grey(255).grey(0);
    // One latent has 4 values, less than the alignment, so alignment shows: the check of the reply
    // demands it.
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        ask.meta.dtype = dtype;
        let reply = replica.encode(&ask).await.unwrap();
        assert_eq!(reply.bytes, 128, "{dtype}");
        assert_eq!(reply.latent(0), [1.0, 1.0, 1.0, 2.0], "{dtype}");
        assert_eq!(reply.latent(1), [-1.0, -1.0, -1.0, 0.0], "{dtype}");
    }

    ask.meta.posterior = Posterior::Sample;
    let status = replica.encode(&ask).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::InvalidArgument);
    assert!(status.message().contains("mode"), "{status}");
}
