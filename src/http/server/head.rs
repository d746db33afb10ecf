//! Scanner of request heads: finds where a head ends, or why it is rejected.
//!
//! It enforces limits below hyper's, so that the rejection is a problem of ours, and two rules that hyper is lenient
//! about: lines end with CR LF (RFC 9112 §2.2 lets a server accept a bare LF, and then two parsers may disagree), and
//! `Content-Length` beside `Transfer-Encoding` is rejected (§6.1), not repaired. hyper validates the rest of a head. The
//! scanner must never place the end of a head elsewhere than hyper does.

use poem::http::StatusCode;

/// Limits on the size of a head.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Header fields.
    pub(super) fields: usize,
    /// Bytes of the header section, line ends included.
    pub(super) headers: usize,
    /// Bytes of the request target.
    pub(super) target: usize,
}

/// Result of scanning a piece of a head.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Scan {
    /// The head goes on.
    More,
    /// The head ended after this many bytes of the piece.
    End(usize),
    /// The head is rejected with this status.
    Reject(StatusCode),
}

/// Length of `transfer-encoding:`, the longest name that matters.
const LINE_START: usize = 18;
/// Bytes around the target in a request line: ` `, ` HTTP/1.1`, and room for a method.
const BESIDE_TARGET: usize = 64;

/// State between two pieces of one head.
#[derive(Debug)]
pub(super) struct HeadScan {
    bounds: Bounds,
    /// Complete lines; the first is the request line.
    lines: usize,
    /// Bytes of complete lines other than the request line.
    headers: usize,
    /// Bytes of the current line so far.
    line: usize,
    /// The beginning of the current line, lower case.
    start: [u8; LINE_START],
    /// The last byte of the piece before.
    last: u8,
    has_length: bool,
    has_encoding: bool,
}

impl HeadScan {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            lines: 0,
            headers: 0,
            line: 0,
            start: [0; LINE_START],
            last: 0,
            has_length: false,
            has_encoding: false,
        }
    }

    /// Scans the next piece; after `End` the next piece begins a new head.
    pub(super) fn feed(&mut self, piece: &[u8]) -> Scan {
        let mut rest = piece;
        while let Some(lf) = memchr::memchr(b'\n', rest) {
            let (line, after) = rest.split_at(lf + 1);
            let before_lf = if lf > 0 { line[lf - 1] } else { self.last };
            self.take(line);
            if before_lf != b'\r' {
                return Scan::Reject(StatusCode::BAD_REQUEST);
            }
            let ended = self.line == 2 && self.lines > 0;
            if let Err(status) = self.end_line() {
                return Scan::Reject(status);
            }
            if ended {
                *self = Self::new(self.bounds);
                return Scan::End(piece.len() - after.len());
            }
            rest = after;
        }
        self.take(rest);
        // A line without an end must not grow until hyper's own limit.
        if self.lines == 0 && self.line > self.bounds.target + BESIDE_TARGET {
            Scan::Reject(StatusCode::URI_TOO_LONG)
        } else if self.lines > 0 && self.headers + self.line > self.bounds.headers {
            Scan::Reject(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE)
        } else {
            Scan::More
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        if self.line < LINE_START {
            let copied = bytes.len().min(LINE_START - self.line);
            let start = &mut self.start[self.line..self.line + copied];
            start.copy_from_slice(&bytes[..copied]);
            start.make_ascii_lowercase();
        }
        self.line += bytes.len();
        self.last = bytes.last().copied().unwrap_or(self.last);
    }

    fn end_line(&mut self) -> Result<(), StatusCode> {
        let start = &self.start[..self.line.min(LINE_START)];
        let is_blank = self.line == 2;
        if self.lines == 0 && !is_blank {
            let method = start.iter().position(|&byte| byte == b' ').unwrap_or(0);
            let around = method + " ".len() + " HTTP/1.1\r\n".len();
            if self.line.saturating_sub(around) > self.bounds.target {
                return Err(StatusCode::URI_TOO_LONG);
            }
        } else {
            // Blank lines before the request line (RFC 9112 §2.2) count here too; otherwise no limit would apply to them.
            self.headers += self.line;
            self.has_length |= start.starts_with(b"content-length:");
            self.has_encoding |= start.starts_with(b"transfer-encoding:");
        }
        // A blank line counts only after the request line: there it ends the head.
        if self.lines > 0 || !is_blank {
            self.lines += 1;
        }
        self.line = 0;

        let fields = self.lines.saturating_sub(1 + usize::from(is_blank));
        if fields > self.bounds.fields || self.headers > self.bounds.headers {
            Err(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE)
        } else if self.has_length && self.has_encoding {
            Err(StatusCode::BAD_REQUEST)
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds {
        fields: 4,
        headers: 128,
        target: 32,
    };

    /// Feeds a head in every pair of pieces and byte by byte; all results must be equal.
    fn scan(head: &str) -> Scan {
        let bytes = head.as_bytes();
        let whole = HeadScan::new(BOUNDS).feed(bytes);
        for cut in 0..=bytes.len() {
            assert_eq!(
                feed_all(&[&bytes[..cut], &bytes[cut..]]),
                whole,
                "cut {cut}"
            );
        }
        assert_eq!(feed_all(&bytes.chunks(1).collect::<Vec<_>>()), whole);
        whole
    }

    fn feed_all(pieces: &[&[u8]]) -> Scan {
        let mut scan = HeadScan::new(BOUNDS);
        let mut before = 0;
        for piece in pieces {
            match scan.feed(piece) {
                Scan::More => before += piece.len(),
                Scan::End(at) => return Scan::End(before + at),
                rejected @ Scan::Reject(_) => return rejected,
            }
        }
        Scan::More
    }

    #[test]
    fn a_head_ends_at_its_blank_line() {
        let head = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
        assert_eq!(scan(head), Scan::End(head.len()));
        assert_eq!(scan(&format!("{head}GET /next")), Scan::End(head.len()));
        assert_eq!(scan(&format!("\r\n\r\n{head}")), Scan::End(head.len() + 4));
        assert_eq!(scan("GET / HTTP/1.1\r\nhost: a\r\n"), Scan::More);
        assert_eq!(scan("\r\n"), Scan::More);
    }

    #[test]
    fn a_bare_line_feed_is_rejected_wherever_it_stands() {
        for head in [
            "\nGET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\nhost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a\n\r\n",
            "GET / HTTP/1.1\r\nhost: a\r\n\n",
        ] {
            assert_eq!(
                scan(head),
                Scan::Reject(StatusCode::BAD_REQUEST),
                "{head:?}"
            );
        }
    }

    #[test]
    fn the_target_is_measured_to_the_byte() {
        for method in ["GET", "OPTIONS", "M"] {
            let line = |bytes: usize| format!("{method} /{} HTTP/1.1\r\n", "x".repeat(bytes - 1));
            assert_eq!(scan(&line(32)), Scan::More);
            assert_eq!(scan(&line(33)), Scan::Reject(StatusCode::URI_TOO_LONG));
        }
        let endless = "x".repeat(BOUNDS.target + BESIDE_TARGET + 1);
        assert_eq!(scan(&endless), Scan::Reject(StatusCode::URI_TOO_LONG));
    }

    #[test]
    fn the_fields_are_counted() {
        let head = |fields: usize| format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(fields));
        assert_eq!(scan(&head(4)), Scan::End(head(4).len()));
        let rejected = Scan::Reject(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
        assert_eq!(scan(&head(5)), rejected);
    }

    #[test]
    fn the_header_section_is_measured_to_the_byte() {
        // "a: " + value + CR LF, and the closing CR LF
        let head = |bytes: usize| format!("GET / HTTP/1.1\r\na: {}\r\n\r\n", "x".repeat(bytes - 7));
        assert_eq!(scan(&head(128)), Scan::End(head(128).len()));
        let rejected = Scan::Reject(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
        assert_eq!(scan(&head(129)), rejected);
        assert_eq!(scan(&"\r\n".repeat(65)), rejected);
        assert_eq!(
            scan(&format!("GET / HTTP/1.1\r\na: {}", "x".repeat(200))),
            rejected
        );
    }

    #[test]
    fn a_length_beside_an_encoding_is_rejected_in_either_order_and_any_case() {
        let (length, encoding) = ("CONTENT-length: 3\r\n", "Transfer-Encoding: chunked\r\n");
        let head = |fields: &str| format!("POST / HTTP/1.1\r\n{fields}\r\n");
        for fields in [format!("{length}{encoding}"), format!("{encoding}{length}")] {
            assert_eq!(scan(&head(&fields)), Scan::Reject(StatusCode::BAD_REQUEST));
        }
        assert_eq!(scan(&head(length)), Scan::End(head(length).len()));
        assert_eq!(scan(&head(encoding)), Scan::End(head(encoding).len()));
    }

    #[test]
    fn one_scan_reads_one_head_after_another() {
        let mut scan = HeadScan::new(BOUNDS);
        let head = b"GET / HTTP/1.1\r\na: 1\r\nb: 2\r\nc: 3\r\n\r\n";
        for _ in 0..3 {
            assert_eq!(scan.feed(head), Scan::End(head.len()));
        }
    }
}
