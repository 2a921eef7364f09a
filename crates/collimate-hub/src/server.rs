//! A small hub on localhost, for tests.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// The commit of every repository.
pub(crate) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// What the server has.
#[derive(Debug, Clone, Default)]
pub(crate) struct Repositories {
    /// Contents by repository (`models/org/name`) and file.
    pub(crate) files: BTreeMap<String, BTreeMap<String, Vec<u8>>>,
    /// The token that each gated repository requires.
    pub(crate) gated: BTreeMap<String, String>,
    /// Files to truncate in transit.
    pub(crate) cut: Vec<String>,
}

/// A running hub; it ends with the test's process.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) endpoint: String,
    /// Paths of all requests so far.
    requests: Arc<Mutex<Vec<String>>>,
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

    /// Number of requests whose path contains `part`.
    pub(crate) fn count(&self, part: &str) -> usize {
        self.requests.lock().unwrap().iter().filter(|path| path.contains(part)).count()
    }
}

fn answer(repositories: &Repositories, log: &Mutex<Vec<String>>, mut stream: TcpStream) -> Option<()> {
    let mut lines = BufReader::new(stream.try_clone().ok()?).lines();
    let request = lines.next()?.ok()?;
    let path = request.split(' ').nth(1)?.to_owned();
    log.lock().unwrap().push(path.clone());
    let (mut range, mut token) = (None, None);
    for line in lines {
        let line = line.ok()?;
        let Some((name, value)) = line.split_once(": ") else { break };
        match name.to_ascii_lowercase().as_str() {
            "range" => range = Some(value.to_owned()),
            "authorization" => token = value.strip_prefix("Bearer ").map(str::to_owned),
            _ => {}
        }
    }
    let (status, headers, body) = respond(repositories, &path, range.as_deref(), token.as_deref());
    let length = body.len();
    let sent = match repositories.cut.iter().any(|file| path.ends_with(file.as_str())) && length > 1 {
        true => &body[..length / 2],
        false => &body[..],
    };
    write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n{headers}\r\n").ok()?;
    stream.write_all(sent).ok()
}

type Response = (&'static str, String, Vec<u8>);

fn respond(repositories: &Repositories, path: &str, range: Option<&str>, token: Option<&str>) -> Response {
    const MISSING: &str = "404 Not Found";
    let nothing = |status| (status, String::new(), Vec::new());
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
    if repositories.gated.get(&id).is_some_and(|wanted| token != Some(wanted.as_str())) {
        return nothing(if token.is_some() { "403 Forbidden" } else { "401 Unauthorized" });
    }
    let known = ["main", "refs%2Fconvert%2Fparquet", COMMIT].contains(&revision);
    let Some(files) = repositories.files.get(&id).filter(|_| known) else { return nothing(MISSING) };
    let Some(file) = file else {
        let siblings: Vec<_> = files.keys().map(|file| serde_json::json!({"rfilename": file})).collect();
        let info = serde_json::json!({"sha": COMMIT, "siblings": siblings});
        return ("200 OK", "Content-Type: application/json\r\n".to_owned(), info.to_string().into_bytes());
    };
    let Some(bytes) = files.get(file) else { return nothing(MISSING) };
    // Like the hub's, an ETag is a hash of the bytes.
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    let tag = hasher.finish();
    let (start, end) = range.and_then(|range| range.strip_prefix("bytes=")?.split_once('-')).map_or(
        (0, bytes.len()),
        |(start, end)| {
            (start.parse().unwrap_or(0), end.parse::<usize>().map_or(bytes.len(), |end| (end + 1).min(bytes.len())))
        },
    );
    let headers = format!(
        "ETag: \"{tag:016x}\"\r\nX-Repo-Commit: {COMMIT}\r\nContent-Range: bytes {start}-{}/{}\r\n",
        end.saturating_sub(1),
        bytes.len()
    );
    ("206 Partial Content", headers, bytes.get(start..end).unwrap_or_default().to_vec())
}
