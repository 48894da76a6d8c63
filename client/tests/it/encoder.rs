//! One-off calls, and the loader's `wait`.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use preheat_client::{
    Crop, DataLoader, Encoder, EncoderConfig, Error, Keys, Picture, Posterior, Request, plan::Size,
};
use preheat_proto::ItemCode;
use tokio::sync::Semaphore;

use crate::{
    photos::{Photos, png},
    stub::{Act, Stub, drain, eventually},
};

/// For what comes at once on any machine.
const SOON: Duration = Duration::from_secs(60);

fn request(pictures: Vec<Picture>) -> Request {
    Request {
        pictures,
        size: None,
        crop: Crop::Center,
        keys: Keys::default(),
    }
}

fn files(count: u8) -> Vec<Picture> {
    let file = |tint| Picture::File(png(tint, 40, 32).into());
    (0..count).map(file).collect()
}

fn rgb(width: u32, height: u32) -> Picture {
    Picture::Rgb8 {
        size: Size::new(width, height),
        pixels: Bytes::from(vec![7; (width * height * 3) as usize]),
    }
}

#[test]
fn many_images_come_back_in_order() {
    let stub = Stub::answering();
    let encoder = Encoder::new(EncoderConfig::new(stub.uri(), "stub")).unwrap();
    let all = encoder.encode(request(files(10))).unwrap();
    assert_eq!(all.latents.shape, [10, 4, 4, 5]);
    assert!(stub.calls() > 1, "two images of 40 by 32 are a chunk");
    assert!(all.bad.is_empty());
    let each = all.latents.data.len() / 10;
    // The stub's answers depend on the content and on the number.
    let again = encoder.encode(request(files(10))).unwrap();
    assert_eq!(all.latents, again.latents);
    let one = |at: usize| &all.latents.data[at * each..(at + 1) * each];
    assert!((1..10).all(|at| one(at) != one(0)));
    let mixed = encoder.encode(request(vec![rgb(40, 32), rgb(40, 32)]));
    assert_eq!(mixed.unwrap().latents.shape[0], 2);
}

#[test]
fn draws_are_by_seed_epoch_and_id() {
    let stub = Stub::answering();
    let mut config = EncoderConfig::new(stub.uri(), "stub");
    config.posterior = Posterior::Sample;
    let encoder = Encoder::new(config).unwrap();
    let encode = |seed, epoch, ids: &[u64]| {
        let mut request = request(files(1));
        let ids = Some(ids.to_vec());
        request.keys = Keys { seed, epoch, ids };
        encoder.encode(request).unwrap().latents.data
    };
    let drawn = encode(1, 2, &[3]);
    assert_eq!(drawn, encode(1, 2, &[3]));
    for other in [encode(2, 2, &[3]), encode(1, 3, &[3]), encode(1, 2, &[4])] {
        assert_ne!(drawn, other);
    }
}

#[test]
fn bad_images_are_named_and_others_are_fine() {
    let stub = Stub::start(|_, _| Act::Items(vec![(2, ItemCode::BadImage)]));
    let encoder = Encoder::new(EncoderConfig::new(stub.uri(), "stub")).unwrap();
    let mut pictures = files(4);
    pictures[1] = Picture::File(Bytes::from_static(b"no image"));
    let encoded = encoder.encode(request(pictures)).unwrap();
    let bad: Vec<_> = encoded.bad.iter().map(|(number, _)| *number).collect();
    assert_eq!(bad, [1, 2]);
    assert!(encoded.bad[1].1.contains("scripted"), "{:?}", encoded.bad);
    let each = encoded.latents.data.len() / 4;
    let is_zero = |at: usize| {
        let mut bytes = encoded.latents.data[at * each..(at + 1) * each].iter();
        bytes.all(|&byte| byte == 0)
    };
    assert_eq!([0, 1, 2, 3].map(is_zero), [false, true, true, false]);
}

#[test]
fn requests_that_make_no_sense_say_why() {
    let stub = Stub::answering();
    let encoder = Encoder::new(EncoderConfig::new(stub.uri(), "stub")).unwrap();
    let refused = |pictures, size| {
        let mut request = request(pictures);
        request.size = size;
        encoder.encode(request).unwrap_err().to_string()
    };
    assert!(refused(vec![], None).contains("are 0"));
    assert!(refused(vec![rgb(40, 32), rgb(32, 32)], None).contains("give `size`"));
    assert!(refused(vec![rgb(4, 4)], None).contains("8 pixels and more"));
    let odd = refused(files(1), Some(Size::new(36, 32)));
    assert!(odd.contains("multiples of 8"), "{odd}");
    let short = Picture::Rgb8 {
        size: Size::new(8, 8),
        pixels: Bytes::from_static(&[0; 100]),
    };
    assert!(refused(vec![short], None).contains("needs 192 bytes, has 100"));
    assert_eq!(stub.calls(), 0);
}

#[test]
fn a_request_that_nobody_waits_for_is_cancelled() {
    let gate = Arc::new(Semaphore::new(0));
    let scripted = gate.clone();
    let stub = Stub::start(move |_, _| Act::Wait(scripted.clone()));
    let encoder = Encoder::new(EncoderConfig::new(stub.uri(), "stub")).unwrap();
    let (sender, done) = flume::bounded(1);
    let pending = encoder.submit(request(files(1)), move || {
        let _ = sender.send(());
    });
    let pending = pending.unwrap();
    eventually("a call is under way", || stub.calls() == 1);
    assert!(pending.wait(Duration::ZERO).is_none());
    gate.add_permits(1);
    done.recv_timeout(SOON).unwrap();
    pending.wait(SOON).unwrap().unwrap();

    let pending = encoder.submit(request(files(1)), || {}).unwrap();
    eventually("another is", || stub.calls() == 2);
    drop(pending);
    eventually("none is", || {
        stub.counts
            .in_flight
            .load(std::sync::atomic::Ordering::SeqCst)
            == 0
    });
}

#[test]
fn waiting_in_goes_is_waiting() {
    let gate = Arc::new(Semaphore::new(0));
    let scripted = gate.clone();
    let stub = Stub::start(move |_, _| Act::Wait(scripted.clone()));
    let photos = Photos::new(12);
    let mut loader = DataLoader::new(photos.config(&stub.uri())).unwrap();
    let start = loader.state();
    assert!(!loader.wait(Duration::ZERO) && !loader.wait(Duration::from_millis(1)));
    assert_eq!(loader.state(), start);
    gate.add_permits(1 << 20);
    assert!(loader.wait(SOON) && loader.wait(Duration::ZERO));
    assert_eq!(loader.state(), start, "nothing was taken");
    // What was waited for and not taken is not lost to another place.
    loader.load_state(&start).unwrap();
    let reference = drain(&mut loader, 1);
    assert_eq!(reference[0].step, 0);
    assert!(loader.wait(Duration::ZERO), "there is nothing to wait for");
    assert!(loader.next_batch().unwrap().is_none());

    let stub = Stub::start(|_, _| Act::Items((0..12).map(|id| (id, ItemCode::BadImage)).collect()));
    let mut failing = DataLoader::new(photos.config(&stub.uri())).unwrap();
    assert!(failing.wait(SOON));
    assert!(matches!(failing.next_batch(), Err(Error::BadSample { .. })));
    assert!(failing.wait(Duration::ZERO));
}
