//! A model that fails, and what becomes of the replica.

use preheat_models::{Error, PixelData, Pixels};
use preheat_proto::ItemCode;

use crate::{
    harness::{Ask, Replica, scripted},
    peers::load,
};

fn first_pixel(pixels: &Pixels) -> u8 {
    match &pixels.data {
        PixelData::Rgb8(rgb) => rgb[0],
        PixelData::Planar(_) => panic!("the replica sends bytes"),
    }
}

fn model(pixels: &Pixels) -> Result<(), Error> {
    match first_pixel(pixels) {
        13 => panic!("as the test wants it"),
        14 => Err(Error::Device("out of memory".into())),
        15 => Err(Error::Size {
            width: pixels.width,
            height: pixels.height,
            reason: "17 or 33 would work".into(),
        }),
        _ => Ok(()),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_device_thread_survives_a_panic() {
    let replica = Replica::with_models(&["--max-batch", "1"], scripted(model)).await;
    let ask = Ask::new(8, 8).grey(1).grey(13).grey(2).grey(14);
    let reply = replica.encode(&ask).await.unwrap();
    assert_eq!(reply.latent(0).len(), 4);
    assert_eq!(reply.code(1), ItemCode::Internal);
    assert_eq!(reply.latent(2).len(), 4);
    let (code, message) = reply.items[3].as_ref().unwrap_err();
    assert_eq!(*code, ItemCode::Internal);
    assert!(message.contains("out of memory"), "{message}");
    let mut client = replica.client();
    let answer = client
        .encode(Ask::new(8, 8).grey(3).request())
        .await
        .unwrap();
    // Balancers hear of it.
    assert!(load(answer.metadata().clone().into_headers()).eps > 0.0);
    replica.stopped().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_size_that_only_the_model_knows_to_be_bad_refuses_the_call() {
    let replica = Replica::with_models(&[], scripted(model)).await;
    let status = replica.encode(&Ask::new(8, 8).grey(15)).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::InvalidArgument);
    assert!(status.message().contains("17 or 33"), "{status}");
}
