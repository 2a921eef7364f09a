//! A small hub on localhost, for tests.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use sha2::{Digest, Sha256};

/// The commit of every repository.
pub(crate) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// What the server has.
#[derive(Debug, Clone, Default)]
pub(crate) struct Repositories {
    /// Contents by repository (`models/org/name`) and file.
    pub(crate) files: BTreeMap<String, BTreeMap<String, Vec<u8>>>,
    /// The token that each gated repository requires.
    pub(crate) gated: BTreeMap<String, String>,
    /// What is sent instead of a list of files.
    pub(crate) listing: Option<String>,
    /// What goes wrong with requests whose path ends so.
    pub(crate) faults: Vec<(String, Fault)>,
}

/// What goes wrong. Where there is a number of times, later requests have no fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Never answers.
    Silent,
    /// Sends so many bytes of the file, and then nothing for ever.
    Stall { after: usize, times: usize },
    /// Sends so many bytes of the file and ends the connection.
    Cut { after: usize, times: usize },
    /// Sends the whole file, whatever range was asked for.
    NoRanges { cut: usize, times: usize },
    /// Sends a range that was not asked for.
    OtherPart { times: usize },
    /// Says a length that many bytes too long.
    Longer(usize),
    /// Sends a file of that many bytes fewer.
    Shorter(usize),
    /// Sends other bytes than the ETag is of.
    Damaged { times: usize },
    /// Sends a byte at a time.
    Drip,
    /// Sends a status.
    Status { status: &'static str, times: usize },
    /// Sends a redirect.
    Redirect(String),
    /// Sends further headers.
    Headers(String),
}

/// A request that the server got.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) path: String,
    pub(crate) range: Option<String>,
    pub(crate) if_range: Option<String>,
    pub(crate) token: Option<String>,
}

/// A running hub; it ends with the test's process.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) endpoint: String,
    requests: Arc<Mutex<Vec<Seen>>>,
}

impl Server {
    pub(crate) fn start(repositories: Repositories) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&requests);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (repositories, log) = (repositories.clone(), Arc::clone(&log));
                thread::spawn(move || answer(&repositories, &log, stream));
            }
        });
        Self { endpoint, requests }
    }

    /// All requests so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.requests.lock().unwrap().clone()
    }

    /// Number of requests whose path contains `part`.
    pub(crate) fn count(&self, part: &str) -> usize {
        self.seen().iter().filter(|seen| seen.path.contains(part)).count()
    }

    /// The ranges that were asked for of a file's bytes.
    pub(crate) fn ranges(&self, part: &str) -> Vec<String> {
        let of_file = self.seen().into_iter().filter(|seen| seen.path.contains(part));
        of_file.map(|seen| seen.range.unwrap_or_default()).filter(|range| range != "bytes=0-0").collect()
    }
}

/// The ETag that the server gives these bytes: the hub's for large files.
pub(crate) fn etag(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn answer(repositories: &Repositories, log: &Mutex<Vec<Seen>>, mut stream: TcpStream) -> Option<()> {
    let request = read_request(&stream)?;
    let is_question = request.range.as_deref() == Some("bytes=0-0") || request.path.starts_with("/api/");
    let fault =
        repositories.faults.iter().find(|(path, _)| request.path.ends_with(path.as_str())).map(|(_, fault)| fault);
    let before = {
        let mut log = log.lock().unwrap();
        let is_same =
            |seen: &&Seen| seen.path == request.path && (seen.range.as_deref() == Some("bytes=0-0")) == is_question;
        let before = log.iter().filter(is_same).count();
        log.push(request.clone());
        before
    };
    let mut response = respond(repositories, &request);
    let whole = matches!(fault, Some(Fault::NoRanges { times, .. }) if !is_question || before < *times)
        .then(|| respond(repositories, &Seen { range: None, ..request.clone() }));
    let mut sent = usize::MAX;
    let mut then_stall = false;
    let mut length = 0_isize;
    match fault {
        Some(Fault::Silent) => return wait_for_ever(),
        Some(Fault::Status { status, times }) if before < *times => response = (status, String::new(), Vec::new()),
        Some(Fault::Redirect(to)) => response = ("302 Found", format!("Location: {to}\r\n{}", response.1), Vec::new()),
        Some(Fault::Headers(headers)) => response.1.push_str(headers),
        Some(_) if is_question => {}
        Some(Fault::Stall { after, times }) if before < *times => (sent, then_stall) = (*after, true),
        Some(Fault::Cut { after, times }) if before < *times => sent = *after,
        Some(Fault::NoRanges { cut, times }) => {
            response = whole?;
            sent = if before < *times { *cut } else { sent };
        }
        Some(Fault::OtherPart { times }) if before < *times => {
            // From byte 14 where 4 was asked for.
            response.1 = response.1.replace("bytes ", "bytes 1");
            response.2.drain(..10);
        }
        Some(Fault::Longer(bytes)) => length = isize::try_from(*bytes).ok()?,
        Some(Fault::Shorter(bytes)) => response.2.truncate(response.2.len() - bytes),
        Some(Fault::Damaged { times }) if before < *times => response.2.fill(b'?'),
        Some(Fault::Drip) => return drip(&stream, &response),
        _ => {}
    }
    write_head(&stream, &response, length)?;
    stream.write_all(&response.2[..sent.min(response.2.len())]).ok()?;
    if then_stall { wait_for_ever() } else { Some(()) }
}

fn wait_for_ever() -> Option<()> {
    thread::sleep(Duration::from_secs(3600));
    None
}

fn drip(mut stream: &TcpStream, response: &Response) -> Option<()> {
    write_head(stream, response, 0)?;
    for byte in &response.2 {
        thread::sleep(Duration::from_millis(20));
        stream.write_all(&[*byte]).ok()?;
    }
    Some(())
}

fn write_head(mut stream: &TcpStream, (status, headers, body): &Response, more: isize) -> Option<()> {
    let length = body.len().saturating_add_signed(more);
    write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n{headers}\r\n").ok()
}

fn read_request(stream: &TcpStream) -> Option<Seen> {
    let mut lines = BufReader::new(stream.try_clone().ok()?).lines();
    let path = lines.next()?.ok()?.split(' ').nth(1)?.to_owned();
    let mut request = Seen { path, ..Seen::default() };
    for line in lines {
        let line = line.ok()?;
        let Some((name, value)) = line.split_once(": ") else { break };
        match name.to_ascii_lowercase().as_str() {
            "range" => request.range = Some(value.to_owned()),
            "if-range" => request.if_range = Some(value.to_owned()),
            "authorization" => request.token = value.strip_prefix("Bearer ").map(str::to_owned),
            _ => {}
        }
    }
    Some(request)
}

type Response = (&'static str, String, Vec<u8>);

fn respond(repositories: &Repositories, request: &Seen) -> Response {
    const MISSING: &str = "404 Not Found";
    let nothing = |status| (status, String::new(), Vec::new());
    let path = &request.path;
    let (id, revision, file) = match path.strip_prefix("/api/") {
        Some(rest) => match rest.split_once("/revision/") {
            Some((id, revision)) => (id.to_owned(), revision, None),
            None => return nothing(MISSING),
        },
        None => match path.trim_start_matches('/').split_once("/resolve/") {
            Some((id, rest)) => {
                let (revision, file) = rest.split_once('/').unwrap_or((rest, ""));
                let id = if id.starts_with("datasets/") { id.to_owned() } else { format!("models/{id}") };
                (id, revision, Some(file))
            }
            None => return nothing(MISSING),
        },
    };
    if repositories.gated.get(&id).is_some_and(|wanted| request.token.as_ref() != Some(wanted)) {
        return nothing(if request.token.is_some() { "403 Forbidden" } else { "401 Unauthorized" });
    }
    let known = ["main", "refs%2Fconvert%2Fparquet", COMMIT].contains(&revision);
    let Some(files) = repositories.files.get(&id).filter(|_| known) else { return nothing(MISSING) };
    let Some(file) = file else {
        let siblings: Vec<_> = files.keys().map(|file| serde_json::json!({"rfilename": file})).collect();
        let info = serde_json::json!({"sha": COMMIT, "siblings": siblings}).to_string();
        let info = repositories.listing.clone().unwrap_or(info);
        return ("200 OK", "Content-Type: application/json\r\n".to_owned(), info.into_bytes());
    };
    let Some(bytes) = files.get(&file.replace("%20", " ")) else { return nothing(MISSING) };
    let headers = format!("ETag: \"{}\"\r\nX-Repo-Commit: {COMMIT}\r\n", etag(bytes));
    let range = request.range.as_deref().and_then(|range| range.strip_prefix("bytes=")?.split_once('-'));
    let Some((start, end)) = range else { return ("200 OK", headers, bytes.clone()) };
    let start = start.parse().unwrap_or(0);
    let end = end.parse::<usize>().map_or(bytes.len(), |end| (end + 1).min(bytes.len()));
    match bytes.get(start..end).filter(|part| !part.is_empty()) {
        None => {
            ("416 Range Not Satisfiable", format!("{headers}Content-Range: bytes */{}\r\n", bytes.len()), Vec::new())
        }
        Some(part) => {
            let range = format!("Content-Range: bytes {start}-{}/{}\r\n", end - 1, bytes.len());
            ("206 Partial Content", headers + &range, part.to_vec())
        }
    }
}
