//! Replicas that die, lie and babble, beside one that does not.

use bytes::Bytes;
use h2::Reason;
use http::{HeaderValue, Response};
use preheat_client::balance::orca::TRAILER;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::{ENCODE, Fake, Relay, begun, fail, map, next, push, read, within};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_dies_before_the_first_byte_is_replaced() {
    let body = Bytes::from(vec![7; 3 << 20]);
    // Before it has read anything, in the middle, and at the end.
    for after in [0, 1 << 20, 3 << 20] {
        let mortal = Fake::start(move |request, mut respond| async move {
            let mut body = request.into_body();
            let mut seen = 0;
            while seen < after {
                seen += next(&mut body).await.len();
            }
            respond.send_reset(Reason::CANCEL);
        })
        .await;
        let good = Fake::echo().await;
        let relay = Relay::start(&[&mortal, &good], &[]).await;
        let caller = relay.caller().await;
        let answer = caller.encode(&[], body.clone()).await;
        assert_eq!(answer.code(), "0", "{}", answer.message());
        assert!(answer.body == body);
        assert_eq!((mortal.calls(), good.calls()), (1, 1));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_replica_is_replaced_while_the_body_still_comes() {
    let mortal = Fake::start(|request, _respond| async move {
        read(request.into_body()).await;
    })
    .await;
    let good = Fake::echo().await;
    let relay = Relay::start(&[&mortal, &good], &[]).await;
    let caller = relay.caller().await;
    let headers = [("preheat-model", "vae"), ("preheat-cost-pixels", "9")];
    let (answer, mut send) = caller.begin(ENCODE, &headers).await;
    push(&mut send, Bytes::from_static(b"head"), false)
        .await
        .unwrap();
    super::until("the first has it", || mortal.calls() == 1).await;
    mortal.gone().await;
    super::until("the second has it", || good.calls() == 1).await;
    push(&mut send, Bytes::from_static(b" and tail"), true)
        .await
        .unwrap();
    let answer = super::Answer::read(answer).await;
    assert_eq!(
        (answer.code(), &answer.body[..]),
        ("0", &b"head and tail"[..])
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_breaks_off_is_said_to() {
    let fake = Fake::start(|request, mut respond| async move {
        read(request.into_body()).await;
        let mut send = respond.send_response(begun(), false).unwrap();
        push(&mut send, Bytes::from_static(b"begun"), false)
            .await
            .unwrap();
        std::future::pending().await
    })
    .await;
    let good = Fake::echo().await;
    let relay = Relay::start(&[&fake, &good], &[]).await;
    let caller = relay.caller().await;
    let headers = [("preheat-model", "vae"), ("preheat-cost-pixels", "9")];
    let (answer, mut send) = caller.begin(ENCODE, &headers).await;
    push(&mut send, Bytes::from_static(b"x"), true)
        .await
        .unwrap();
    let mut answer = within(answer).await.unwrap().into_body();
    assert_eq!(&next(&mut answer).await[..], b"begun");
    fake.gone().await;
    let (rest, trailers) = within(read(answer)).await;
    assert!(rest.is_empty());
    assert_eq!(trailers["grpc-status"], "14");
    let message = trailers["grpc-message"].to_str().unwrap();
    assert!(message.contains("broke%20off"), "{message}");
    assert_eq!(good.calls(), 0, "the caller has seen a part of it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_that_babble_are_passed_over() {
    type Babble = fn(h2::server::SendResponse<Bytes>);
    let babble: [Babble; 7] = [
        // Statuses that would make a careless reader panic.
        |respond| {
            let status = [
                ("grpc-status", "13"),
                ("grpc-message", "%ff%f"),
                ("grpc-status-details-bin", "!!"),
                (TRAILER, "!!"),
                ("grpc-retry-pushback-ms", "soon"),
            ];
            fail(respond, map(&status));
        },
        |mut respond| {
            let mut status = map(&[("grpc-status", "banana")]);
            let noise = HeaderValue::from_bytes(b"\xff\xfe").unwrap();
            status.insert("grpc-message", noise.clone());
            status.insert("grpc-status-details-bin", noise);
            let mut send = respond.send_response(begun(), false).unwrap();
            send.send_trailers(status).unwrap();
        },
        // No gRPC at all.
        |mut respond| {
            let response = Response::builder().status(502).body(()).unwrap();
            respond.send_response(response, true).unwrap();
        },
        |mut respond| {
            let response = Response::builder().header("content-type", "text/html");
            let mut send = respond
                .send_response(response.body(()).unwrap(), false)
                .unwrap();
            send.send_data(Bytes::from_static(b"<html>"), true).unwrap();
        },
        // An end without a status.
        |mut respond| {
            respond.send_response(begun(), true).unwrap();
        },
        |mut respond| respond.send_reset(Reason::INTERNAL_ERROR),
        // More headers than anybody has.
        |mut respond| {
            let mut response = begun();
            let long = HeaderValue::from_bytes(&[b'a'; 8000]).unwrap();
            for index in 0..8 {
                let name = http::HeaderName::try_from(format!("x-{index}")).unwrap();
                response.headers_mut().insert(name, long.clone());
            }
            let _ = respond.send_response(response, true);
        },
    ];
    for (index, babble) in babble.into_iter().enumerate() {
        let bad = Fake::start(move |request, respond| async move {
            read(request.into_body()).await;
            babble(respond);
        })
        .await;
        let good = Fake::echo().await;
        let relay = Relay::start(&[&bad, &good], &[]).await;
        let caller = relay.caller().await;
        for _ in 0..2 {
            let answer = caller.encode(&[], Bytes::from_static(b"bytes")).await;
            assert_eq!((index, answer.code()), (index, "0"), "{}", answer.message());
            assert_eq!(&answer.body[..], b"bytes");
        }
        assert!(bad.calls() > 0 && good.calls() == 2);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn late_nonsense_reaches_only_the_caller_that_it_is_for() {
    let fake = Fake::start(|request, mut respond| async move {
        let (body, _) = read(request.into_body()).await;
        let mut send = respond.send_response(begun(), false).unwrap();
        push(&mut send, body.clone(), false).await.unwrap();
        match &body[..] {
            b"good" => send.send_trailers(map(&[("grpc-status", "0")])).unwrap(),
            b"mute" => send.send_data(Bytes::new(), true).unwrap(),
            _ => {
                let status = [
                    ("grpc-status", "13"),
                    ("grpc-status-details-bin", "!!"),
                    (TRAILER, "//////8"),
                ];
                send.send_trailers(map(&status)).unwrap();
            }
        }
    })
    .await;
    let relay = Relay::start(&[&fake], &[]).await;
    let caller = relay.caller().await;
    for (body, code) in [("bad", "13"), ("good", "0"), ("mute", "14"), ("good", "0")] {
        let answer = caller
            .encode(&[], Bytes::from_static(body.as_bytes()))
            .await;
        assert_eq!((body, answer.code()), (body, code));
        assert_eq!(answer.body, body);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn noise_in_the_place_of_frames_is_no_replica() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let noisy = format!("http://{}", listener.local_addr().unwrap());
    let noise = tokio::spawn(async move {
        while let Ok((mut peer, _)) = listener.accept().await {
            let _ = peer.write_all(&[0xa5; 4096]).await;
            let _ = peer.read(&mut [0; 4096]).await;
        }
    });
    let good = Fake::echo().await;
    let uris = [noisy, good.uri()];
    let config = super::config(&uris, &[]);
    let fleet = std::sync::Arc::new(super::Fleet::start(&config).await.unwrap());
    super::all_up(&*fleet, 1).await;
    let relay = Relay::with(fleet, &config).await;
    let answer = relay
        .caller()
        .await
        .encode(&[], Bytes::from_static(b"bytes"))
        .await;
    assert_eq!((answer.code(), &answer.body[..]), ("0", &b"bytes"[..]));
    noise.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_balancer_of_the_product_gets_every_call_through() {
    let body = Bytes::from(vec![7; 1 << 20]);
    let fault = Fake::start(|request, respond| async move {
        read(request.into_body()).await;
        fail(respond, map(&[("grpc-status", "13")]));
    })
    .await;
    let mortal =
        Fake::start(|_, mut respond| async move { respond.send_reset(Reason::CANCEL) }).await;
    let good = Fake::echo().await;
    let relay = Relay::balancing(&[&fault, &mortal, &good], &[]).await;
    let caller = relay.caller().await;
    for index in 0..20 {
        let answer = caller.encode(&[], body.clone()).await;
        assert_eq!((index, answer.code()), (index, "0"), "{}", answer.message());
        assert!(answer.body == body);
    }
    assert_eq!(good.calls(), 20);
    let (answer, mut send) = caller.begin(super::CHAT, &[]).await;
    push(&mut send, Bytes::from_static(b"x"), true)
        .await
        .unwrap();
    // Whoever it goes to, it is answered.
    assert!(!super::Answer::read(answer).await.code().is_empty());
    good.gone().await;
    // With nobody left who can, the caller is told so in the time that it gave.
    let late = caller.encode(&[("grpc-timeout", "500m")], body).await;
    assert_ne!(late.code(), "0");
}
