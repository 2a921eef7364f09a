//! Checks of the source and its dependencies that compile nothing: `tidy`, spelling, licenses and advisories.
//!
//! `typos` and `cargo deny` are separate programs. If one is not installed its step is skipped, and the summary says how to
//! install it.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::steps::{Steps, execute};
use crate::tidy;
use crate::workspace::Workspace;

/// Checks of `cargo deny` that need no network.
const DENY_OFFLINE: [&str; 3] = ["licenses", "sources", "bans"];

/// Adds the checks to the steps.
pub(crate) fn steps(workspace: &Workspace, steps: &mut Steps) {
    steps.run("tidy", || execute(&mut tidy::command(workspace)));
    if is_installed("typos") {
        steps.run("spelling", || execute(Command::new("typos").current_dir(&workspace.root)));
    } else {
        steps.leave_out("spelling", "typos is not installed; cargo install typos-cli --locked".to_owned());
    }
    if !is_installed("cargo-deny") {
        let reason = "cargo-deny is not installed; cargo install cargo-deny --locked".to_owned();
        steps.leave_out("licenses, sources and advisories", reason);
        return;
    }
    steps.run("licenses and sources", || execute(deny(workspace, &[]).args(DENY_OFFLINE)));
    match advisories(workspace) {
        Some(mut command) => steps.run("advisories", || execute(&mut command)),
        None => {
            let reason = "the advisory database cannot be fetched, and was not before; cargo deny fetch db".to_owned();
            steps.leave_out("advisories", reason);
        }
    }
}

/// `cargo deny check` with global options; what is checked follows.
fn deny(workspace: &Workspace, options: &[&str]) -> Command {
    let mut command = Command::new("cargo");
    command.args(["deny", "--manifest-path"]).arg(workspace.manifest()).arg("--locked").args(options);
    command.args(["check", "--hide-inclusion-graph"]);
    command
}

/// The check of advisories, with the newest database or, offline, the last one; `None` without either.
fn advisories(workspace: &Workspace) -> Option<Command> {
    let mut fetch = Command::new("cargo");
    fetch.args(["deny", "--manifest-path"]).arg(workspace.manifest()).args(["fetch", "db"]);
    let options: &[&str] = match succeeds(&mut fetch) {
        true => &[],
        false if was_fetched() => &["--offline"],
        false => return None,
    };
    let mut command = deny(workspace, options);
    command.arg("advisories");
    Some(command)
}

/// Whether this machine has a database of advisories.
fn was_fetched() -> bool {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from).or_else(|| Some(std::env::home_dir()?.join(".cargo")));
    let databases = home.and_then(|home| std::fs::read_dir(home.join("advisory-dbs")).ok());
    databases.is_some_and(|entries| entries.flatten().any(|entry| entry.path().join("crates").is_dir()))
}

fn is_installed(program: &str) -> bool {
    succeeds(Command::new(program).arg("--version"))
}

/// Whether a command succeeds, whatever it prints.
fn succeeds(command: &mut Command) -> bool {
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}
