//! A client that sends exactly the bytes of a test over a TCP connection, and parses the responses.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use super::people::Answer;

/// Timeout of each step. A step ends much sooner or never.
const PATIENCE: Duration = Duration::from_secs(90);

/// TCP connection.
pub struct Wire {
    stream: TcpStream,
    received: Vec<u8>,
}

impl Wire {
    /// Connects.
    pub async fn to(addr: SocketAddr) -> Self {
        Self {
            stream: TcpStream::connect(addr).await.unwrap(),
            received: Vec::new(),
        }
    }

    /// Connects from another address of this machine: all of 127.0.0.0/8 belong to it.
    pub async fn between(from: Ipv4Addr, addr: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((from, 0).into()).unwrap();
        Self {
            stream: socket.connect(addr).await.unwrap(),
            received: Vec::new(),
        }
    }

    /// Connects, sends all of `bytes`, and returns every response until the server closes the connection.
    pub async fn say(addr: SocketAddr, bytes: impl AsRef<[u8]>) -> Vec<Answer> {
        let mut wire = Self::to(addr).await;
        wire.send(bytes).await;
        wire.answers().await
    }

    /// Sends bytes; returns false if the server no longer takes any.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).await.is_ok()
    }

    /// Closes the sending half of the connection.
    pub async fn finish(&mut self) {
        self.stream.shutdown().await.ok();
    }

    /// Reads the next response; `None` if the server has closed the connection. A truncated response counts as none.
    pub async fn answer(&mut self) -> Option<Answer> {
        loop {
            if let Some((answer, length)) = parse(&self.received) {
                self.received.drain(..length);
                return Some(answer);
            }
            if !self.read().await {
                assert_eq!(String::from_utf8_lossy(&self.received), "", "breaks off");
                return None;
            }
        }
    }

    /// Reads all responses until the server closes the connection.
    pub async fn answers(&mut self) -> Vec<Answer> {
        let mut answers = Vec::new();
        while let Some(answer) = self.answer().await {
            answers.push(answer);
        }
        answers
    }

    /// Sends `piece` repeatedly until the server takes no more, at most `most` bytes, and reads the server's responses
    /// meanwhile. Returns the number of bytes that the server has taken.
    pub async fn pour(&mut self, piece: &str, most: usize) -> usize {
        let (mut from, mut to) = self.stream.split();
        let mut taken = 0;
        let pouring = async {
            while taken < most && to.write_all(piece.as_bytes()).await.is_ok() {
                taken += piece.len();
            }
        };
        let reading =
            async { while from.read_buf(&mut self.received).await.is_ok_and(|n| n > 0) {} };
        timeout(PATIENCE, async { tokio::join!(pouring, reading) })
            .await
            .expect("the server neither takes nor closes");
        taken
    }

    /// Returns true if the server is seen to close the connection within `time`.
    pub async fn is_closed_within(&mut self, time: Duration) -> bool {
        matches!(timeout(time, self.read()).await, Ok(false))
    }

    /// Returns true if the server neither responds nor closes the connection within `time`.
    pub async fn hears_nothing_for(&mut self, time: Duration) -> bool {
        self.received.is_empty() && timeout(time, self.read()).await.is_err()
    }

    /// Returns true if the server sends this text before it closes the connection.
    pub async fn hears(&mut self, text: &str) -> bool {
        while self.read().await {}
        let received = String::from_utf8_lossy(&self.received);
        received.contains(text)
    }

    /// Reads more bytes; returns false if the server has closed the connection, in order or not.
    async fn read(&mut self) -> bool {
        let reading = self.stream.read_buf(&mut self.received);
        let read = timeout(PATIENCE, reading)
            .await
            .expect("the server neither answers nor closes");
        read.is_ok_and(|bytes| bytes > 0)
    }
}

/// Parses the first response in `bytes` and its length, once `bytes` holds all of it. Every response of Portcullis declares its
/// length or has no body.
fn parse(bytes: &[u8]) -> Option<(Answer, usize)> {
    let head_length = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&bytes[..head_length - 4]).unwrap();
    let mut lines = head.split("\r\n");
    let status_line = lines.next().unwrap();
    let status = status_line
        .strip_prefix("HTTP/1.")
        .and_then(|rest| rest.get(2..5)?.parse().ok())
        .unwrap_or_else(|| panic!("not an answer: {status_line}"));
    let mut headers = HeaderMap::new();
    for line in lines {
        let (name, value) = line.split_once(": ").unwrap();
        headers.append(
            name.parse::<HeaderName>().unwrap(),
            HeaderValue::from_str(value).unwrap(),
        );
    }
    let body_length = headers
        .get("content-length")
        .map_or(0, |length| length.to_str().unwrap().parse().unwrap());
    let body = bytes.get(head_length..head_length + body_length)?;
    let body = String::from_utf8(body.to_vec()).unwrap();
    let answer = Answer {
        status,
        headers,
        body,
    };
    Some((answer, head_length + body_length))
}
