//! Requests to the hub: timeouts, redirects, and who gets the token.

use std::io::{self, Read};
use std::thread;
use std::time::{Duration, Instant};

use ureq::http::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, ETAG, LOCATION, RETRY_AFTER};
use ureq::http::{HeaderName, Response, Uri};
use ureq::{Agent, Body};

use crate::address::{is_same_place, join, parse};
use crate::patience::Patience;
use crate::watch::Watch;
use crate::{HubError, HubName, HubOptions};

/// Redirects that are followed. The hub needs two: from an old name to a new one, and to where the bytes are.
const MAX_REDIRECTS: usize = 8;

/// Sends requests about one repository.
#[derive(Debug)]
pub(crate) struct Client<'a> {
    pub(crate) options: &'a HubOptions,
    pub(crate) name: &'a HubName,
    pub(crate) watch: &'a dyn Watch,
    pub(crate) agent: &'a Agent,
}

/// A request for a file or a part of one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Request<'a> {
    pub(crate) url: &'a str,
    /// What it is about, for messages.
    pub(crate) what: &'a str,
    pub(crate) range: Option<&'a str>,
    /// Send the range only if the file still has this ETag, else the whole file.
    pub(crate) if_range: Option<&'a str>,
    /// The longest wait for a connection, for the answer, and for each byte.
    pub(crate) timeout: Duration,
}

/// The last response of a chain of redirects, and what the hub itself said on the way.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) response: Response<Body>,
    pub(crate) commit: Option<String>,
    pub(crate) etag: Option<String>,
    /// Size of the file, as the hub has it.
    pub(crate) size: Option<u64>,
}

/// Why a request has no answer.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Another attempt may succeed.
    Passing {
        problem: String,
        /// How long the server asks to wait.
        asked: Option<Duration>,
    },
    /// No other attempt will.
    Lasting(HubError),
}

/// A new agent. It follows no redirects by itself.
pub(crate) fn agent() -> Agent {
    Agent::config_builder()
        .max_redirects(0)
        .http_status_as_error(false)
        .user_agent(concat!("collimate/", env!("CARGO_PKG_VERSION")))
        .build()
        .new_agent()
}

impl Client<'_> {
    /// Asks until there is an answer or patience ends; `read` takes what it needs of it.
    pub(crate) fn question<T>(
        &self,
        request: Request<'_>,
        read: impl Fn(Answer) -> Result<T, Failure>,
    ) -> Result<T, HubError> {
        if let Some(problem) = &self.options.problem {
            return Err(HubError::Setting { problem: problem.clone() });
        }
        let mut patience = Patience::for_question(self.options.timeouts.question);
        loop {
            let begun = Instant::now();
            let timeout = patience.next_timeout();
            let (problem, asked) = match self.get(Request { timeout, ..request }).and_then(&read) {
                Ok(found) => return Ok(found),
                Err(Failure::Lasting(error)) => return Err(error),
                Err(Failure::Passing { problem, asked }) => (problem, asked),
            };
            let Some(pause) = patience.failed(begun.elapsed(), 0, asked) else {
                return Err(self.unreachable(format!("{}: {problem}", request.what)));
            };
            self.watch.note(&format!("{}: {}: {problem}; asking again", self.name, request.what));
            thread::sleep(pause);
        }
    }

    /// Sends a request and follows redirects. The token goes to the hub's own address only.
    pub(crate) fn get(&self, request: Request<'_>) -> Result<Answer, Failure> {
        let origin = parse(&self.options.endpoint).map_err(|problem| self.unfit(request.what, &problem))?;
        let mut url = parse(request.url).map_err(|problem| self.unfit(request.what, &problem))?;
        let (mut commit, mut etag, mut size) = (None, None, None);
        for _ in 0..=MAX_REDIRECTS {
            let is_hub = is_same_place(&url, &origin);
            let response = self.send(&url, &request, is_hub)?;
            if is_hub || commit.is_none() {
                commit = text(&response, "x-repo-commit").or(commit);
            }
            if is_hub || etag.is_none() {
                etag = text(&response, "x-linked-etag").or_else(|| header(&response, &ETAG)).map(clean_etag).or(etag);
            }
            size = size.or_else(|| text(&response, "x-linked-size")?.parse().ok());
            if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                self.check_status(&response, request.what)?;
                return Ok(Answer { response, commit, etag, size });
            }
            let to = header(&response, &LOCATION)
                .ok_or_else(|| self.unfit(request.what, "a redirect without an address"))?;
            url = join(&url, &to).map_err(|problem| self.unfit(request.what, &problem))?;
        }
        Err(self.unfit(request.what, &format!("more than {MAX_REDIRECTS} redirects, the last to {url}")))
    }

    fn send(&self, url: &Uri, request: &Request<'_>, is_hub: bool) -> Result<Response<Body>, Failure> {
        let timeout = Some(request.timeout);
        let mut builder = self.agent.get(url).header("Accept-Encoding", "identity");
        if let Some(token) = self.options.token.as_ref().filter(|_| is_hub) {
            builder = builder.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        for (name, value) in [("Range", request.range), ("If-Range", request.if_range)] {
            if let Some(value) = value {
                builder = builder.header(name, value);
            }
        }
        let builder = builder
            .config()
            .timeout_resolve(timeout)
            .timeout_connect(timeout)
            .timeout_send_request(timeout)
            .timeout_recv_response(timeout)
            .timeout_per_read(timeout)
            .timeout_per_write(timeout)
            .build();
        let response = builder.call().map_err(|error| self.failure(error, request))?;
        match header(&response, &CONTENT_ENCODING).filter(|encoding| encoding != "identity") {
            Some(encoding) => Err(self.unfit(request.what, &format!("it is sent compressed ({encoding})"))),
            None => Ok(response),
        }
    }

    fn check_status(&self, response: &Response<Body>, what: &str) -> Result<(), Failure> {
        let (name, endpoint) = (Box::new(self.name.clone()), self.options.endpoint.clone());
        let has_token = self.options.token.is_some();
        let lasting = match response.status().as_u16() {
            // Callers know what it means if a range is not satisfiable.
            200 | 206 | 416 => return Ok(()),
            404 => HubError::NotFound { name, endpoint, what: what.to_owned() },
            status @ (401 | 403) => HubError::Access { name, endpoint, status, has_token },
            status @ (408 | 425 | 429 | 500 | 502 | 503 | 504) => {
                let asked = header(response, &RETRY_AFTER).and_then(|seconds| seconds.trim().parse().ok());
                let wait = asked.map(|seconds: u64| format!(" and asks to wait {seconds} s")).unwrap_or_default();
                let problem = format!("the answer is status {status}{wait}");
                return Err(Failure::Passing { problem, asked: asked.map(Duration::from_secs) });
            }
            status => self.unreachable(format!("{what}: the answer is status {status}")),
        };
        Err(Failure::Lasting(lasting))
    }

    /// Sorts errors of the network into those that may pass and others.
    fn failure(&self, error: ureq::Error, request: &Request<'_>) -> Failure {
        let passing = |problem| Failure::Passing { problem, asked: None };
        match error {
            ureq::Error::Timeout(_) => passing(format!("no answer for {}", seconds(request.timeout))),
            ureq::Error::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                passing("the connection ended without an answer".to_owned())
            }
            ureq::Error::Io(_) | ureq::Error::ConnectionFailed | ureq::Error::HostNotFound => {
                passing(error.to_string())
            }
            ureq::Error::LargeResponseHeader(..) => self.unfit(request.what, "the headers of the answer are too long"),
            error => self.unfit(request.what, &error.to_string()),
        }
    }

    /// An error of what the server sends.
    pub(crate) fn unfit(&self, what: &str, problem: &str) -> Failure {
        Failure::Lasting(HubError::file(self.name, what, problem.to_owned()))
    }

    pub(crate) fn unreachable(&self, problem: String) -> HubError {
        HubError::Network { name: Box::new(self.name.clone()), endpoint: self.options.endpoint.clone(), problem }
    }
}

/// Reads at most `limit` bytes of an answer.
pub(crate) fn read_all(
    client: &Client<'_>,
    what: &str,
    response: Response<Body>,
    limit: u64,
) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let read = response.into_body().into_reader().take(limit + 1).read_to_end(&mut bytes);
    read.map_err(|error| Failure::Passing { problem: in_words(&error), asked: None })?;
    match bytes.len() as u64 > limit {
        true => Err(client.unfit(what, &format!("the answer has more than {limit} bytes"))),
        false => Ok(bytes),
    }
}

/// The error of a read from a body, in words.
pub(crate) fn in_words(error: &io::Error) -> String {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<ureq::Error>()) {
        Some(ureq::Error::Timeout(_)) => "nothing arrives".to_owned(),
        _ if error.kind() == io::ErrorKind::TimedOut => "nothing arrives".to_owned(),
        _ if error.kind() == io::ErrorKind::UnexpectedEof => "the connection ended".to_owned(),
        _ => error.to_string(),
    }
}

/// The range of an answer: its first byte, and the size of the whole file.
pub(crate) fn content_range(response: &Response<Body>) -> Option<(u64, u64)> {
    let text = header(response, &CONTENT_RANGE)?;
    let (range, size) = text.strip_prefix("bytes ")?.split_once('/')?;
    Some((range.split_once('-')?.0.parse().ok()?, size.parse().ok()?))
}

/// Whether a range was refused because the file is empty.
pub(crate) fn is_empty(response: &Response<Body>) -> bool {
    response.status() == 416 && header(response, &CONTENT_RANGE).is_some_and(|range| range == "bytes */0")
}

/// The length that an answer says it has.
pub(crate) fn content_length(response: &Response<Body>) -> Option<u64> {
    header(response, &CONTENT_LENGTH)?.parse().ok()
}

/// An ETag that ranges may depend on; a weak one may stand for other bytes.
pub(crate) fn strong_etag(response: &Response<Body>) -> Option<String> {
    header(response, &ETAG).filter(|etag| etag.starts_with('"'))
}

/// "10 s", "0.3 s".
pub(crate) fn seconds(time: Duration) -> String {
    format!("{} s", (time.as_secs_f64() * 10.0).round() / 10.0)
}

fn text(response: &Response<Body>, name: &str) -> Option<String> {
    Some(response.headers().get(name)?.to_str().ok()?.to_owned())
}

fn header(response: &Response<Body>, name: &HeaderName) -> Option<String> {
    text(response, name.as_str())
}

fn clean_etag(etag: String) -> String {
    etag.trim_start_matches("W/").replace('"', "")
}
