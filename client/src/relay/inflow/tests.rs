use futures::StreamExt as _;
use tokio::sync::mpsc;

use super::*;

const LIMIT: usize = 1 << 30;

/// A body that brings what is sent, until the sender is dropped.
struct Fed(mpsc::Receiver<Bytes>);

impl HttpBody for Fed {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        self.0
            .poll_recv(context)
            .map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}

fn fed(limit: usize) -> (mpsc::Sender<Bytes>, Inflow, Arc<Budget>) {
    let (sender, receiver) = mpsc::channel(1024);
    let budget = Arc::new(Budget::new(limit));
    let inflow = Inflow::new(Body::new(Fed(receiver)), Arc::clone(&budget));
    (sender, inflow, budget)
}

async fn frame(replay: &mut Replay) -> Option<Result<Bytes, Status>> {
    let frame = poll_fn(|context| Pin::new(&mut *replay).poll_frame(context)).await?;
    Some(frame.map(|frame| frame.into_data().unwrap_or_default()))
}

async fn all(mut replay: Replay) -> usize {
    let mut bytes = 0;
    while let Some(frame) = frame(&mut replay).await {
        bytes += frame.unwrap().len();
    }
    bytes
}

#[tokio::test]
async fn two_attempts_see_the_same_frames_while_they_come() {
    let (sender, inflow, budget) = fed(LIMIT);
    let big = Bytes::from(vec![7; 100_000]);
    sender.try_send(big.clone()).unwrap();
    let mut first = inflow.replay().unwrap();
    let seen = frame(&mut first).await.unwrap().unwrap();
    assert_eq!(seen.as_ptr(), big.as_ptr(), "it is not copied");
    let mut second = inflow.replay().unwrap();
    assert_eq!(frame(&mut second).await.unwrap().unwrap(), big);
    sender.try_send(Bytes::from_static(b"tail")).unwrap();
    assert_eq!(&frame(&mut second).await.unwrap().unwrap()[..], b"tail");
    assert_eq!(&frame(&mut first).await.unwrap().unwrap()[..], b"tail");
    drop(sender);
    assert!(frame(&mut first).await.is_none() && first.is_end_stream());
    assert_eq!(inflow.whole(), Some(100_004));
    drop((first, inflow));
    assert!(
        frame(&mut second).await.unwrap().is_err(),
        "its owner is gone"
    );
    drop(second);
    assert_eq!(budget.used(), 0);
}

#[tokio::test]
async fn what_passes_is_not_kept() {
    let (sender, inflow, budget) = fed(LIMIT);
    sender.try_send(vec![1; 50_000].into()).unwrap();
    let mut only = inflow.replay().unwrap();
    frame(&mut only).await.unwrap().unwrap();
    assert!(budget.used() > 50_000);
    inflow.pass();
    assert_eq!(budget.used(), 0);
    assert!(inflow.replay().is_none(), "its first byte is gone");
    sender.try_send(vec![1; 50_000].into()).unwrap();
    frame(&mut only).await.unwrap().unwrap();
    assert_eq!(budget.used(), 0);
}

#[tokio::test]
async fn a_stream_longer_than_the_bound_goes_on_and_cannot_begin_again() {
    let (sender, inflow, budget) = fed(LIMIT);
    let frames = 3 * CALL_BYTES / (1 << 20);
    for _ in 0..frames {
        sender.try_send(vec![0; 1 << 20].into()).unwrap();
    }
    drop(sender);
    let sizes = futures::stream::unfold(inflow.replay().unwrap(), async |mut replay| {
        let frame = frame(&mut replay).await?;
        Some((frame.unwrap().len(), replay))
    });
    let most = std::cell::Cell::new(0);
    let sizes = sizes.inspect(|_| most.set(most.get().max(budget.used())));
    assert_eq!(sizes.count().await, frames);
    assert!(most.get() < CALL_BYTES + (2 << 20), "{}", most.get());
    assert!(inflow.replay().is_none());
}

#[tokio::test]
async fn a_full_relay_refuses_and_gives_its_bytes_back() {
    let (sender, inflow, budget) = fed(100_000);
    sender.try_send(vec![0; 60_000].into()).unwrap();
    sender.try_send(vec![0; 60_000].into()).unwrap();
    let error = inflow.breaks().await;
    assert_eq!(error.code, Code::Busy);
    assert!(error.retry_after.is_some());
    drop(inflow);
    // The task that read it ends in its own time.
    while budget.used() > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn the_first_bytes_are_looked_at_as_they_come() {
    let (sender, inflow, _) = fed(LIMIT);
    let look = |head: &[u8], all: bool| (head.len() >= 3 || all).then(|| head.to_vec());
    let (seen, ()) = tokio::join!(inflow.peek(8, look), async {
        for byte in [b"a", b"b", b"c"] {
            sender.try_send(Bytes::from_static(byte)).unwrap();
            tokio::task::yield_now().await;
        }
    });
    assert_eq!(seen.unwrap(), b"abc");
    let all = inflow.peek(2, |head, all| all.then(|| head.to_vec())).await;
    assert_eq!(all.unwrap(), b"ab");
    drop(sender);
    assert_eq!(all_of(&inflow).await, 3);
}

async fn all_of(inflow: &Inflow) -> usize {
    all(inflow.replay().unwrap()).await
}
