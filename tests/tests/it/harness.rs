//! Runs command lines in the test's process, each test in a folder of its own.

use std::fs;
use std::path::{Path, PathBuf};

use collimate_hub::{Hub, HubOptions};
use tempfile::TempDir;

use crate::small_model;

/// Exit code and output of a command line.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// A test's folder, removed at its end.
pub(crate) struct Folder(TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(TempDir::new().expect("a temporary folder"))
    }

    /// A path in the folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The same as a string, for arguments.
    pub(crate) fn arg(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// Writes a file and returns its path as a string.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(&path, content).expect("a file");
        path.display().to_string()
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// The rows of a JSON Lines file.
    pub(crate) fn rows(&self, name: &str) -> Vec<serde_json::Value> {
        self.read(name).lines().map(|line| serde_json::from_str(line).expect("a row")).collect()
    }

    /// Copies a folder's files.
    pub(crate) fn copy(&self, from: &Path, name: &str) -> String {
        for entry in fs::read_dir(from).expect("a folder to copy") {
            let entry = entry.expect("an entry");
            self.write(&format!("{name}/{}", entry.file_name().display()), fs::read(entry.path()).expect("a file"));
        }
        self.arg(name)
    }

    /// Replaces the paths of this folder and of the small model by `DIR` and `MODEL`.
    pub(crate) fn anonymous(&self, text: &str) -> String {
        text.replace(&self.0.path().display().to_string(), "DIR").replace(small_model::model_arg(), "MODEL")
    }
}

/// Runs `collimate` offline, with an empty hub cache. Training and planning use no cache of their own unless the arguments
/// name one.
pub(crate) fn collimate<S: AsRef<str>>(args: &[S]) -> Outcome {
    collimate_with_cache(args, Path::new("no-such-cache"))
}

/// Like [`collimate`], with this hub cache.
pub(crate) fn collimate_with_cache<S: AsRef<str>>(args: &[S], cache: &Path) -> Outcome {
    collimate_with_hub(args, HubOptions { cache: cache.to_owned(), offline: true, ..HubOptions::from_env() })
}

/// Like [`collimate`], with this access to a hub.
pub(crate) fn collimate_with_hub<S: AsRef<str>>(args: &[S], hub: HubOptions) -> Outcome {
    let trains = args.first().is_some_and(|verb| matches!(verb.as_ref(), "train" | "plan"));
    let unnamed = |key: &&str| trains && !args.iter().any(|arg| arg.as_ref().starts_with(key));
    let no_cache = ["reference_cache=false", "token_cache=false"].into_iter();
    let no_cache = no_cache.filter(|setting| unnamed(&setting.trim_end_matches("false")));
    let no_cache: Vec<&str> = no_cache.flat_map(|setting| ["--set", setting]).collect();
    let backend = args.first().map_or_else(Vec::new, |verb| backend_option(verb.as_ref()));
    let args = std::iter::once("collimate").chain(args.iter().map(AsRef::as_ref)).chain(no_cache.iter().copied());
    let args = args.map(str::to_owned).chain(backend);
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let code = collimate::run_with_hub(args, Hub::new(hub), &mut out, &mut err);
    let text = |bytes| String::from_utf8(bytes).expect("text");
    Outcome { code, out: text(out), err: text(err) }
}

/// The backend that `cargo xtask test --backend` names.
pub(crate) fn backend() -> String {
    std::env::var("COLLIMATE_TEST_BACKEND").ok().filter(|name| !name.is_empty()).unwrap_or_else(|| "flex".to_owned())
}

/// The option that makes a command compute on it.
fn backend_option(verb: &str) -> Vec<String> {
    let computes = matches!(verb, "train" | "score" | "sample" | "generate") && backend() != "flex";
    if computes { vec!["--backend".to_owned(), backend()] } else { Vec::new() }
}

/// Runs a command line that must succeed.
pub(crate) fn succeed<S: AsRef<str>>(args: &[S]) -> Outcome {
    let outcome = collimate(args);
    assert_eq!(outcome.code, 0, "{}", outcome.err);
    outcome
}

/// The command line of training with NCA; `settings` are for `--set`.
pub(crate) fn train<'a>(model: &'a str, data: &'a str, output: &'a str, settings: &[&'a str]) -> Vec<&'a str> {
    let mut args = vec!["train", "--model", model, "--data", data, "--output", output, "--objective", "nca"];
    args.extend(settings.iter().flat_map(|setting| ["--set", setting]));
    args
}
