//! Receives gRPC messages, discards them and answers each with success.

use portcullis_bench_peers::address;

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::bind(address()).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(take(stream));
    }
}

/// Serves one connection until it ends, for whatever reason.
async fn take(stream: tokio::net::TcpStream) -> Result<(), h2::Error> {
    let mut connection = h2::server::handshake(stream).await?;
    while let Some(call) = connection.accept().await {
        let (request, reply) = call?;
        tokio::spawn(swallow(request.into_body(), reply));
    }
    Ok(())
}

async fn swallow(
    mut body: h2::RecvStream,
    mut reply: h2::server::SendResponse<bytes::Bytes>,
) -> Result<(), h2::Error> {
    while let Some(piece) = body.data().await {
        let length = piece?.len();
        body.flow_control().release_capacity(length)?;
    }
    let head = http::Response::builder().header("content-type", "application/grpc");
    let mut answer = reply.send_response(head.body(()).expect("a head"), false)?;
    // An empty message tells the sender that everything was accepted.
    answer.send_data(bytes::Bytes::from_static(&[0; 5]), false)?;
    let mut end = http::HeaderMap::new();
    end.insert("grpc-status", http::HeaderValue::from_static("0"));
    answer.send_trailers(end)
}
