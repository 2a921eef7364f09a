//! Tests against a small hub on localhost.

mod faults;

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::path::Path;

use rstest::rstest;
use tempfile::TempDir;

use super::server::{COMMIT, Repositories, Server};
use super::{Hub, HubName, HubOptions, RepoKind, Timeouts};

fn files(names: &[(&str, &str)]) -> BTreeMap<String, Vec<u8>> {
    names.iter().map(|(name, text)| ((*name).to_owned(), text.as_bytes().to_vec())).collect()
}

fn repositories() -> Repositories {
    let index = r#"{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}"#;
    let mut repositories = Repositories::default();
    for (id, names) in [
        (
            "models/org/small",
            &[
                ("config.json", "{}"),
                ("model.safetensors", "weights"),
                ("pytorch_model.bin", "pickle"),
                ("code.py", "x"),
            ][..],
        ),
        (
            "models/org/large",
            &[
                ("config.json", "{}"),
                ("tokenizer.json", "{\"t\": 1}"),
                ("model.safetensors.index.json", index),
                ("model-1.safetensors", "one"),
                ("model-2.safetensors", "two"),
                ("model-3.safetensors", "not named"),
                ("additional_chat_templates/tool_use.jinja", "x"),
            ],
        ),
        ("models/org/pickled", &[("config.json", "{}"), ("pytorch_model.bin", "pickle")]),
        ("models/org/gated", &[("config.json", "{}"), ("model.safetensors", "weights")]),
        (
            "models/org/climbs",
            &[("config.json", "{}"), ("model.safetensors", "w"), ("../../../escaped", "x"), ("/etc/x", "y")],
        ),
        ("models/org/adapter", &[("adapter_config.json", "{}"), ("adapter_model.safetensors", "ab")]),
        ("datasets/org/data", &[("README.md", "x"), ("data/train-0.parquet", "PAR1"), ("data/test-0.parquet", "PAR1")]),
    ] {
        repositories.files.insert(id.to_owned(), files(names));
    }
    repositories.gated.insert("models/org/gated".to_owned(), "hf_right".to_owned());
    repositories
}

/// A hub with an empty cache.
fn hub() -> (Server, TempDir, Hub) {
    hub_of(repositories())
}

fn hub_of(repositories: Repositories) -> (Server, TempDir, Hub) {
    let (server, folder) = (Server::start(repositories), tempfile::tempdir().unwrap());
    let options = HubOptions {
        endpoint: server.endpoint.clone(),
        cache: folder.path().join("hub"),
        token: None,
        offline: false,
        progress: false,
        timeouts: Timeouts::default(),
        problem: None,
    };
    (server, folder, Hub::new(options))
}

fn with(hub: &Hub, change: impl FnOnce(&mut HubOptions)) -> Hub {
    let mut options = hub.options().clone();
    change(&mut options);
    Hub::new(options)
}

fn model(text: &str) -> HubName {
    HubName::parse(text, RepoKind::Model).unwrap().unwrap()
}

fn data(text: &str) -> HubName {
    HubName::parse(text, RepoKind::Dataset).unwrap().unwrap()
}

#[test]
fn a_model_is_fetched_once_and_only_what_is_needed() {
    let (server, folder, hub) = hub();
    let snapshot = hub.model(&model("org/small")).unwrap();
    assert_eq!(snapshot.commit, COMMIT);
    assert_eq!(snapshot.folder, folder.path().join("hub/models--org--small/snapshots").join(COMMIT));
    assert_eq!(fs::read_to_string(snapshot.folder.join("model.safetensors")).unwrap(), "weights");
    assert_eq!(fs::read_to_string(folder.path().join("hub/models--org--small/refs/main")).unwrap(), COMMIT);
    assert_eq!((server.count("pytorch_model.bin"), server.count("code.py")), (0, 0));
    let asked = server.count("/resolve/");
    assert_eq!(hub.model(&model("hf://org/small")).unwrap(), snapshot);
    assert_eq!(server.count("/resolve/"), asked);
}

#[test]
fn the_shards_an_index_lists_are_fetched() {
    let (server, _folder, hub) = hub();
    let snapshot = hub.model(&model("org/large")).unwrap();
    for (file, text) in [("model-1.safetensors", "one"), ("additional_chat_templates/tool_use.jinja", "x")] {
        assert_eq!(fs::read_to_string(snapshot.folder.join(file)).unwrap(), text);
    }
    assert!(snapshot.folder.join("model-2.safetensors").is_file());
    assert_eq!(server.count("model-3"), 0);
}

#[test]
fn an_adapter_is_its_two_files() {
    let (_server, _folder, hub) = hub();
    let snapshot = hub.adapter(&model("org/adapter")).unwrap();
    assert_eq!(fs::read_dir(&snapshot.folder).unwrap().count(), 2);
}

#[test]
fn offline_only_the_cache_is_read() {
    let (server, _folder, hub) = hub();
    let offline = with(&hub, |options| options.offline = true);
    let error = offline.model(&model("org/small")).unwrap_err().to_string();
    assert!(error.contains("org/small: it is not in ") && error.contains("run once without --offline"), "{error}");
    let snapshot = hub.model(&model("org/small")).unwrap();
    let asked = server.count("");
    assert_eq!(offline.model(&model("org/small")).unwrap(), snapshot);
    assert_eq!(offline.model(&model(&format!("org/small@{COMMIT}"))).unwrap(), snapshot);
    fs::remove_file(snapshot.folder.join("model.safetensors")).unwrap();
    let error = offline.model(&model("org/small")).unwrap_err().to_string();
    assert!(
        error.contains("there is no model.safetensors is not in") || error.contains("model.safetensors"),
        "{error}"
    );
    assert_eq!(server.count(""), asked);
}

#[test]
fn data_files_are_listed_and_fetched_one_by_one() {
    let (_server, _folder, hub) = hub();
    let name = data("org/data");
    let listing = hub.list(&name).unwrap();
    assert_eq!(listing.files, ["README.md", "data/test-0.parquet", "data/train-0.parquet"]);
    let path = hub.file(&name, &listing, "data/train-0.parquet").unwrap();
    assert!(path.ends_with(format!("datasets--org--data/snapshots/{COMMIT}/data/train-0.parquet")), "{path:?}");
    let error = hub.file(&name, &listing, "data/other.parquet").unwrap_err().to_string();
    assert_eq!(error, "org/data: it has no file data/other.parquet");
    let converted = hub.list(&data("hf://datasets/org/data@refs/convert/parquet")).unwrap();
    assert_eq!(converted.commit, COMMIT);
}

#[rstest]
#[case("org/data", &["data/test-0.parquet", "data/train-0.parquet"])]
#[case("hf://datasets/org/data/data/train-*.parquet", &["data/train-0.parquet"])]
#[case("hf://datasets/org/data/**/test*", &["data/test-0.parquet"])]
#[case("hf://datasets/org/data/data", &["data/test-0.parquet", "data/train-0.parquet"])]
fn a_pattern_picks_files_of_rows(#[case] text: &str, #[case] expected: &[&str]) {
    let (_server, _folder, hub) = hub();
    let name = data(text);
    let listing = hub.list(&name).unwrap();
    let is_rows = |path: &Path| path.extension().is_some_and(|ending| ending == "parquet");
    assert_eq!(hub.data_files(&name, &listing, &is_rows).unwrap(), expected);
}

#[test]
fn a_pattern_that_matches_nothing_is_an_error() {
    let (_server, _folder, hub) = hub();
    let name = data("hf://datasets/org/data/x*");
    let listing = hub.list(&name).unwrap();
    let error = hub.data_files(&name, &listing, &|_| true).unwrap_err().to_string();
    assert!(error.contains("it has no Parquet or JSON Lines files of this name"), "{error}");
}

#[rstest]
#[case("org/none", "org/none: not found on http://127.0.0.1:")]
#[case("org/small@v9", "org/small@v9: not found on http://127.0.0.1:")]
#[case("org/pickled", "org/pickled: its weights are pickled (pytorch_model.bin), which we do not read")]
#[case("org/gated", "refuses access (status 401): it is private or gated, or does not exist")]
#[case("org/adapter", "org/adapter: it is an adapter: name its base as the model")]
fn errors_say_why_a_repository_is_not_available(#[case] name: &str, #[case] expected: &str) {
    let (_server, _folder, hub) = hub();
    let error = hub.model(&model(name)).unwrap_err().to_string();
    assert!(error.contains(expected), "{error}");
}

#[test]
fn only_the_right_token_opens_a_gated_repository() {
    let (_server, _folder, hub) = hub();
    let wrong = with(&hub, |options| options.token = Some("hf_wrong".to_owned()));
    let error = wrong.model(&model("org/gated")).unwrap_err().to_string();
    assert!(error.contains("(status 403)") && error.contains("(a token was sent)"), "{error}");
    assert!(error.contains("/org/gated and give a token") && !error.contains("hf_wrong"), "{error}");
    let right = with(&hub, |options| options.token = Some("hf_right".to_owned()));
    assert!(right.model(&model("org/gated")).is_ok());
}

#[test]
fn listed_paths_outside_the_repository_are_ignored() {
    let (server, folder, hub) = hub();
    assert!(hub.model(&model("org/climbs")).is_ok());
    assert_eq!(hub.list(&model("org/climbs")).unwrap().files, ["config.json", "model.safetensors"]);
    assert!(!folder.path().join("escaped").exists());
    assert_eq!(server.count("escaped"), 0);
}

#[test]
fn a_network_error_mentions_offline_mode() {
    // A port that is no longer listened on.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (_server, _folder, hub) = hub();
    let alone = with(&hub, |options| options.endpoint = format!("http://{port}"));
    let error = alone.model(&model("org/small")).unwrap_err().to_string();
    assert!(error.contains("cannot be reached: ") && error.contains("HF_HUB_OFFLINE=1"), "{error}");
}

#[test]
fn bytes_of_another_commit_are_not_downloaded_again() {
    let (server, _folder, hub) = hub();
    let snapshot = hub.model(&model("org/small")).unwrap();
    fs::remove_dir_all(&snapshot.folder).unwrap();
    let before = server.count("model.safetensors");
    assert_eq!(hub.model(&model("org/small")).unwrap(), snapshot);
    assert_eq!(fs::read_to_string(snapshot.folder.join("model.safetensors")).unwrap(), "weights");
    // One request for its metadata, none for its bytes.
    assert_eq!(server.count("model.safetensors"), before + 1);
}
