//! Checks of the source and its dependencies that compile nothing: spelling, licences and advisories.
//!
//! `typos` and `cargo deny` are programs of their own. Where one is not installed its step is left out, and the summary
//! says how to install it.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::steps::{Steps, execute};
use crate::workspace::Workspace;

/// Checks of `cargo deny` that need no network.
const DENY_OFFLINE: [&str; 3] = ["licenses", "sources", "bans"];

/// Adds the checks to the steps.
pub(crate) fn steps(workspace: &Workspace, steps: &mut Steps) {
    if is_installed("typos", &["--version"]) {
        steps.run("spelling", || execute(Command::new("typos").current_dir(&workspace.root)));
    } else {
        steps.leave_out("spelling", "typos is not installed; cargo install typos-cli --locked".to_owned());
    }
    if !is_installed("cargo-deny", &["--version"]) {
        let reason = "cargo-deny is not installed; cargo install cargo-deny --locked".to_owned();
        steps.leave_out("licences, sources and advisories", reason);
        return;
    }
    steps.run("licences and sources", || execute(deny(workspace).args(DENY_OFFLINE)));
    if advisories_are_known() || deny_can_fetch(workspace) {
        steps.run("advisories", || execute(deny(workspace).args(["--disable-fetch", "advisories"])));
    } else {
        let reason = "the advisory database could not be fetched; cargo deny fetch db".to_owned();
        steps.leave_out("advisories", reason);
    }
}

fn deny(workspace: &Workspace) -> Command {
    let mut command = Command::new("cargo");
    command.args(["deny", "--manifest-path"]).arg(workspace.manifest()).args([
        "--locked",
        "check",
        "--hide-inclusion-graph",
    ]);
    command
}

fn deny_can_fetch(workspace: &Workspace) -> bool {
    let mut command = Command::new("cargo");
    command.args(["deny", "--manifest-path"]).arg(workspace.manifest()).args(["fetch", "db"]);
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// Whether a database of advisories was fetched before.
fn advisories_are_known() -> bool {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from).or_else(|| Some(std::env::home_dir()?.join(".cargo")));
    let databases = home.map(|home| home.join("advisory-dbs"));
    databases.and_then(|folder| std::fs::read_dir(folder).ok()).is_some_and(|entries| entries.flatten().count() > 0)
}

fn is_installed(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
