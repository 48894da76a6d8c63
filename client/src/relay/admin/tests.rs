//! The port, over a socket.

use std::sync::{
    Mutex as Lock,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::relay::sample;

#[derive(Default)]
struct Balancer {
    view: Lock<View>,
    draining: AtomicBool,
    looks: AtomicUsize,
}

impl Source for Arc<Balancer> {
    fn view(&self) -> View {
        self.looks.fetch_add(1, Ordering::Relaxed);
        self.view.lock().unwrap().clone()
    }

    fn listing(&self) -> Arc<Listing> {
        let troubles = sample::troubles();
        Arc::new(Listing {
            troubles,
            ..Listing::default()
        })
    }

    fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }
}

async fn start(view: View) -> (Arc<Balancer>, SocketAddr) {
    let view = Lock::new(view);
    let balancer = Arc::new(Balancer {
        view,
        ..Balancer::default()
    });
    let any = "127.0.0.1:0".parse().unwrap();
    let address = serve(any, Arc::clone(&balancer)).await.unwrap();
    (balancer, address)
}

/// The whole answer.
async fn ask(address: SocketAddr, line: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("{line} HTTP/1.1\r\nhost: x\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn every_path_answers() {
    let (_balancer, address) = start(sample::view()).await;
    let page = ask(address, "GET /").await;
    assert!(page.starts_with("HTTP/1.1 200"), "{page}");
    for part in [
        "text/html",
        "no-store",
        "default-src 'none'",
        "nosniff",
        "spot-17.gpus",
        "</html>",
    ] {
        assert!(page.contains(part), "{part}");
    }
    let metrics = ask(address, "GET /metrics?x=1").await;
    assert!(metrics.contains("version=0.0.4"));
    assert!(metrics.contains("\npreheat_balancer_desired_replicas 12\n"));
    let view = ask(address, "GET /view.json").await;
    let (_, view) = view.split_once("\r\n\r\n").unwrap();
    let view: serde_json::Value = serde_json::from_str(view).unwrap();
    assert_eq!(view["replicas"].as_array().unwrap().len(), 15);
    assert_eq!(view["replicas"][9]["standing"], "away");
    assert_eq!(view["queue"]["by_slack"][0]["below_seconds"], 0.0);
    assert_eq!(
        view["queue"]["by_slack"][4]["below_seconds"],
        serde_json::Value::Null
    );
    assert_eq!(
        view["trainers"][2]["ready_batches"],
        serde_json::Value::Null
    );
    assert_eq!(view["troubles"].as_array().unwrap().len(), 2);
    assert!(ask(address, "GET /livez").await.ends_with("alive\n"));
    assert!(
        ask(address, "GET /nothing")
            .await
            .starts_with("HTTP/1.1 404")
    );
    let refused = ask(address, "POST /").await;
    assert!(
        refused.starts_with("HTTP/1.1 405") && refused.contains("allow: GET, HEAD"),
        "{refused}"
    );
    let head = ask(address, "HEAD /").await;
    assert!(
        head.starts_with("HTTP/1.1 200") && head.ends_with("\r\n\r\n"),
        "{head}"
    );
}

#[tokio::test(start_paused = true)]
async fn readiness_follows_the_fleet() {
    let (balancer, address) = start(View::default()).await;
    let said = async || {
        // Past the last look.
        tokio::time::advance(FRESH).await;
        let answer = ask(address, "GET /readyz").await;
        (
            answer[9..12].to_owned(),
            answer.lines().last().unwrap().to_owned(),
        )
    };
    assert_eq!(
        said().await,
        ("503".into(), "not ready: no replica is up".into())
    );
    *balancer.view.lock().unwrap() = sample::view();
    assert_eq!(said().await, ("200".into(), "ready".into()));
    balancer.draining.store(true, Ordering::Relaxed);
    assert_eq!(said().await, ("503".into(), "not ready: draining".into()));
}

#[tokio::test]
async fn many_pages_are_one_look() {
    let (balancer, _) = start(sample::view()).await;
    let state = State {
        source: Arc::clone(&balancer),
        seen: Mutex::new(None),
    };
    tokio::time::pause();
    for _ in 0..100 {
        state.look().await;
    }
    assert_eq!(balancer.looks.load(Ordering::Relaxed), 1);
    tokio::time::advance(FRESH).await;
    state.look().await;
    assert_eq!(balancer.looks.load(Ordering::Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn whoever_says_nothing_is_closed() {
    let (_balancer, address) = start(View::default()).await;
    let before = Instant::now();
    let mut silent = TcpStream::connect(address).await.unwrap();
    assert_eq!(silent.read(&mut [0; 16]).await.unwrap_or(0), 0);
    assert!(before.elapsed() <= CONNECTION_TIME);
}
