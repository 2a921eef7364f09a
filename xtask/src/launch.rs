//! `cargo xtask launch`: collimate as several processes, by `mpirun`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Result, bail};
use clap::Args;

use crate::forward::Forwarded;
use crate::program::{self, Profile};
use crate::workspace::Workspace;

/// What Debian and Ubuntu call what the feature `mpi` needs.
pub(crate) const PACKAGES: &str = "openmpi-bin libopenmpi-dev libclang-dev";

#[derive(Debug, Args)]
pub(crate) struct LaunchOptions {
    /// Number of processes.
    #[arg(short = 'n', long, value_name = "N")]
    ranks: usize,
    /// Seconds that processes have to finish a step and save; mpirun waits as long before it passes SIGTERM on.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    grace: u64,
    /// An argument for mpirun, such as `--hostfile=hosts`; may be repeated.
    #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
    mpirun: Vec<OsString>,
    /// Arguments of `collimate`, after `--`: its verb first.
    #[arg(last = true, required = true)]
    args: Vec<OsString>,
}

/// Builds collimate with MPI and what the arguments need, and runs it as several processes.
pub(crate) fn launch(workspace: &Workspace, options: &LaunchOptions, default: Profile) -> Result<ExitCode> {
    if options.ranks == 0 {
        bail!("-n takes a number of processes, at least 1");
    }
    missing().map_or(Ok(()), |missing| Err(anyhow::anyhow!("{missing}")))?;
    let forwarded = Forwarded { mpi: true, ..Forwarded::parse(options.args.clone())? };
    let profile = forwarded.profile.unwrap_or(default);
    let program = program::build(workspace, &forwarded, profile)?;
    let mut command = mpirun(options.ranks, options.grace);
    command.args(&options.mpirun).arg(program).args(&forwarded.args);
    program::replace_with(program::prepared(workspace, &forwarded, command)?)
}

/// The command that starts so many processes of what follows it.
///
/// Open MPI refuses root, and more processes than cores, unless it is told, and by itself leaves them a second to save.
/// Processes are not bound to cores: those of a machine divide its cores among them.
fn mpirun(ranks: usize, grace: u64) -> Command {
    let mut command = Command::new("mpirun");
    if is_open_mpi() {
        command.args(["--mca", "odls_base_sigkill_timeout", &grace.to_string()]);
        command.args(["--allow-run-as-root", "--oversubscribe", "--bind-to", "none"]);
    }
    command.args(["-n", &ranks.to_string()]);
    command
}

fn is_open_mpi() -> bool {
    said(Command::new("mpirun").arg("--version"))
        .is_some_and(|text| text.contains("Open MPI") || text.contains("OpenRTE"))
}

/// What a build with the feature `mpi` lacks on this machine, and how to get it.
pub(crate) fn missing() -> Option<String> {
    let mut lacks = Vec::new();
    if said(Command::new("mpirun").arg("--version")).is_none() {
        lacks.push("mpirun");
    }
    if said(Command::new("mpicc").arg("-show")).is_none() {
        lacks.push("the headers of MPI (mpicc)");
    }
    if !has_libclang() {
        lacks.push("libclang");
    }
    (!lacks.is_empty()).then(|| format!("not found: {}; apt-get install {PACKAGES}", lacks.join(", ")))
}

/// What MPI this machine has, in one line.
pub(crate) fn version() -> Option<String> {
    let text = said(Command::new("mpirun").arg("--version"))?;
    text.lines().next().map(|line| line.trim().to_owned())
}

/// Whether the library is there that reads C headers, where its bindings look for it.
fn has_libclang() -> bool {
    let named = std::env::var_os("LIBCLANG_PATH").map(PathBuf::from);
    let by_llvm = said(Command::new("llvm-config").arg("--libdir")).map(|folder| PathBuf::from(folder.trim()));
    let mut folders: Vec<PathBuf> = named.into_iter().chain(by_llvm).collect();
    folders.extend(["/usr/lib", "/usr/lib64", "/usr/local/lib"].map(PathBuf::from));
    let inside = |folder: &PathBuf| std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let nested: Vec<PathBuf> = folders.iter().flat_map(inside).filter(|path| path.is_dir()).collect();
    let llvm = nested.iter().map(|folder| folder.join("lib")).collect::<Vec<_>>();
    let is_it = |path: PathBuf| {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        name.starts_with("libclang.so") || name.starts_with("libclang-") || name == "libclang.dylib"
    };
    folders.iter().chain(&nested).chain(&llvm).any(|folder| inside(folder).any(is_it))
}

/// What a program prints, if it is there and succeeds.
fn said(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_have_time_to_save() {
        let command = mpirun(4, 30);
        let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy()).collect();
        assert!(words.ends_with(&["-n".into(), "4".into()]), "{words:?}");
        let has = |word: &str| words.iter().any(|found| found == word);
        assert_eq!(has("odls_base_sigkill_timeout"), is_open_mpi());
    }

    #[test]
    fn what_is_missing_comes_with_its_remedy() {
        assert!(missing().is_none_or(|text| text.contains("apt-get install openmpi-bin")), "{:?}", missing());
    }
}
