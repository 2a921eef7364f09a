//! Servers that are slow, silent or wrong.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rstest::rstest;
use tempfile::TempDir;

use super::{files, hub_of, model, with};
use crate::server::{COMMIT, Fault, Repositories, Server, etag};
use crate::{Hub, HubError, Timeouts, Watch};

const CONFIG: &str = "{\"a\": 1, \"long\": \"enough to be sent in parts\"}";
const NAME: &str = "org/m/resolve/main/config.json";

/// Records what a download reports, in order.
#[derive(Debug, Default)]
struct Recorder(Mutex<Vec<String>>);

impl Recorder {
    fn push(&self, text: String) {
        self.0.lock().unwrap().push(text);
    }

    fn all(&self) -> String {
        self.0.lock().unwrap().join("\n")
    }
}

impl Watch for Recorder {
    fn begin(&self, file: &str, done: u64, total: u64) {
        self.push(format!("{file} from {done} to {total}"));
    }

    fn advance(&self, bytes: u64) {
        self.push(format!("+{bytes}"));
    }

    fn note(&self, text: &str) {
        self.push(text.to_owned());
    }

    fn end(&self) {
        self.push("end".to_owned());
    }
}

/// A hub whose configuration has a fault, with short timeouts.
fn faulty(fault: Fault) -> (Server, TempDir, Hub, Arc<Recorder>) {
    faulty_at(&[(NAME, fault)])
}

fn faulty_at(faults: &[(&str, Fault)]) -> (Server, TempDir, Hub, Arc<Recorder>) {
    let mut repositories = Repositories::default();
    repositories.files.insert("models/org/m".to_owned(), files(&[("config.json", CONFIG), ("model.safetensors", "w")]));
    repositories.faults = faults.iter().map(|(path, fault)| ((*path).to_owned(), fault.clone())).collect();
    let (server, folder, hub) = hub_of(repositories);
    let heard = Arc::new(Recorder::default());
    let short = Duration::from_millis(400);
    let hub = with(&hub, |options| options.timeouts = Timeouts { question: short, download: short });
    (server, folder, hub.with_watch(heard.clone()), heard)
}

fn partial(folder: &TempDir) -> PathBuf {
    folder.path().join("hub/models--org--m/blobs").join(format!("{}.incomplete", etag(CONFIG.as_bytes())))
}

fn config(folder: &Path) -> String {
    fs::read_to_string(folder.join("config.json")).unwrap()
}

fn fails(hub: &Hub) -> String {
    let begun = Instant::now();
    let error = hub.model(&model("org/m")).unwrap_err().to_string();
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}: {error}", begun.elapsed());
    error
}

#[rstest]
#[case("/revision/main", "the repository: no answer for ")]
#[case(NAME, "config.json: no answer for ")]
fn a_hub_that_says_nothing_is_given_up(#[case] path: &str, #[case] expected: &str) {
    let (server, _folder, hub, heard) = faulty_at(&[(path, Fault::Silent)]);
    let error = fails(&hub);
    assert!(error.contains("cannot be reached: ") && error.contains(expected), "{error}");
    assert!(error.contains("HF_HUB_OFFLINE=1"), "{error}");
    assert!(heard.all().contains("no answer for 0.4 s; asking again"), "{}", heard.all());
    assert_eq!(server.count(path), 2);
}

#[test]
fn a_download_that_stalls_goes_on_from_where_it_stopped() {
    let (server, _folder, hub, heard) = faulty(Fault::Stall { after: 10, times: 1 });
    let snapshot = hub.model(&model("org/m")).unwrap();
    assert_eq!(config(&snapshot.folder), CONFIG);
    assert_eq!(server.ranges("config.json"), ["", "bytes=10-"]);
    let again = server.seen().into_iter().rfind(|seen| seen.path.contains("config.json")).unwrap();
    assert_eq!(again.if_range, Some(format!("\"{}\"", etag(CONFIG.as_bytes()))));
    let heard = heard.all();
    assert!(
        heard.contains("org/m/config.json from 0 to 46\n+10\norg/m: config.json: nothing arrived for 0."),
        "{heard}"
    );
    assert!(heard.contains(" s at 10 of 46 bytes; trying again\n+36\nend"), "{heard}");
}

#[test]
fn what_arrived_is_kept_for_the_next_run() {
    let (_, folder, hub, _) = faulty(Fault::Stall { after: 10, times: 100 });
    let error = fails(&hub);
    assert!(error.contains("/org/m/resolve/main/config.json: the download stopped at "), "{error}");
    assert!(
        error.contains(" of 46 bytes: nothing arrived for ") && error.contains("HF_HUB_DOWNLOAD_TIMEOUT"),
        "{error}"
    );
    let there = fs::read(partial(&folder)).unwrap();
    assert!(there.len() >= 10 && CONFIG.as_bytes().starts_with(&there), "{there:?}");
    assert!(!folder.path().join(format!("hub/models--org--m/snapshots/{COMMIT}/config.json")).exists());

    let (server, _folder, sound, heard) = faulty_at(&[]);
    let sound = with(&sound, |options| options.cache = folder.path().join("hub")).with_watch(heard.clone());
    let snapshot = sound.model(&model("org/m")).unwrap();
    assert_eq!(config(&snapshot.folder), CONFIG);
    assert_eq!(server.ranges("config.json"), [format!("bytes={}-", there.len())]);
    assert!(heard.all().contains(&format!("from {} to 46", there.len())), "{}", heard.all());
    assert!(!partial(&folder).exists());
}

#[rstest]
#[case::connections_that_end(Fault::Cut { after: 10, times: 3 }, "the connection ended at 10 of 46 bytes")]
#[case::ranges_ignored(Fault::NoRanges { cut: 10, times: 2 }, "the connection ended at 10 of 46 bytes")]
#[case::other_ranges(Fault::OtherPart { times: 1 }, "another part than was asked for")]
#[case::busy(Fault::Status { status: "503 Service Unavailable", times: 2 }, "the answer is status 503; asking again")]
#[case::damaged_once(Fault::Damaged { times: 1 }, "the download begins anew")]
fn a_fault_that_passes_costs_nothing_but_time(#[case] fault: Fault, #[case] told: &str) {
    let (_server, folder, hub, heard) = faulty(fault);
    if told.contains("anew") || told.contains("another part") {
        // A part is there, from an earlier run.
        fs::create_dir_all(partial(&folder).parent().unwrap()).unwrap();
        fs::write(partial(&folder), "{\"a\"").unwrap();
    }
    let snapshot = hub.model(&model("org/m")).unwrap();
    assert_eq!(config(&snapshot.folder), CONFIG);
    assert!(heard.all().contains(told), "{}", heard.all());
}

#[rstest]
#[case::damaged(Fault::Damaged { times: 100 }, "what was downloaded is not the file: its SHA-256 is ")]
#[case::longer(Fault::Longer(5), "the hub says that it is 46 bytes long, and the server that it is 51")]
#[case::shorter(Fault::Shorter(5), "and the server that it is 41")]
#[case::a_loop(Fault::Redirect(format!("/{NAME}")), "config.json: more than 8 redirects, the last to http://127.0.0.1")]
#[case::another_scheme(Fault::Redirect("file:///etc/hostname".to_owned()), "is not an address that begins with http://")]
#[case::long_headers(Fault::Headers(format!("X-Filler: {}\r\n", "x".repeat(1 << 20))), "config.json: ")]
#[case::compressed(Fault::Headers("Content-Encoding: gzip\r\n".to_owned()), "it is sent compressed (gzip)")]
#[case::busy(Fault::Status { status: "429 Too Many Requests\r\nRetry-After: 3600", times: 100 }, "asks to wait 3600 s")]
#[case::a_drip(Fault::Drip, "fewer than 1000 bytes arrived in 2.4 s")]
fn a_server_that_lies_is_an_error_and_nothing_is_kept_as_whole(#[case] fault: Fault, #[case] expected: &str) {
    let mut text = CONFIG.to_owned();
    let is_drip = fault == Fault::Drip;
    if is_drip {
        text.push_str(&" ".repeat(5000));
    }
    let mut repositories = Repositories::default();
    repositories.files.insert("models/org/m".to_owned(), files(&[("config.json", &text), ("model.safetensors", "w")]));
    repositories.faults = vec![(NAME.to_owned(), fault)];
    let (_server, folder, hub) = hub_of(repositories);
    let short = Duration::from_millis(400);
    let hub = with(&hub, |options| options.timeouts = Timeouts { question: short, download: short });
    let error = fails(&hub);
    assert!(error.contains(expected) && error.contains("org/m"), "{error}");
    assert!(!folder.path().join(format!("hub/models--org--m/snapshots/{COMMIT}/config.json")).exists());
    assert!(!folder.path().join("hub/models--org--m/blobs").join(etag(text.as_bytes())).exists());
}

#[rstest]
#[case::no_json("<html>", "the answer is not a description of it")]
#[case::nothing("", "the answer is not a description of it")]
#[case::deep(&"[".repeat(100_000), "the answer is not a description of it")]
#[case::no_commit("{\"siblings\": []}", "the answer has no commit")]
#[case::a_path_as_commit("{\"sha\": \"../../../../../../../../etc/passwd/abcdefg\"}", "the answer has no commit")]
#[case::a_number("{\"sha\": 7}", "the answer has no commit")]
fn an_answer_that_is_no_list_of_files_is_an_error(#[case] listing: &str, #[case] expected: &str) {
    let mut repositories = Repositories { listing: Some(listing.to_owned()), ..Repositories::default() };
    repositories.files.insert("models/org/m".to_owned(), files(&[]));
    let (_server, folder, hub) = hub_of(repositories);
    let error = hub.list(&model("org/m")).unwrap_err().to_string();
    assert!(error.contains(expected), "{error}");
    assert!(!folder.path().join("hub").exists());
}

#[test]
fn another_host_gets_no_token() {
    let (other, _, _, _) = faulty_at(&[]);
    // By another name, so that it is another host.
    let elsewhere = format!("{}/{NAME}", other.endpoint.replace("127.0.0.1", "localhost"));
    let (server, _folder, hub, _) = faulty(Fault::Redirect(elsewhere));
    let hub = with(&hub, |options| options.token = Some("hf_secret".to_owned()));
    let snapshot = hub.model(&model("org/m")).unwrap();
    assert_eq!(config(&snapshot.folder), CONFIG);
    assert!(server.seen().iter().all(|seen| seen.token.as_deref() == Some("hf_secret")), "{:?}", server.seen());
    assert!(
        other.count("config.json") >= 2 && other.seen().iter().all(|seen| seen.token.is_none()),
        "{:?}",
        other.seen()
    );
}

#[test]
fn two_that_want_one_file_download_it_once() {
    let (server, _folder, hub, _) = faulty(Fault::Stall { after: 10, times: 1 });
    let heard = Arc::new(Recorder::default());
    let second = hub.clone().with_watch(heard.clone());
    std::thread::scope(|scope| {
        let first = scope.spawn(|| hub.model(&model("org/m")).unwrap());
        // The first one waits for its second byte meanwhile.
        while server.ranges("config.json").is_empty() {
            std::thread::sleep(Duration::from_millis(5));
        }
        let second = second.model(&model("org/m")).unwrap();
        assert_eq!(first.join().unwrap(), second);
        assert_eq!(config(&second.folder), CONFIG);
    });
    assert_eq!(server.ranges("config.json"), ["", "bytes=10-"]);
    assert!(heard.all().contains("another program is downloading it; waiting for that"), "{}", heard.all());
}

#[test]
fn a_file_larger_than_the_disk_is_refused_at_once() {
    let huge = format!("X-Linked-Size: {}\r\n", u64::MAX / 2);
    let (server, _folder, hub, _) = faulty(Fault::Headers(huge));
    let error = fails(&hub);
    assert!(error.contains("has room for ") && error.contains("HF_HUB_CACHE"), "{error}");
    assert!(server.ranges("config.json").is_empty());
}

#[test]
fn an_empty_file_and_names_with_spaces_are_fetched() {
    let mut repositories = Repositories::default();
    repositories.files.insert("datasets/org/d".to_owned(), files(&[("a b.jsonl", ""), ("c d.jsonl", "{}")]));
    let (_server, _folder, hub) = hub_of(repositories);
    let name = super::data("org/d");
    let listing = hub.list(&name).unwrap();
    for (file, text) in [("a b.jsonl", ""), ("c d.jsonl", "{}")] {
        assert_eq!(fs::read_to_string(hub.file(&name, &listing, file).unwrap()).unwrap(), text);
    }
}

#[test]
fn a_wrong_variable_is_named_before_anything_is_asked() {
    let (server, _folder, hub, _) = faulty_at(&[]);
    let hub = with(&hub, |options| options.problem = Some("HF_HUB_ETAG_TIMEOUT: expected seconds".to_owned()));
    let error = hub.model(&model("org/m")).unwrap_err();
    assert!(matches!(error, HubError::Setting { .. }), "{error}");
    assert_eq!(server.count(""), 0);
}
