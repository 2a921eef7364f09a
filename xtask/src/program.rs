//! Builds collimate, with or without plugins, and runs it.

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};

use crate::workspace::{Workspace, words};
use crate::{backend, forward::Forwarded, harness};

pub(crate) use crate::profile::Profile;

/// Builds what the arguments need and runs `collimate [verb] ARGS`; returns its exit code.
pub(crate) fn run(
    workspace: &Workspace,
    verb: Option<&str>,
    forwarded: &Forwarded,
    default: Profile,
) -> Result<ExitCode> {
    let profile = forwarded.profile.unwrap_or(default);
    let program = build(workspace, forwarded, profile)?;
    let mut command = Command::new(&program);
    command.args(verb).args(&forwarded.args);
    as_collimate(&mut command);
    replace_with(prepared(workspace, forwarded, command)?)
}

/// The command with the environment that the program needs.
pub(crate) fn prepared(workspace: &Workspace, forwarded: &Forwarded, mut command: Command) -> Result<Command> {
    backend::prepare(workspace, &features(workspace, forwarded)?, &mut command)?;
    Ok(command)
}

/// Builds collimate and returns the path of the program.
pub(crate) fn build(workspace: &Workspace, forwarded: &Forwarded, profile: Profile) -> Result<PathBuf> {
    let features = features(workspace, forwarded)?;
    let (mut command, name) = if forwarded.plugins.is_empty() {
        let mut command = workspace.cargo_here("build");
        command.args(["--package", "collimate", "--bin", "collimate"]);
        if !features.is_empty() {
            command.args(["--features", &features.join(",")]);
        }
        (command, "collimate".to_owned())
    } else {
        let harness = harness::write(workspace, &forwarded.plugins, &features)?;
        (workspace.cargo("build", &harness.manifest), harness.binary)
    };
    command.args(["--profile", profile.name()]);
    backend::prepare(workspace, &features, &mut command)?;
    let program = workspace.program(profile.folder(), &name);
    if !program.is_file() {
        eprintln!("Building collimate ({}); the first build takes some minutes.", profile.name());
    }
    let status = command.status().with_context(|| format!("cannot start {}", words(&command)))?;
    if !status.success() {
        bail!("the build failed; the compiler's messages are above. Run again: {}", words(&command));
    }
    Ok(program)
}

/// A program with plugins has another file name, but users know it as collimate.
fn as_collimate(command: &mut Command) {
    #[cfg(unix)]
    std::os::unix::process::CommandExt::arg0(command, "collimate");
    #[cfg(not(unix))]
    let _ = command;
}

/// The cargo features that the arguments need.
fn features(workspace: &Workspace, forwarded: &Forwarded) -> Result<Vec<String>> {
    let mut features = match &forwarded.backend {
        // Help needs no particular backend.
        Some(name) if !forwarded.asks_for_help() => backend::features(workspace, name)?,
        _ => Vec::new(),
    };
    features.extend(forwarded.mpi.then(|| "mpi".to_owned()));
    Ok(features)
}

/// Replaces this process, so that signals and the exit code are the program's own.
#[cfg(unix)]
pub(crate) fn replace_with(mut command: Command) -> Result<ExitCode> {
    use std::os::unix::process::CommandExt;
    let error = command.exec();
    Err(error).with_context(|| format!("cannot start {}", command.get_program().to_string_lossy()))
}

#[cfg(not(unix))]
pub(crate) fn replace_with(mut command: Command) -> Result<ExitCode> {
    let status = command.status().with_context(|| format!("cannot start {}", words(&command)))?;
    Ok(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)))
}
