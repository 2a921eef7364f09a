//! What is not a plain file in place of one: every verb ends, names it, and harms nothing.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rstest::rstest;

use crate::harness::{Folder, Outcome, collimate, train};
use crate::small_model::{adapter, model, model_arg};

/// What stands where a plain file should.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Pipe,
    Endless,
    Folder,
    /// A link to itself.
    Circle,
    /// A file of 100 GB without content.
    Sparse,
    Empty,
    /// A link to a file outside of the folder, which must stay as it is.
    LinkOut,
}

const KINDS: [Kind; 7] =
    [Kind::Pipe, Kind::Endless, Kind::Folder, Kind::Circle, Kind::Sparse, Kind::Empty, Kind::LinkOut];

const PRECIOUS: &str = "precious\n";

impl Kind {
    /// Puts it there in place of what was.
    fn put(self, folder: &Folder, name: &str) {
        let path = folder.path(name);
        let _ = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        match self {
            Self::Pipe => assert!(Command::new("mkfifo").arg(&path).status().expect("mkfifo").success()),
            Self::Endless => symlink("/dev/zero", &path).expect("a link"),
            Self::Folder => fs::create_dir(&path).expect("a folder"),
            Self::Circle => symlink(path.file_name().expect("a name"), &path).expect("a link"),
            Self::Sparse => File::create(&path).and_then(|file| file.set_len(100 << 30)).expect("a file"),
            Self::Empty => drop(File::create(&path).expect("a file")),
            Self::LinkOut => {
                let precious = folder.write("elsewhere/precious", PRECIOUS);
                symlink(precious, &path).expect("a link");
            }
        }
    }
}

/// Runs a command line that must end.
fn ends(args: &[&str]) -> Outcome {
    let (sender, receiver) = mpsc::channel();
    let own: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
    thread::spawn(move || sender.send(collimate(&own)));
    receiver.recv_timeout(Duration::from_secs(120)).unwrap_or_else(|error| panic!("{args:?}: {error}"))
}

/// Whether the file outside is as it was.
fn is_unharmed(folder: &Folder) -> bool {
    !folder.path("elsewhere").exists() || folder.read("elsewhere/precious") == PRECIOUS
}

#[rstest]
#[case("config.json")]
#[case("generation_config.json")]
#[case("tokenizer.json")]
#[case("tokenizer_config.json")]
#[case("special_tokens_map.json")]
#[case("chat_template.jinja")]
#[case("model.safetensors")]
fn a_models_file_is_plain_or_named(#[case] name: &str) {
    for kind in KINDS {
        let folder = Folder::new();
        folder.copy(model(), "model");
        kind.put(&folder, &format!("model/{name}"));
        let outcome = ends(&["generate", "--model", &folder.arg("model"), "--prompt", "a", "--max-new-tokens", "1"]);
        // An empty template is a template, and a link that leads nowhere counts as no file.
        let may_be_absent = !["config.json", "tokenizer.json", "model.safetensors"].contains(&name);
        let is_fine = may_be_absent && matches!(kind, Kind::Empty | Kind::Circle | Kind::LinkOut);
        assert!(outcome.code == 2 || (is_fine && outcome.code == 0), "{kind:?}: {} {}", outcome.code, outcome.err);
        assert!(outcome.code == 0 || outcome.err.contains(name), "{kind:?}: {}", outcome.err);
        assert!(is_unharmed(&folder), "{kind:?}");
    }
}

#[rstest]
#[case("adapter_config.json")]
#[case("adapter_model.safetensors")]
fn an_adapters_file_is_plain_or_named(#[case] name: &str) {
    for kind in KINDS {
        let folder = Folder::new();
        folder.copy(adapter(), "adapter");
        kind.put(&folder, &format!("adapter/{name}"));
        let adapter = folder.arg("adapter");
        let outcome = ends(&["generate", "--model", model_arg(), "--adapter", &adapter, "--prompt", "a"]);
        assert_eq!(outcome.code, 2, "{kind:?}: {}", outcome.err);
        assert!(outcome.err.contains(name), "{kind:?}: {}", outcome.err);
    }
}

#[test]
fn recipes_and_rows_are_plain_or_named() {
    for kind in KINDS {
        let folder = Folder::new();
        kind.put(&folder, "file.yaml");
        let file = folder.arg("file.yaml");
        for args in [
            vec!["train", &file],
            vec!["plan", &file],
            vec!["loop", &file, "--prompts", &file, "--command", "cat", "--output", "never"],
            vec!["objective-values", &file],
        ] {
            let outcome = ends(&args);
            let is_empty = kind == Kind::Empty;
            assert!(outcome.code == 2 || (is_empty && outcome.code == 0), "{kind:?} {args:?}: {}", outcome.err);
            assert!(is_empty || outcome.err.contains("file.yaml"), "{kind:?} {args:?}: {}", outcome.err);
            assert!(is_unharmed(&folder), "{kind:?} {args:?}");
        }
    }
}

/// A run's folder that somebody else prepared: going on with it, or reporting it, writes nothing outside of it.
#[rstest]
#[case("metrics.jsonl")]
#[case("recipe.yaml")]
#[case("run.json")]
#[case("results.json")]
#[case("report.html")]
#[case("README.md")]
#[case(".lock")]
#[case("checkpoint-1/checksums.json")]
#[case("checkpoint-1/trainer_state.json")]
#[case("checkpoint-1/recipe.yaml")]
#[case("checkpoint-1/optimizer.safetensors")]
#[case("checkpoint-1/model.safetensors")]
#[case("checkpoint-1")]
#[case("checkpoint-2")]
fn a_file_of_a_run_is_plain_or_named(#[case] name: &str) {
    let folder = Folder::new();
    let data = folder.write("d.jsonl", "{\"prompt\": \"4\", \"chosen\": \"5\", \"rejected\": \"6\"}\n".repeat(2));
    let settings = ["max_length=32", "max_prompt_length=16", "save_steps=1", "sample_prompts=0"];
    let run = |output: &str, steps: &'static str, resume: bool| {
        let mut args = train(model_arg(), &data, output, &settings);
        args.extend(["--set", steps, "--quiet"]);
        args.extend(resume.then_some("--resume"));
        ends(&args)
    };
    let first = run(&folder.arg("first"), "max_steps=1", false);
    assert_eq!(first.code, 0, "{}", first.err);
    for kind in KINDS {
        let _ = fs::remove_dir_all(folder.path("run"));
        copy_all(&folder.path("first"), &folder.path("run"));
        kind.put(&folder, &format!("run/{name}"));
        let output = folder.arg("run");
        for outcome in [run(&output, "max_steps=2", true), ends(&["report", &output])] {
            assert!((0..=2).contains(&outcome.code), "{kind:?}: {} {}", outcome.code, outcome.err);
            assert!(!outcome.err.contains("this is a bug"), "{kind:?}: {}", outcome.err);
            assert!(is_unharmed(&folder), "{kind:?}: {}", outcome.err);
        }
    }
}

fn copy_all(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder").flatten() {
        match entry.path().is_dir() {
            true => copy_all(&entry.path(), &to.join(entry.file_name())),
            false => drop(fs::copy(entry.path(), to.join(entry.file_name())).expect("a copy")),
        }
    }
}

/// A device has no end, and a pipe that nobody writes to no beginning. Neither is copied or waited for without end.
#[test]
fn data_is_read_from_files_and_from_pipes_that_somebody_writes() {
    let folder = Folder::new();
    let pipe = folder.arg("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo").success());
    let check = |data: &str, number: usize, what: &str| {
        let [run, scores, samples] = ["run", "scores", "samples"].map(|name| folder.arg(&format!("{name}-{number}")));
        let trained = train(model_arg(), data, &run, &[]);
        let verbs: [&[&str]; 4] = [
            &trained,
            &["data", "check", data],
            &["score", "--model", model_arg(), "--data", data, "--output", &scores],
            &["sample", "--model", model_arg(), "--data", data, "--output", &samples],
        ];
        thread::scope(|scope| {
            for verb in verbs {
                scope.spawn(move || {
                    let outcome = collimate(verb);
                    assert_eq!(outcome.code, 2, "{verb:?}: {}", outcome.err);
                    assert!(outcome.err.contains(&format!("{data}: {what}")), "{verb:?}: {}", outcome.err);
                });
            }
        });
    };
    check("/dev/zero", 0, "it is a device, and data is read from a file or a pipe");
    check(&pipe, 1, "it is a pipe, and in 10 s nobody has opened it to write");
}
