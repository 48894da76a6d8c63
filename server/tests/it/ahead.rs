//! A device that works by itself takes the next batch while it computes.

use std::time::Duration;

use preheat_models::{
    Encoder, Error, Moments, Pending, PixelData, Pixels, Spec, synthetic::Synthetic,
};
use preheat_proto::ItemCode;
use preheat_server::Model;

use crate::harness::{Ask, Replica, soon};

/// Computes when the test says so, and fails where the first pixel says so.
struct Device {
    inner: Synthetic,
    begun: flume::Sender<()>,
    compute: flume::Receiver<()>,
}

/// First pixels of pictures on which the device fails, while it computes and while it is read.
const LOST: u8 = 20;
const UNREADABLE: u8 = 21;

impl Encoder for Device {
    fn spec(&self) -> &Spec {
        self.inner.spec()
    }

    fn encode(&mut self, pixels: &Pixels) -> Result<Moments, Error> {
        self.inner.encode(pixels)
    }

    fn begin(&mut self, pixels: &Pixels) -> Result<Pending, Error> {
        let PixelData::Rgb8(rgb) = &pixels.data else {
            panic!("the replica sends bytes");
        };
        let (first, compute) = (rgb[0], self.compute.clone());
        let moments = self.inner.encode(pixels);
        let _ = self.begun.send(());
        let computed = move || {
            // An error means that the test is over.
            let _ = compute.recv();
            match first {
                LOST => Err(Error::Device("lost".into())),
                _ => Ok(()),
            }
        };
        Ok(Pending::new(
            Duration::ZERO,
            computed,
            move || match first {
                UNREADABLE => panic!("as the test wants it"),
                _ => moments,
            },
        ))
    }
}

async fn replica() -> (Replica, flume::Receiver<()>, flume::Sender<()>) {
    let (begun, begins) = flume::bounded(64);
    let (go, compute) = flume::bounded(64);
    let device = Device {
        inner: Synthetic::new(Default::default()),
        begun,
        compute,
    };
    let model = vec![Model::new("m", vec![Box::new(device) as Box<dyn Encoder>])];
    let replica = Replica::with_models(&["--max-batch", "1"], model).await;
    (replica, begins, go)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_batch_is_there_before_the_first_is_done() {
    let (replica, begins, go) = replica().await;
    let ask = Ask::new(8, 8).grey(1).grey(2).grey(3).grey(4);
    let answer = async { replica.encode(&ask).await.unwrap() };
    let device = async {
        for _ in 0..2 {
            soon(begins.recv_async()).await.unwrap();
        }
        // Both are on the device, and neither is computed. A third would be one too many.
        for _ in 2..4 {
            assert!(begins.is_empty());
            go.send(()).unwrap();
            soon(begins.recv_async()).await.unwrap();
        }
        go.send(()).unwrap();
        go.send(()).unwrap();
    };
    let (reply, ()) = tokio::join!(soon(answer), device);
    for (index, grey) in [1.0, 2.0, 3.0, 4.0].into_iter().enumerate() {
        let seen = reply.latent(index)[0];
        assert!((seen - (grey / 127.5 - 1.0)).abs() < 1e-6, "{seen}");
    }
    replica.stopped().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_after_the_beginning_are_told_to_their_items() {
    let (replica, _begins, go) = replica().await;
    drop(go);
    let ask = Ask::new(8, 8).grey(1).grey(LOST).grey(2).grey(UNREADABLE);
    let reply = soon(replica.encode(&ask)).await.unwrap();
    assert_eq!(reply.latent(0).len(), 4);
    assert_eq!(reply.code(1), ItemCode::Internal);
    assert_eq!(reply.latent(2).len(), 4);
    assert_eq!(reply.code(3), ItemCode::Internal);
    replica.stopped().await;
}
