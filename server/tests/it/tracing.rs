//! A call's trace, in the log and at a collector.

use crate::{
    harness::{Ask, client, connect},
    process::Program,
};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

fn traced() -> Ask {
    let parent = format!("00-{TRACE}-00f067aa0ba902b7-01");
    Ask::new(64, 64).grey(1).header("traceparent", parent)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_item_leaves_one_line_that_names_its_trace() {
    let (mut program, address) = Program::start(&["--model", "m=synthetic"]);
    let mut client = client(connect(address).await);
    let ask = traced().file(b"not an image", [64, 64], [0, 0]);
    let reply = ask.send(&mut client).await.unwrap();
    assert!(reply.items[1].is_err());
    program.signal("TERM");
    program.exit().await;
    let log = program.stderr();
    let lines: Vec<_> = log
        .lines()
        .filter(|line| line.contains("an item failed"))
        .collect();
    assert_eq!(lines.len(), 1, "{log}");
    let plain: String = strip(lines[0]);
    for part in [
        "model=\"m\"",
        "id=101",
        "index=1",
        "code=BadImage",
        TRACE,
        "00f067aa0ba902b7",
    ] {
        assert!(plain.contains(part), "{part} is not in: {plain}");
    }
}

/// Without the colours that the log may have.
fn strip(line: &str) -> String {
    let mut parts = line.split('\x1b');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| {
        text + part.split_once('m').map_or("", |(_, rest)| rest)
    })
}

#[cfg(not(feature = "otlp"))]
#[test]
fn a_build_that_cannot_export_says_so() {
    let options = [
        "--model",
        "m=synthetic",
        "--otlp-endpoint",
        "http://[::1]:1",
    ];
    let output = crate::process::command(&options).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("--features otlp"), "{error}");
}

#[cfg(feature = "otlp")]
mod collector {
    use std::{
        convert::Infallible,
        task::{Context, Poll},
    };

    use bytes::Bytes;
    use futures::future::BoxFuture;
    use http::{HeaderMap, Request, Response};
    use http_body::Frame;
    use http_body_util::{BodyExt, StreamBody};
    use tonic::{
        Status,
        body::Body,
        server::NamedService,
        transport::{Server, server::TcpIncoming},
    };
    use tower::Service;

    use super::*;
    use crate::harness::soon;

    /// Passes on what it is sent, and says thanks.
    #[derive(Clone)]
    struct Collector(flume::Sender<Bytes>);

    impl NamedService for Collector {
        const NAME: &'static str = "opentelemetry.proto.collector.trace.v1.TraceService";
    }

    impl Service<Request<Body>> for Collector {
        type Response = Response<Body>;
        type Error = Infallible;
        type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, request: Request<Body>) -> Self::Future {
            let sent = self.0.clone();
            Box::pin(async move {
                let body = request.into_body().collect().await.unwrap().to_bytes();
                sent.send(body).unwrap();
                let mut trailers = HeaderMap::new();
                trailers.insert("grpc-status", "0".parse().unwrap());
                let empty = Frame::data(Bytes::from_static(&[0; 5]));
                let frames = [empty, Frame::trailers(trailers)].map(Ok::<_, Status>);
                let body = Body::new(StreamBody::new(futures::stream::iter(frames)));
                let response = Response::builder().header("content-type", "application/grpc");
                Ok(response.body(body).unwrap())
            })
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn spans_reach_it_inside_their_callers_trace() {
        let (sent, spans) = flume::bounded(64);
        let incoming = TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let endpoint = format!("http://{}", incoming.local_addr().unwrap());
        let server = Server::builder().add_service(Collector(sent));
        tokio::spawn(server.serve_with_incoming(incoming));

        let options = ["--model", "m=synthetic", "--otlp-endpoint", &endpoint];
        let (mut program, address) = Program::start(&options);
        let mut client = client(connect(address).await);
        traced().send(&mut client).await.unwrap();
        // What is not sent yet when it ends is sent then.
        program.signal("TERM");
        assert_eq!(program.exit().await.code(), Some(0));
        let body = soon(spans.recv_async()).await.unwrap();
        let id: Vec<u8> = (0..16)
            .map(|at| u8::from_str_radix(&TRACE[2 * at..2 * at + 2], 16).unwrap())
            .collect();
        let holds = |needle: &[u8]| body.windows(needle.len()).any(|window| window == needle);
        assert!(holds(&id), "the trace is not there");
        assert!(holds(b"preheat.v1.Encoder/Encode") && holds(b"preheat-server"));
    }
}
