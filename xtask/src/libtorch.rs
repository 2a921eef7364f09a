//! `cargo xtask libtorch`: PyTorch's library for the libtorch backend, from the Python package that burn-tch expects.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::python;
use crate::workspace::{Workspace, output};

/// The package that the bindings (tch 0.22) require; they refuse any other version.
pub(crate) const PACKAGE: &str = "torch==2.9.0";
/// Where the loader searches for shared libraries.
pub(crate) const LOADER_PATH: &str = if cfg!(target_os = "macos") { "DYLD_LIBRARY_PATH" } else { "LD_LIBRARY_PATH" };

#[derive(Debug, Args)]
pub(crate) struct LibtorchOptions {
    /// Python that has torch 2.9 [default: a virtual environment in the target folder].
    #[arg(long, value_name = "PROGRAM")]
    python: Option<PathBuf>,
    /// Package index to install from, say for torch without CUDA [default: pip's].
    #[arg(long, value_name = "URL", conflicts_with = "python")]
    index_url: Option<String>,
}

/// The location of libtorch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Libtorch {
    /// The Python it belongs to; `None` if `LIBTORCH` names a folder.
    python: Option<PathBuf>,
    /// Folder of the shared libraries.
    libraries: PathBuf,
}

impl Libtorch {
    /// Finds the one named by `LIBTORCH` or set up by `cargo xtask libtorch`.
    ///
    /// # Errors
    /// There is none; the message says how to install it.
    pub(crate) fn find(workspace: &Workspace) -> Result<Self> {
        if let Some(folder) = std::env::var_os("LIBTORCH").filter(|folder| !folder.is_empty()) {
            return Ok(Self { python: None, libraries: Path::new(&folder).join("lib") });
        }
        let remembered = std::fs::read_to_string(remembered(workspace)).unwrap_or_default();
        let mut lines = remembered.lines().map(PathBuf::from);
        match (lines.next(), lines.next()) {
            (Some(python), Some(libraries)) if python.is_file() && libraries.is_dir() => {
                Ok(Self { python: Some(python), libraries })
            }
            _ => bail!("libtorch is not set up; `cargo xtask libtorch` installs it, or LIBTORCH names its folder"),
        }
    }

    /// Uses a Python's torch, and remembers it for [`Libtorch::find`].
    ///
    /// # Errors
    /// It has no torch, or another version than the bindings require.
    pub(crate) fn take(workspace: &Workspace, python: &Path) -> Result<Self> {
        let script =
            "import os, torch; print(torch.__version__); print(os.path.join(os.path.dirname(torch.__file__), 'lib'))";
        let answer = output(Command::new(python).args(["-c", script])).context("this Python has no torch")?;
        let mut lines = answer.lines();
        let (version, libraries) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
        if !version.starts_with("2.9.") {
            bail!("{} has torch {version}, but the bindings require 2.9", python.display());
        }
        let file = remembered(workspace);
        let folder = file.parent().unwrap_or(&workspace.target);
        std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        let text = format!("{}\n{libraries}\n", python.display());
        std::fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
        println!("libtorch {version} in {libraries}");
        Ok(Self { python: Some(python.to_owned()), libraries: PathBuf::from(libraries) })
    }

    /// Sets the environment so that a build and its programs find it.
    pub(crate) fn prepare<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        if let Some(folder) = self.python.as_deref().and_then(Path::parent) {
            command.env("LIBTORCH_USE_PYTORCH", "1").env("PATH", before("PATH", folder));
        }
        command.env(LOADER_PATH, before(LOADER_PATH, &self.libraries))
    }

    /// Folder of the shared libraries, for messages.
    pub(crate) fn libraries(&self) -> &Path {
        &self.libraries
    }
}

/// A list of folders from the environment, with one prepended.
pub(crate) fn before(variable: &str, folder: &Path) -> std::ffi::OsString {
    let rest = std::env::var_os(variable).unwrap_or_default();
    let rest = std::env::split_paths(&rest).filter(|path| !path.as_os_str().is_empty());
    let all = std::iter::once(folder.to_owned()).chain(rest);
    // Fails only if a folder's name contains the separator.
    std::env::join_paths(all).unwrap_or_else(|_| folder.into())
}

/// The file that remembers Python and libraries.
fn remembered(workspace: &Workspace) -> PathBuf {
    workspace.target.join("libtorch/found.txt")
}

/// Sets libtorch up and remembers it.
pub(crate) fn set_up(workspace: &Workspace, options: &LibtorchOptions) -> Result<ExitCode> {
    let python = match &options.python {
        Some(python) => absolute(python)?,
        None => {
            let index = options.index_url.iter().flat_map(|url| ["--index-url", url]);
            let packages = [PACKAGE, "numpy", "setuptools"].into_iter().chain(index).map(AsRef::as_ref);
            python::install(&workspace.target.join("libtorch/venv"), "PyTorch", packages)?
        }
    };
    Libtorch::take(workspace, &python)?;
    println!("Ready: cargo xtask train --backend libtorch --objective nca");
    Ok(ExitCode::SUCCESS)
}

/// The absolute path of a Python; a bare name is looked up in `PATH`.
fn absolute(python: &Path) -> Result<PathBuf> {
    let script = "import sys; print(sys.executable)";
    let path = output(Command::new(python).args(["-c", script])).context("--python")?;
    Ok(PathBuf::from(path.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workspace(target: &Path) -> Workspace {
        Workspace { root: "/checkout".into(), target: target.to_owned() }
    }

    #[test]
    fn a_remembered_libtorch_is_found_unless_it_is_gone() {
        let target = std::env::temp_dir().join(format!("xtask-libtorch-{}", std::process::id()));
        let libraries = target.join("libtorch/lib");
        std::fs::create_dir_all(&libraries).expect("a folder");
        let python = target.join("python3");
        std::fs::write(&python, "").expect("a file");
        let text = format!("{}\n{}\n", python.display(), libraries.display());
        std::fs::write(target.join("libtorch/found.txt"), text).expect("a file");
        let found = Libtorch::find(&workspace(&target));
        std::fs::remove_file(&python).expect("a file");
        let lost = Libtorch::find(&workspace(&target));
        std::fs::remove_dir_all(&target).expect("a folder");
        let found = found.expect("libtorch");
        assert_eq!(found, Libtorch { python: Some(python), libraries: libraries.clone() });
        let mut command = Command::new("cargo");
        let set: Vec<_> = found.prepare(&mut command).get_envs().collect();
        assert!(set.iter().any(|(name, value)| *name == "LIBTORCH_USE_PYTORCH" && value.is_some()), "{set:?}");
        let loader = set.iter().find(|(name, _)| *name == LOADER_PATH).and_then(|(_, value)| *value);
        assert!(loader.is_some_and(|value| std::env::split_paths(value).next() == Some(libraries.clone())), "{set:?}");
        assert!(lost.expect_err("gone").to_string().contains("cargo xtask libtorch"));
    }
}
