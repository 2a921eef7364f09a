use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;

use rstest::rstest;

use super::*;

fn run(folder: &Path, rows: &str) {
    std::fs::write(folder.join("metrics.jsonl"), rows).expect("a file");
    std::fs::write(folder.join("recipe.yaml"), "seed: 1\n").expect("a file");
}

fn begin(folder: &Path) -> (u16, Background) {
    let server = Server::bind(Some(0)).expect("a free port");
    let port = server.port();
    (port, server.in_background(Runs::new(vec![folder.to_owned()])).expect("a thread"))
}

/// What the server says to these bytes.
fn sent(port: u16, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("a connection");
    stream.write_all(bytes).expect("a request");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    text
}

fn got(port: u16, path: &str) -> String {
    sent(port, format!("GET {path} HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n").as_bytes())
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").map_or("", |(_, body)| body)
}

#[test]
fn the_page_follows_its_run() {
    let folder = tempfile::tempdir().expect("a folder");
    let (port, _server) = begin(folder.path());
    assert!(got(port, "/").contains("has not begun"));
    let before = got(port, "/version");
    run(folder.path(), "{\"step\": 1, \"loss\": 0.5}\n{\"step\": 2, \"loss\": 0.25}\n");
    let after = got(port, "/version");
    assert_ne!(body(&before), body(&after));
    let page = got(port, "/?again");
    assert!(page.starts_with("HTTP/1.1 200 OK\r\n") && page.contains("0.25") && page.contains("<svg"), "{page}");
    assert!(page.contains(&format!("data-version=\"{}\"", body(&after).trim())));
    assert_eq!(body(&after), body(&got(port, "/version")), "nothing changed");
}

#[test]
fn several_runs_are_on_one_page_and_a_damaged_one_is_named() {
    let parent = tempfile::tempdir().expect("a folder");
    let folders = ["one", "two"].map(|name| parent.path().join(name));
    for (folder, loss) in folders.iter().zip(["0.5", "0.125"]) {
        std::fs::create_dir(folder).expect("a folder");
        run(folder, &format!("{{\"step\": 1, \"loss\": 1.0}}\n{{\"step\": 2, \"loss\": {loss}}}\n"));
    }
    let page = Runs::new(folders.to_vec()).page().html;
    assert!(page.contains("one, two") && page.contains("0.125") && page.contains("<svg"), "{page}");
    std::fs::write(folders[1].join("metrics.jsonl"), "{\"step\": \n{\"step\": 2}\n").expect("a file");
    let page = Runs::new(folders.to_vec()).page().html;
    assert!(page.contains("cannot be shown") && page.contains("metrics.jsonl"), "{page}");
}

#[rstest]
#[case::elsewhere("GET / HTTP/1.1\r\nHost: evil.example:8808\r\n\r\n", "403")]
#[case::looks_like("GET / HTTP/1.1\r\nHost: 127.0.0.1.evil.example\r\n\r\n", "403")]
#[case::two_hosts("GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n", "403")]
#[case::no_host("GET / HTTP/1.1\r\n\r\n", "403")]
#[case::write("POST / HTTP/1.1\r\nHost: localhost\r\n\r\n", "405")]
#[case::file("GET /recipe.yaml HTTP/1.1\r\nHost: localhost\r\n\r\n", "404")]
#[case::outside("GET /../../etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n", "404")]
#[case::noise("\x01\x02\x03\r\n\r\n", "400")]
#[case::ipv6("GET / HTTP/1.1\r\nHost: [::1]:8808\r\n\r\n", "200")]
#[case::tunnel("GET / HTTP/1.1\r\nHost: 127.0.0.1:9999\r\n\r\n", "200")]
fn only_the_page_is_read_and_only_from_here(#[case] request: &str, #[case] status: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    run(folder.path(), "{\"step\": 1, \"loss\": 0.5}\n");
    let (port, _server) = begin(folder.path());
    let answer = sent(port, request.as_bytes());
    assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
}

#[test]
fn a_head_has_the_length_and_no_body_and_a_long_one_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let (port, _server) = begin(folder.path());
    let head = sent(port, b"HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && body(&head).is_empty() && !head.contains("Length: 0"), "{head}");
    let long = format!("GET / HTTP/1.1\r\nHost: localhost\r\nX: {}", "x".repeat(9 << 10));
    assert!(sent(port, long.as_bytes()).starts_with("HTTP/1.1 431 "));
}

#[test]
fn a_port_that_is_taken_is_an_error_unless_none_was_asked_for() {
    let first = Server::bind(Some(0)).expect("a free port");
    assert!(Server::bind(Some(first.port())).is_err());
    let (one, other) = (Server::bind(None).expect("a port"), Server::bind(None).expect("another"));
    assert_ne!(one.port(), other.port());
    assert!(one.url().starts_with("http://127.0.0.1:"));
}
