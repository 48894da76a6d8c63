//! What goes through unchanged, in both directions, and what is over when somebody goes.

use std::{future::poll_fn, sync::Arc};

use bytes::Bytes;
use h2::Reason;
use preheat_client::balance::orca::{Orca, TRAILER};
use tokio::sync::{Semaphore, mpsc};

use super::{Answer, CHAT, ENCODE, Fake, Relay, begun, map, next, push, read, within};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metadata_and_trailers_survive() {
    let (seen, mut requests) = mpsc::channel(16);
    let fake = Fake::start(move |request, mut respond| {
        let seen = seen.clone();
        async move {
            let (head, body) = request.into_parts();
            seen.try_send(head.headers).unwrap();
            let (body, _) = read(body).await;
            let mut response = begun();
            response
                .headers_mut()
                .extend(map(&[("x-early", "1"), ("x-early-bin", "AAEC")]));
            let mut send = respond.send_response(response, false).unwrap();
            push(&mut send, body, false).await.unwrap();
            let mut trailers = map(&[("grpc-status", "0"), ("x-late", "2"), ("x-late-bin", "/w")]);
            let orca = Orca {
                request_cost: [("pixels".to_owned(), 9.0), ("seconds".to_owned(), 0.5)].into(),
                ..Orca::default()
            };
            trailers.insert(TRAILER, orca.write());
            send.send_trailers(trailers).unwrap();
        }
    })
    .await;
    let relay = Relay::start(&[&fake], &[]).await;
    let caller = relay.caller().await;
    let headers = [
        ("x-call", "3"),
        ("x-call-bin", "AAEC"),
        ("traceparent", "00-aa-bb-01"),
        ("authorization", "Bearer mine"),
        ("preheat-needed-in-ms", "5000"),
        ("grpc-timeout", "7S"),
    ];
    let answer = caller
        .encode(&headers, Bytes::from_static(b"some bytes"))
        .await;
    assert_eq!(&answer.body[..], b"some bytes");
    assert_eq!((answer.code(), answer.said("x-late")), ("0", &b"2"[..]));
    assert_eq!(answer.headers["x-early-bin"], "AAEC");
    assert_eq!(answer.trailers["x-late-bin"], "/w");
    assert!(!answer.headers.contains_key("grpc-status"));
    let orca = Orca::read(&answer.trailers).unwrap();
    assert_eq!(orca.request_cost["pixels"], 9.0);
    // The replica's time is not the relay's.
    assert_eq!(orca.served(), None);
    assert!(orca.named_metrics.contains_key("window_pixels"));
    let request = requests.recv().await.unwrap();
    for (name, value) in &headers[..4] {
        assert_eq!(request[*name], value);
    }
    assert_eq!(request["te"], "trailers");
    // What is left, which is less.
    let left: u64 = request["preheat-needed-in-ms"]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!(left <= 5000, "{left}");
    let timeout = request["grpc-timeout"].to_str().unwrap().to_owned();
    let micros: u64 = timeout.strip_suffix('u').unwrap().parse().unwrap();
    assert!(micros > 0 && micros < 7_000_000, "{timeout}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_interleave() {
    let fake = Fake::start(|request, mut respond| async move {
        // Headers before anything was said, as many servers do.
        let mut send = respond.send_response(begun(), false).unwrap();
        let mut body = request.into_body();
        while let Some(Ok(data)) = body.data().await {
            body.flow_control().release_capacity(data.len()).unwrap();
            push(&mut send, data, false).await.unwrap();
        }
        send.send_trailers(map(&[("grpc-status", "0")])).unwrap();
    })
    .await;
    let relay = Relay::start(&[&fake], &[]).await;
    let caller = relay.caller().await;
    let (answer, mut send) = caller.begin(CHAT, &[]).await;
    let mut answer = within(answer).await.unwrap().into_body();
    for word in [&b"one"[..], b"two", b"three"] {
        let word = Bytes::copy_from_slice(word);
        push(&mut send, word.clone(), false).await.unwrap();
        assert_eq!(next(&mut answer).await, word);
    }
    send.send_data(Bytes::new(), true).unwrap();
    let (rest, trailers) = within(read(answer)).await;
    assert!(rest.is_empty());
    assert_eq!(trailers["grpc-status"], "0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_may_be_empty() {
    for in_one in [false, true] {
        let fake = Fake::start(move |_, mut respond| async move {
            let status = map(&[("grpc-status", "0"), ("x-late", "2")]);
            if in_one {
                super::fail(respond, status);
            } else {
                let mut send = respond.send_response(begun(), false).unwrap();
                send.send_trailers(status).unwrap();
            }
        })
        .await;
        let relay = Relay::start(&[&fake], &[]).await;
        let caller = relay.caller().await;
        for path in [CHAT, ENCODE] {
            let (answer, mut send) = caller.begin(path, &[("preheat-model", "vae")]).await;
            let _ = push(&mut send, Bytes::from_static(b"x"), true).await;
            let answer = Answer::read(answer).await;
            assert_eq!((answer.code(), answer.said("x-late")), ("0", &b"2"[..]));
            assert!(answer.body.is_empty());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_messages_pass_whole() {
    let fake = Fake::echo().await;
    let relay = Relay::start(&[&fake], &[]).await;
    let caller = relay.caller().await;
    let body: Vec<u8> = (0..60_000_000_u32).map(|i| (i ^ (i >> 11)) as u8).collect();
    let body = Bytes::from(body);
    let answer = caller.encode(&[], body.clone()).await;
    assert_eq!(answer.code(), "0");
    assert!(answer.body == body, "{} bytes", answer.body.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_are_repeated_word_by_word() {
    let status = [
        ("grpc-status", "3"),
        ("grpc-message", "field %E2%82%AC is wrong"),
        ("grpc-status-details-bin", "CAMSAm5v"),
        ("x-why-bin", "AAEC"),
    ];
    for in_trailers in [false, true] {
        let fake = Fake::start(move |request, mut respond| async move {
            read(request.into_body()).await;
            if in_trailers {
                let mut send = respond.send_response(begun(), false).unwrap();
                send.send_trailers(map(&status)).unwrap();
            } else {
                super::fail(respond, map(&status));
            }
        })
        .await;
        let relay = Relay::start(&[&fake], &[]).await;
        let caller = relay.caller().await;
        let answer = caller.encode(&[], Bytes::from_static(b"x")).await;
        for (name, value) in status {
            assert_eq!(answer.said(name), value.as_bytes(), "{name}");
        }
        assert_eq!(fake.calls(), 1, "it would be wrong everywhere");
    }
}

/// A replica that takes a call up, begins to answer if `begins`, and says why its stream ended.
async fn patient(begins: bool) -> (Fake, mpsc::Receiver<()>, mpsc::Receiver<Reason>) {
    let (here, arrived) = mpsc::channel(16);
    let (gone, ended) = mpsc::channel(16);
    let fake = Fake::start(move |request, mut respond| {
        let (here, gone) = (here.clone(), gone.clone());
        async move {
            let _request = request;
            here.try_send(()).unwrap();
            let reason = if begins {
                let mut send = respond.send_response(begun(), false).unwrap();
                push(&mut send, Bytes::from_static(b"begun"), false)
                    .await
                    .unwrap();
                poll_fn(|context| send.poll_reset(context)).await
            } else {
                poll_fn(|context| respond.poll_reset(context)).await
            };
            gone.try_send(reason.unwrap()).unwrap();
        }
    })
    .await;
    (fake, arrived, ended)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_goes_takes_its_call_along() {
    for (begins, whole, hangs_up) in [
        (false, true, false),
        (false, false, false),
        (true, true, false),
        (true, false, false),
        (false, false, true),
        (true, true, true),
    ] {
        let (fake, mut arrived, mut ended) = patient(begins).await;
        let relay = Relay::start(&[&fake], &[]).await;
        let caller = relay.caller().await;
        let headers = [("preheat-model", "vae"), ("preheat-cost-pixels", "9")];
        let (answer, mut send) = caller.begin(ENCODE, &headers).await;
        push(&mut send, Bytes::from_static(b"half"), whole)
            .await
            .unwrap();
        within(arrived.recv()).await.unwrap();
        if begins {
            let mut body = within(answer).await.unwrap().into_body();
            next(&mut body).await;
        }
        if hangs_up {
            drop(caller);
        } else {
            send.send_reset(Reason::CANCEL);
        }
        let reason = within(ended.recv()).await.unwrap();
        assert_eq!(reason, Reason::CANCEL, "{begins} {whole} {hangs_up}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_callers_patience_is_kept() {
    for begins in [false, true] {
        let (fake, _arrived, mut ended) = patient(begins).await;
        let relay = Relay::start(&[&fake], &[]).await;
        let caller = relay.caller().await;
        let answer = caller
            .encode(&[("grpc-timeout", "300m")], Bytes::from_static(b"x"))
            .await;
        assert_eq!(answer.code(), "4");
        assert!(
            answer.message().contains("grpc-timeout"),
            "{}",
            answer.message()
        );
        assert_eq!(within(ended.recv()).await.unwrap(), Reason::CANCEL);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_are_bounded_by_the_bytes_that_they_hold() {
    let gate = Arc::new(Semaphore::new(0));
    let opened = Arc::clone(&gate);
    let fake = Fake::start(move |request, respond| {
        let gate = Arc::clone(&gate);
        async move {
            let (body, _) = read(request.into_body()).await;
            drop(gate.acquire().await.unwrap());
            super::whole(respond, body).await;
        }
    })
    .await;
    let relay = Relay::start(&[&fake], &["--buffer-bytes", "67108864"]).await;
    let caller = relay.caller().await;
    let body = Bytes::from(vec![5; 40 << 20]);
    // Whichever of them fills the relay is refused; the other goes on.
    let headers = [("preheat-model", "vae")];
    let (first, mut send) = caller.begin(ENCODE, &headers).await;
    let sending = tokio::spawn(async move { push(&mut send, body, true).await });
    within(sending).await.unwrap().unwrap();
    super::until("the replica has it", || fake.calls() == 1).await;
    let refused = caller.encode(&[], Bytes::from(vec![6; 40 << 20])).await;
    assert_eq!(refused.code(), "8", "{}", refused.message());
    assert!(!refused.said("grpc-retry-pushback-ms").is_empty());
    opened.add_permits(9);
    let first = Answer::read(first).await;
    assert_eq!((first.code(), first.body.len()), ("0", 40 << 20));
    let again = caller.encode(&[], Bytes::from(vec![6; 40 << 20])).await;
    assert_eq!((again.code(), again.body.len()), ("0", 40 << 20));
}
