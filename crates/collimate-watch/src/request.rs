//! Requests and answers of HTTP, as far as a page needs them.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

/// The largest head of a request, in bytes.
const MOST_BYTES: usize = 8 << 10;
/// The most headers of a request.
const MOST_HEADERS: usize = 64;
/// Time to wait for what a refused request goes on with.
const REST_TIME: Duration = Duration::from_millis(200);
/// Time to send a request, and to take an answer.
const TIME: Duration = Duration::from_secs(5);

/// A request that may be answered.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Request {
    /// Without a query.
    pub(crate) path: String,
    /// Whether the answer is to have no body.
    pub(crate) is_head: bool,
}

impl Request {
    /// Reads a request's head; what is not a request that may be answered is an answer that says so.
    ///
    /// # Errors
    /// The other side says nothing, or goes away.
    pub(crate) fn read(stream: &mut TcpStream) -> io::Result<Result<Self, Answer>> {
        let begun = Instant::now();
        let mut head = Vec::new();
        loop {
            let left = TIME.checked_sub(begun.elapsed()).filter(|left| !left.is_zero());
            let Some(left) = left else { return Ok(Err(Answer::text("408 Request Timeout", "Too slow."))) };
            stream.set_read_timeout(Some(left))?;
            let mut part = [0; 1024];
            let count = stream.read(&mut part)?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            head.extend_from_slice(&part[..count]);
            match Self::parse(&head) {
                Some(result) => return Ok(result),
                None if head.len() > MOST_BYTES => {
                    return Ok(Err(Answer::text("431 Request Header Fields Too Large", "Too long.")));
                }
                None => {}
            }
        }
    }

    /// `None` if there is more to come.
    fn parse(head: &[u8]) -> Option<Result<Self, Answer>> {
        let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
        let mut request = httparse::Request::new(&mut headers);
        match request.parse(head) {
            Ok(status) if status.is_partial() => return None,
            Ok(_) => {}
            Err(error) => return Some(Err(Answer::text("400 Bad Request", &error.to_string()))),
        }
        let mut hosts = request.headers.iter().filter(|header| header.name.eq_ignore_ascii_case("host"));
        let host = hosts.next().and_then(|header| std::str::from_utf8(header.value).ok());
        // A page from elsewhere whose name was made to lead here must not read the runs.
        if !host.is_some_and(is_this_machine) || hosts.next().is_some() {
            let text = "Only a browser on this machine is answered, at 127.0.0.1 or localhost.";
            return Some(Err(Answer::text("403 Forbidden", text)));
        }
        let (method, path) = (request.method.unwrap_or_default(), request.path.unwrap_or_default());
        if !["GET", "HEAD"].contains(&method) {
            return Some(Err(Answer::text("405 Method Not Allowed", "The page can only be read.")));
        }
        let path = path.split('?').next().unwrap_or_default().to_owned();
        Some(Ok(Self { path, is_head: method == "HEAD" }))
    }
}

/// Whether a host's name is this machine's own, with any port: a tunnel may have another.
fn is_this_machine(host: &str) -> bool {
    let is_port = |port: &str| port.parse::<u16>().is_ok();
    let name = match host.rsplit_once(':') {
        Some((name, port)) if is_port(port) => name,
        _ => host,
    };
    ["127.0.0.1", "localhost", "[::1]"].iter().any(|own| name.eq_ignore_ascii_case(own))
}

/// What is sent back.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    status: &'static str,
    kind: &'static str,
    length: usize,
    body: String,
}

impl Answer {
    pub(crate) fn page(html: &str) -> Self {
        Self { status: "200 OK", kind: "text/html; charset=utf-8", length: html.len(), body: html.to_owned() }
    }

    pub(crate) fn text(status: &'static str, text: &str) -> Self {
        let body = format!("{text}\n");
        Self { status, kind: "text/plain; charset=utf-8", length: body.len(), body }
    }

    /// The same head without a body, as HEAD wants it.
    pub(crate) fn without_body_if(mut self, is_head: bool) -> Self {
        if is_head {
            self.body.clear();
        }
        self
    }

    pub(crate) fn write(&self, stream: &mut TcpStream) -> io::Result<()> {
        let Self { status, kind, length, body } = self;
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nCache-Control: no-store\r\n\
             X-Content-Type-Options: nosniff\r\nX-Frame-Options: DENY\r\nCross-Origin-Resource-Policy: same-origin\r\n\
             Connection: close\r\n\r\n"
        );
        write_in_time(stream, &[head.as_bytes(), body.as_bytes()].concat())?;
        stream.shutdown(Shutdown::Write)?;
        // Where something is left unread, closing would take back what was sent.
        stream.set_read_timeout(Some(REST_TIME))?;
        let (begun, mut rest) = (Instant::now(), [0; 4096]);
        while begun.elapsed() < TIME && matches!(stream.read(&mut rest), Ok(1..)) {}
        Ok(())
    }
}

/// Writes all of it, or fails after [`TIME`], however slowly the other side takes it.
fn write_in_time(stream: &mut TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    let begun = Instant::now();
    while !bytes.is_empty() {
        let left = TIME.checked_sub(begun.elapsed()).filter(|left| !left.is_zero());
        stream.set_write_timeout(Some(left.ok_or(io::ErrorKind::TimedOut)?))?;
        match stream.write(bytes)? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            count => bytes = &bytes[count..],
        }
    }
    Ok(())
}
