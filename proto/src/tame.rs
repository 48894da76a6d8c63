//! What a peer says of an error, before tonic reads it: tonic panics where the details are not in
//! base64, and a stranger must not be able to end a program with a header.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderMap, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tonic::{Status, body::Body, metadata::MetadataMap};

/// Where the details of an error are: `google.rpc.Status`, binary, and so in base64.
const DETAILS: &str = "grpc-status-details-bin";

/// Takes details that cannot be read off headers or trailers. Code and message stay.
pub fn tame(headers: &mut HeaderMap) {
    let Some(details) = headers.get(DETAILS) else {
        return;
    };
    let mut alone = HeaderMap::with_capacity(1);
    alone.insert(DETAILS, details.clone());
    // Read by the very decoder that would panic.
    let alone = MetadataMap::from_headers(alone);
    if !matches!(
        alone.get_bin(DETAILS).map(|value| value.to_bytes()),
        Some(Ok(_))
    ) {
        headers.remove(DETAILS);
    }
}

/// The same for an answer, with the trailers that are still to come.
pub fn tamed(mut response: Response<Body>) -> Response<Body> {
    tame(response.headers_mut());
    response.map(|body| Body::new(Tamed(body)))
}

struct Tamed(Body);

impl HttpBody for Tamed {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let mut polled = ready!(Pin::new(&mut self.0).poll_frame(context));
        if let Some(Ok(frame)) = &mut polled
            && let Some(trailers) = frame.trailers_mut()
        {
            tame(trailers);
        }
        Poll::Ready(polled)
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn only_what_cannot_be_read_is_taken_off() {
        for (value, stays) in [
            (&b"CAMSAm5v"[..], true),
            (b"CAMSAm4", true),
            (b"CAMSAm4=", true),
            (b"", true),
            (b"CAMSA", false),
            (b"not base64!", false),
            (b"\xff\xfe", false),
            (b"CAMSAm5v,CAMSAm5v", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-status", HeaderValue::from_static("3"));
            headers.insert(DETAILS, HeaderValue::from_bytes(value).unwrap());
            tame(&mut headers);
            assert_eq!(headers.contains_key(DETAILS), stays, "{value:?}");
            // Which would panic.
            let status = Status::from_header_map(&headers).unwrap();
            assert_eq!(status.code(), tonic::Code::InvalidArgument);
        }
    }
}
