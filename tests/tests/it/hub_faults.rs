//! A hub that is silent, and one that stalls inside a file, through the command line. The other faults are tested in
//! `collimate-hub`.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use collimate_hub::{HubOptions, Timeouts};

use crate::harness::{Folder, collimate_with_hub};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
/// What a stalled file has sent.
const START: &str = "{\"start\":";

/// A server that does this with each connection; returns its address.
fn server(answer: fn(TcpStream)) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
    thread::spawn(move || listener.incoming().flatten().for_each(|stream| drop(thread::spawn(move || answer(stream)))));
    endpoint
}

fn silent(stream: TcpStream) {
    thread::sleep(Duration::from_secs(3600));
    drop(stream);
}

/// Says what it has, and sends only the start of a file.
fn stalling(mut stream: TcpStream) {
    let lines: Vec<String> =
        BufReader::new(&stream).lines().map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
    let has = |part: &str| lines.iter().any(|line| line.to_ascii_lowercase().contains(part));
    let about = format!("X-Repo-Commit: {COMMIT}\r\nETag: \"etag\"\r\n");
    let files = r#"[{"rfilename": "config.json"}, {"rfilename": "model.safetensors"}]"#;
    let info = format!("{{\"sha\": \"{COMMIT}\", \"siblings\": {files}}}");
    let text = match (has("/api/"), has("range: bytes=0-0")) {
        (true, _) => format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{info}", info.len()),
        (false, true) => format!(
            "HTTP/1.1 206 Partial Content\r\n{about}Content-Range: bytes 0-0/100\r\nContent-Length: 1\r\nConnection: \
             close\r\n\r\n{{"
        ),
        (false, false) => format!("HTTP/1.1 200 OK\r\n{about}Content-Length: 100\r\n\r\n{START}"),
    };
    let _ = stream.write_all(text.as_bytes());
    if !has("/api/") && !has("range: bytes=0-0") {
        silent(stream);
    }
}

fn options(endpoint: String, cache: &Path) -> HubOptions {
    let short = Duration::from_millis(300);
    let timeouts = Timeouts { question: short, download: short };
    HubOptions { endpoint, cache: cache.to_owned(), offline: false, timeouts, ..HubOptions::from_env() }
}

#[test]
fn a_silent_hub_is_an_error_of_every_verb_that_asks_it() {
    let folder = Folder::new();
    let endpoint = server(silent);
    for args in [
        vec!["generate", "--model", "org/m", "--prompt", "a"],
        vec!["data", "check", "hf://datasets/org/d"],
        vec!["train", "--model", "org/m", "--data", "org/d", "--output", "never"],
    ] {
        let begun = Instant::now();
        let outcome = collimate_with_hub(&args, options(endpoint.clone(), &folder.path("hub")));
        assert_eq!(outcome.code, 1, "{}", outcome.err);
        assert!(outcome.err.contains("cannot be reached: the repository: no answer for "), "{}", outcome.err);
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    }
}

#[test]
fn a_stalled_file_is_an_error_that_says_how_far_it_came() {
    let folder = Folder::new();
    let endpoint = server(stalling);
    let args = ["generate", "--model", "org/m", "--prompt", "a"];
    let outcome = collimate_with_hub(&args, options(endpoint, &folder.path("hub")));
    assert_eq!(outcome.code, 1, "{}", outcome.err);
    let expected = format!("/org/m/resolve/main/config.json: the download stopped at {} of 100 bytes", START.len());
    assert!(outcome.err.contains(&expected), "{}", outcome.err);
    assert_eq!(folder.read("hub/models--org--m/blobs/etag.incomplete"), START);
}

/// A download waits outside of a run's steps, where the first signal ends the process.
#[cfg(unix)]
#[test]
fn a_signal_ends_a_wait_and_keeps_what_arrived() {
    use std::process::Command;

    let folder = Folder::new();
    let arguments = ["generate", "--model", "org/m", "--prompt", "a"].map(str::to_owned);
    let mut command = crate::process::command(&arguments);
    let cache = folder.path("hub");
    command.env("HF_ENDPOINT", server(stalling)).env("HF_HUB_CACHE", &cache).env("HF_HUB_DOWNLOAD_TIMEOUT", "600");
    command.env_remove("HF_HUB_OFFLINE").env_remove("TRANSFORMERS_OFFLINE");
    let mut child = command.spawn().expect("a process");
    let partial = cache.join("models--org--m/blobs/etag.incomplete");
    let begun = Instant::now();
    while std::fs::read(&partial).map_or(0, |bytes| bytes.len()) < START.len() {
        assert!(begun.elapsed() < Duration::from_secs(60), "nothing arrived");
        thread::sleep(Duration::from_millis(10));
    }
    let id = child.id().to_string();
    assert!(Command::new("kill").args(["-s", "INT", &id]).status().expect("the program kill").success());
    assert_eq!(child.wait().expect("an end").code(), Some(130));
    assert!(begun.elapsed() < Duration::from_secs(60));
    assert_eq!(folder.read("hub/models--org--m/blobs/etag.incomplete"), START);
}
