//! `cargo xtask tidy`: checks what CONTRIBUTING promises about the source, without compiling it.

use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

use crate::workspace::{Workspace, words};

/// Checks the source; shows findings below `paths`, or all.
pub(crate) fn tidy(workspace: &Workspace, paths: &[String]) -> Result<ExitCode> {
    let mut command = command(workspace);
    let status = command.args(paths).status().with_context(|| format!("cannot start {}", words(&command)))?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The command that checks everything; it fails if a rule is broken.
pub(crate) fn command(workspace: &Workspace) -> Command {
    let mut command = workspace.cargo_here("run");
    command.args(["--quiet", "--package", "collimate-tidy", "--"]).current_dir(&workspace.root);
    command
}
