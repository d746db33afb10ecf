//! A receiver of traces, metrics and logs over OTLP/gRPC, like a collector. It keeps everything that it receives.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper::body::Bytes;
use hyper::{HeaderMap, Request, Response};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use tokio::net::{TcpListener, TcpStream};

use super::process::PATIENCE;

/// gRPC methods that export each signal.
const TRACES: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
const METRICS: &str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";
const LOGS: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";
/// Length of the prefix of every message, which holds the compression flag and the message's length.
const PREFIX: usize = 5;

/// Running receiver.
pub struct Receiver {
    addr: SocketAddr,
    bodies: Arc<Mutex<Vec<(String, Bytes)>>>,
}

impl Receiver {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let bodies = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&bodies);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&kept)));
            }
        });
        Self { addr, bodies }
    }

    /// Value for `OTEL_EXPORTER_OTLP_ENDPOINT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// All received messages, undecoded.
    pub fn bytes(&self) -> Vec<u8> {
        let bodies = self.bodies.lock().unwrap();
        bodies.iter().flat_map(|(_, body)| body.to_vec()).collect()
    }

    /// Decoded messages of one method.
    fn sent<T: Message + Default>(&self, method: &str) -> Vec<T> {
        let bodies = self.bodies.lock().unwrap();
        let bodies = bodies.iter().filter(|(by, _)| by == method);
        bodies
            .map(|(_, body)| {
                assert_eq!(body[0], 0, "not compressed");
                T::decode(&body[PREFIX..]).unwrap()
            })
            .collect()
    }

    /// Names of all metrics so far.
    pub fn metrics(&self) -> BTreeSet<String> {
        let exports = self
            .sent::<ExportMetricsServiceRequest>(METRICS)
            .into_iter();
        let scopes = exports
            .flat_map(|export| export.resource_metrics)
            .flat_map(|resource| resource.scope_metrics);
        let metrics = scopes.flat_map(|scope| scope.metrics);
        metrics.map(|metric| metric.name).collect()
    }

    /// All log records so far.
    pub fn logs(&self) -> Vec<LogRecord> {
        let exports = self.sent::<ExportLogsServiceRequest>(LOGS).into_iter();
        let scopes = exports
            .flat_map(|export| export.resource_logs)
            .flat_map(|resource| resource.scope_logs);
        scopes.flat_map(|scope| scope.log_records).collect()
    }

    /// All spans so far.
    pub fn spans(&self) -> Vec<Span> {
        let exports = self.sent::<ExportTraceServiceRequest>(TRACES).into_iter();
        let scopes = exports
            .flat_map(|export| export.resource_spans)
            .flat_map(|resource| resource.scope_spans);
        scopes.flat_map(|scope| scope.spans).collect()
    }

    /// Waits for a span that satisfies `fits`.
    pub async fn span(&self, fits: impl Fn(&Span) -> bool) -> Span {
        let wait = async {
            loop {
                if let Some(span) = self.spans().into_iter().find(&fits) {
                    return span;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, wait)
            .await
            .unwrap_or_else(|_| panic!("no such span among {:#?}", self.spans()))
    }
}

async fn serve(stream: TcpStream, kept: Arc<Mutex<Vec<(String, Bytes)>>>) {
    let Ok(mut connection) = h2::server::handshake(stream).await else {
        return;
    };
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        let kept = Arc::clone(&kept);
        tokio::spawn(async move {
            let method = request.uri().path().to_owned();
            assert!([TRACES, METRICS, LOGS].contains(&&*method), "{method}");
            let Some(body) = body(request).await else {
                return;
            };
            kept.lock().unwrap().push((method, body));
            let head = Response::builder()
                .header("content-type", "application/grpc")
                .body(())
                .unwrap();
            // An empty message means that the receiver accepted everything.
            let answer = async {
                let mut stream = respond.send_response(head, false)?;
                stream.send_data(Bytes::from_static(&[0; PREFIX]), false)?;
                stream.send_trailers(HeaderMap::from_iter([(
                    "grpc-status".parse().unwrap(),
                    "0".parse().unwrap(),
                )]))
            };
            // A client that has ended meanwhile needs no response.
            answer.await.ok();
        });
    }
}

async fn body(request: Request<h2::RecvStream>) -> Option<Bytes> {
    let mut stream = request.into_body();
    let mut whole = Vec::new();
    while let Some(part) = stream.data().await {
        let part = part.ok()?;
        stream.flow_control().release_capacity(part.len()).ok()?;
        whole.extend_from_slice(&part);
    }
    Some(whole.into())
}
