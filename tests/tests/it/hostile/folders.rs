//! Model folders that would run code or reach outside themselves.

use std::fs;

use collimate_hf::HfError;
use collimate_peft::Adapter;
use collimate_weights::{WeightFiles, read_config};
use rstest::rstest;

use crate::harness::{Folder, collimate};
use crate::small_model::{adapter, adapter_arg, model, model_arg};

#[rstest]
#[case("pytorch_model.bin")]
#[case("pytorch_model-00001-of-00002.bin")]
#[case("consolidated.00.pth")]
#[case("model.PT")]
#[case("weights.ckpt")]
#[case("model.pkl")]
fn pickled_weights_are_refused_by_name_with_the_remedy(#[case] name: &str) {
    let folder = Folder::new();
    folder.copy(model(), "model");
    fs::remove_file(folder.path("model/model.safetensors")).expect("weights");
    folder.write(&format!("model/{name}"), b"\x80\x04cos\nsystem\n(S'touch pickle-ran'\ntR.");
    let error = WeightFiles::open(&folder.path("model")).expect_err("pickled weights").to_string();
    assert!(error.contains(name) && error.contains("convert them to safetensors"), "{error}");
    assert!(error.contains("save_pretrained"), "{error}");
}

#[test]
fn arguments_of_a_trainer_beside_the_weights_are_no_weights() {
    let folder = Folder::new();
    folder.copy(model(), "model");
    folder.write("model/training_args.bin", b"\x80\x04.");
    assert!(WeightFiles::open(&folder.path("model")).is_ok());
    fs::remove_file(folder.path("model/model.safetensors")).expect("weights");
    let error = WeightFiles::open(&folder.path("model")).expect_err("no weights");
    assert!(matches!(error, HfError::NoWeights { .. }), "{error}");
}

#[test]
fn a_pickled_adapter_is_refused_by_name() {
    let folder = Folder::new();
    folder.copy(adapter(), "adapter");
    fs::rename(folder.path("adapter/adapter_model.safetensors"), folder.path("adapter/adapter_model.bin"))
        .expect("a file");
    let config = read_config(model()).expect("a configuration");
    let error = Adapter::read(&folder.path("adapter"), &config).expect_err("a pickled adapter").to_string();
    assert!(error.contains("adapter_model.bin: pickled weights are not read"), "{error}");
}

#[test]
fn a_pickled_file_in_place_of_a_folder_is_refused_by_name() {
    let folder = Folder::new();
    let file = folder.write("pytorch_model.bin", b"\x80\x04.");
    let error = read_config(file.as_ref()).expect_err("a pickled file").to_string();
    assert!(error.contains("pytorch_model.bin: pickled weights are not read"), "{error}");
}

/// Links out of the folder are not copied into a merged model, which may be published.
#[cfg(unix)]
#[test]
fn a_link_out_of_the_folder_is_not_copied_by_merge() {
    use std::os::unix::fs::symlink;

    let folder = Folder::new();
    folder.copy(model(), "model");
    let secret = folder.write("secret", "private");
    symlink(&secret, folder.path("model/vocab.json")).expect("a link");
    let output = folder.arg("merged");
    let args = ["merge", "--model", &folder.arg("model"), "--adapter", adapter_arg(), "--output", &output];
    let outcome = collimate(&args);
    assert_ne!(outcome.code, 0);
    assert!(outcome.err.contains("vocab.json") && outcome.err.contains("a link out of the folder"), "{}", outcome.err);
    assert!(!folder.path("merged/vocab.json").exists());
}

/// Download caches hold `blobs` and folders of links to them.
#[cfg(unix)]
#[test]
fn links_of_a_download_cache_are_followed() {
    use std::os::unix::fs::symlink;

    let folder = Folder::new();
    folder.copy(model(), "repository/blobs");
    let snapshot = folder.path("repository/snapshots/revision");
    fs::create_dir_all(&snapshot).expect("a folder");
    for entry in fs::read_dir(folder.path("repository/blobs")).expect("a folder") {
        let name = entry.expect("an entry").file_name();
        symlink(folder.path("repository/blobs").join(&name), snapshot.join(&name)).expect("a link");
    }
    let args = [
        "merge",
        "--model",
        &folder.arg("repository/snapshots/revision"),
        "--adapter",
        adapter_arg(),
        "--output",
        &folder.arg("merged"),
    ];
    let outcome = collimate(&args);
    assert_eq!(outcome.code, 0, "{}", outcome.err);
    assert!(folder.path("merged/tokenizer.json").exists());
}

/// A device could be read forever.
#[cfg(unix)]
#[rstest]
#[case("config.json")]
#[case("model.safetensors")]
#[case("tokenizer.json")]
#[case("tokenizer_config.json")]
#[case("chat_template.jinja")]
fn a_link_to_a_device_is_refused(#[case] name: &str) {
    let folder = Folder::new();
    folder.copy(model(), "model");
    let path = folder.path("model").join(name);
    if path.exists() {
        fs::remove_file(&path).expect("a file");
    }
    std::os::unix::fs::symlink("/dev/zero", &path).expect("a link");
    let data = folder.write("d.jsonl", r#"{"prompt": "p", "responses": [{"content": "a", "reward": 1}]}"#);
    let args =
        ["score", "--model", &folder.arg("model"), "--data", &data, "--output", &folder.arg("out.jsonl"), "--quiet"];
    let outcome = collimate(&args);
    assert_eq!(outcome.code, 2, "{}", outcome.err);
    assert!(outcome.err.contains(name), "{}", outcome.err);
    assert!(!model_arg().is_empty());
}

/// Left out in silence, the tokenizer would be missing from what is written.
#[cfg(unix)]
#[rstest]
fn a_file_of_the_model_that_is_no_file_is_not_left_out(
    #[values("tokenizer_config.json", "vocab.json", "generation_config.json")] name: &str,
    #[values("pipe", "folder", "dangling link")] kind: &str,
) {
    let folder = Folder::new();
    folder.copy(model(), "model");
    let path = folder.path("model").join(name);
    let _ = fs::remove_file(&path);
    match kind {
        "pipe" => assert!(std::process::Command::new("mkfifo").arg(&path).status().expect("mkfifo").success()),
        "folder" => fs::create_dir(&path).expect("a folder"),
        _ => std::os::unix::fs::symlink("nowhere", &path).expect("a link"),
    }
    let output = folder.arg("merged");
    let args = ["merge", "--model", &folder.arg("model"), "--adapter", adapter_arg(), "--output", &output];
    let outcome = collimate(&args);
    assert!(outcome.code != 0 && outcome.err.contains(name), "{}: {}", outcome.code, outcome.err);
    assert!(!folder.path("merged/config.json").exists());
}
