//! Runs in a browser, while they go on.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::{Folder, collimate, train};
use crate::process::Process;
use crate::small_model::model_arg;

/// What `log.txt` of a process's folder says of the address, once it does.
fn address(folder: &Folder, name: &str) -> String {
    let log = folder.path(name).join("log.txt");
    let begun = Instant::now();
    loop {
        let text = fs::read_to_string(&log).unwrap_or_default();
        if let Some((_, rest)) = text.split_once("http://")
            && let Some((address, _)) = rest.split_once('\n')
        {
            return address.trim().to_owned();
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "no address: {text}");
        thread::sleep(Duration::from_millis(50));
    }
}

fn got(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("a connection");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n").expect("a request");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    text
}

#[test]
fn a_run_shows_its_page_while_it_goes_on() {
    let folder = Folder::new();
    let settings = ["max_steps=2000", "learning_rate=1e-4", "reference_cache=false", "eval_steps=0"];
    let response = |text: &str, reward: f64| json!({"content": text, "reward": reward});
    let row =
        |i: usize| json!({"prompt": format!("{i} + 1?"), "responses": [response("yes", 1.0), response("no", 0.0)]});
    let data = folder.write("data.jsonl", (0..8).map(|i| row(i).to_string() + "\n").collect::<String>());
    let mut command: Vec<String> = train(model_arg(), &data, "run", &settings).into_iter().map(str::to_owned).collect();
    command.push("--serve=0".to_owned());
    let process = Process::start(&folder.path("served"), &command);
    let address = address(&folder, "served");
    let begun = Instant::now();
    let first = got(&address, "/version");
    loop {
        let page = got(&address, "/");
        if page.contains("of 2,000</strong>: not finished") && page.contains("<svg") {
            assert!(page.contains(" left"), "the time that is left: {page}");
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "no figures: {page}");
        thread::sleep(Duration::from_millis(200));
    }
    assert_ne!(first, got(&address, "/version"));
    drop(process);
}

#[test]
fn what_cannot_be_watched_is_refused() {
    let folder = Folder::new();
    let missing = folder.arg("missing");
    let outcome = collimate(&["watch", &missing]);
    assert!(outcome.code == 2 && outcome.err.contains("there is no such folder"), "{outcome:?}");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port().to_string();
    let run = folder.arg("");
    let outcome = collimate(&["watch", &run, "--port", &port]);
    assert!(outcome.code == 2 && outcome.err.contains("cannot be listened on"), "{outcome:?}");
}

/// In Chromium, where the machine has it: a page that is open gets the rows that are written meanwhile.
#[test]
fn a_browser_follows_the_run() {
    let Some(browser) = ["chromium", "chromium-browser", "google-chrome"].into_iter().find(|name| is_there(name))
    else {
        eprintln!("not run: there is no Chromium here");
        return;
    };
    let folder = Folder::new();
    folder.write("recipe.yaml", "seed: 1\n");
    let metrics = "{\"step\": 1, \"loss\": 0.75}\n{\"step\": 2, \"loss\": 0.5}\n";
    folder.write("metrics.jsonl", metrics);
    let command = ["watch", &folder.arg(""), "--port", "0"].map(str::to_owned);
    let _process = Process::start(&folder.path("watched"), &command);
    let url = format!("http://{}", address(&folder, "watched"));
    let profile = format!("--user-data-dir={}", folder.arg("profile"));
    let flags = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=400000", "--dump-dom"];
    let mut browser = Command::new(browser);
    let browser = browser.args(flags).args([&profile, &url]).stdout(std::process::Stdio::piped());
    let child = browser.stderr(std::process::Stdio::null()).spawn().expect("a browser");
    // The page asks two hundred times within its 400 s, which pass as fast as answers come.
    thread::sleep(Duration::from_secs(3));
    folder.write("metrics.jsonl", format!("{metrics}{{\"step\": 3, \"loss\": 0.0625}}\n"));
    let dom = String::from_utf8(child.wait_with_output().expect("the browser's output").stdout).expect("text");
    assert!(dom.contains("Live: the page follows its run.") && dom.contains("0.0625"), "{dom}");
    let newest = got(url.trim_start_matches("http://"), "/version");
    let newest = newest.lines().last().unwrap_or_default();
    assert!(!dom.contains(newest), "the page was loaded before the row was written");
    assert_eq!(dom.matches("class=\"tip\"").count(), dom.matches("<figure").count(), "values under the pointer");
}

fn is_there(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
}
