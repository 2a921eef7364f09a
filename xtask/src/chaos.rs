//! `cargo xtask chaos` and `soak`: builds the program and the harness in `tests/chaos`, and runs the latter.

use std::ffi::{OsStr, OsString};
use std::process::{Command, ExitCode};

use anyhow::Result;

use crate::forward::Forwarded;
use crate::program::{self, Profile};
use crate::steps::execute;
use crate::workspace::Workspace;

/// Runs the harness; the program is built unless the arguments name one or ask for help.
pub(crate) fn run(workspace: &Workspace, verb: &str, args: Vec<OsString>, profile: Profile) -> Result<ExitCode> {
    let mut command = harness(workspace, verb);
    command.args(&args);
    if !has_option(&args, "--help") && !has_option(&args, "-h") && !has_option(&args, "--program") {
        command.arg("--program").arg(program::build(workspace, &Forwarded::default(), profile)?);
    }
    execute(&mut command)?;
    Ok(ExitCode::SUCCESS)
}

/// The harness. It watches processes and needs no optimization of its own.
fn harness(workspace: &Workspace, verb: &str) -> Command {
    let mut command = workspace.cargo_here("run");
    command.args(["--quiet", "--package", "collimate-chaos", "--", verb, "--out"]).arg(workspace.target.join("chaos"));
    command.arg("--model").arg(workspace.root.join("crates/collimate-quickstart/assets/quickstart-base"));
    command
}

/// Whether an option is among the arguments, alone or as `--option=value`.
fn has_option(args: &[OsString], option: &str) -> bool {
    let is_option = |arg: &OsStr| arg.to_string_lossy().split('=').next() == Some(option);
    args.iter().any(|arg| is_option(arg))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_is_found_with_its_value_apart_and_attached() {
        let args = |args: &[&str]| args.iter().map(OsString::from).collect::<Vec<_>>();
        assert!(has_option(&args(&["--kills", "3", "--program", "x"]), "--program"));
        assert!(has_option(&args(&["--program=x"]), "--program"));
        assert!(!has_option(&args(&["--programs", "x"]), "--program"));
    }
}
