//! hyper service of one connection: turns hyper requests into poem requests, and poem responses into hyper's.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use hyper::body::{Body, Frame, Incoming, SizeHint};
use poem::{
    Endpoint, Response,
    http::{
        HeaderMap, HeaderValue, StatusCode, Version,
        header::{CONNECTION, HOST, TRANSFER_ENCODING},
        uri::Scheme,
    },
    web::{LocalAddr, RemoteAddr},
};

use super::{
    ServerState,
    activity::{Activity, Inbound},
};

/// State that all requests of one connection share.
pub(super) struct ConnService<E: ?Sized> {
    pub(super) server: Arc<ServerState<E>>,
    pub(super) activity: Arc<Activity>,
    pub(super) local: LocalAddr,
    pub(super) remote: RemoteAddr,
    pub(super) scheme: Scheme,
}

impl<E: Endpoint<Output = Response> + ?Sized> ConnService<E> {
    /// Answers one request. The part before the future must run as soon as hyper has read the head: `GuardedIo` waits for
    /// [`Activity::request_started`].
    pub(super) fn call(
        self: Arc<Self>,
        request: hyper::Request<Incoming>,
    ) -> impl Future<
        Output = Result<
            hyper::Response<impl Body<Data = hyper::body::Bytes, Error = std::io::Error>>,
            Infallible,
        >,
    > {
        let inbound = match request.body().size_hint().exact() {
            Some(0) => Inbound::BetweenMessages,
            Some(length) => Inbound::Body(length),
            None => Inbound::Chunked,
        };
        self.activity.request_started(inbound);

        async move {
            let version = request.version();
            let is_rejected = is_malformed(version, request.headers());
            let mut response: hyper::Response<_> = if is_rejected {
                (self.server.reject)(StatusCode::BAD_REQUEST).into()
            } else {
                let (local, remote) = (self.local.clone(), self.remote.clone());
                self.server
                    .endpoint
                    .get_response((request, local, remote, self.scheme.clone()).into())
                    .await
                    .into()
            };
            // Only hyper knows where a chunked body ends, so `GuardedIo` could not find the next head.
            if is_rejected || inbound == Inbound::Chunked {
                let close = HeaderValue::from_static("close");
                response.headers_mut().insert(CONNECTION, close);
            }
            // hyper offers keep-alive to HTTP/1.0 unless the response is HTTP/1.0 too.
            if version == Version::HTTP_10 {
                *response.version_mut() = version;
            }
            Ok(response.map(|body| TrackedBody {
                body,
                service: self,
            }))
        }
    }
}

/// True if another parser may read this head, which hyper has accepted, differently: RFC 9112 §3.2 on `Host`, §6.1 on
/// transfer codings other than `chunked`.
fn is_malformed(version: Version, headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(HOST).iter();
    let host_is_right = match (hosts.next(), hosts.next()) {
        (Some(host), None) => is_host(host.as_bytes()),
        (None, _) => version == Version::HTTP_10,
        (Some(_), Some(_)) => false,
    };
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let coding_is_right = match (codings.next(), codings.next()) {
        (Some(coding), None) => coding.as_bytes().eq_ignore_ascii_case(b"chunked"),
        (None, _) => true,
        (Some(_), Some(_)) => false,
    };
    !(host_is_right && coding_is_right)
}

/// Characters of a host and port (RFC 3986 §3.2.2).
const HOST_CHARACTERS: [bool; 256] = {
    let mut allowed = [false; 256];
    let mut byte = 0_u8;
    while byte.is_ascii() {
        allowed[byte as usize] = byte.is_ascii_alphanumeric();
        byte += 1;
    }
    let marks = b"-._~%!$&'()*+,;=:[]";
    let mut mark = 0;
    while mark < marks.len() {
        allowed[marks[mark] as usize] = true;
        mark += 1;
    }
    allowed
};

/// True if these are the characters of a host and port, at least one.
fn is_host(value: &[u8]) -> bool {
    !value.is_empty() && value.iter().all(|&byte| HOST_CHARACTERS[usize::from(byte)])
}

/// Response body that records, when it is dropped, that hyper has taken all of it.
struct TrackedBody<B, E: ?Sized> {
    body: B,
    service: Arc<ConnService<E>>,
}

impl<B: Body + Unpin, E: ?Sized> Body for TrackedBody<B, E> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<B, E: ?Sized> Drop for TrackedBody<B, E> {
    fn drop(&mut self) {
        self.service.activity.request_ended();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_the_characters_of_a_host() {
        for host in [
            "localhost",
            "localhost:8080",
            "[::1]:80",
            "a.example",
            "10.0.0.1",
        ] {
            assert!(is_host(host.as_bytes()), "{host}");
        }
        for host in ["", "a b", "a/b", "user@a", "a?b", "a\tb", "a, b", "\u{e4}"] {
            assert!(!is_host(host.as_bytes()), "{host:?}");
        }
    }
}
