//! `cargo xtask cuda`: what the cuda backend needs beside the driver, from NVIDIA's Python packages: the compiler NVRTC and the
//! headers that kernels include.
//!
//! CubeCL looks for headers in one folder only, `CUDA_PATH/include`, and each package brings a part of them, so they are gathered in a
//! folder laid out like that of a toolkit.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};

use crate::libtorch::{LOADER_PATH, before};
use crate::python;
use crate::workspace::{Workspace, output};

/// NVRTC and its headers, all of CUDA 12.8: those of the runtime, `crt` of the compiler, `cuda`, `nv` and others of CCCL.
const PACKAGES: [&str; 4] = [
    "nvidia-cuda-nvrtc-cu12==12.8.93",
    "nvidia-cuda-runtime-cu12==12.8.90",
    "nvidia-cuda-nvcc-cu12==12.8.93",
    "nvidia-cuda-cccl-cu12==12.8.90",
];
/// A header that every kernel includes, one for tensor cores, and one of CCCL.
const HEADERS: [&str; 3] = ["cuda_runtime.h", "crt/mma.h", "cuda/barrier"];
/// The compiler's library.
const COMPILER: &str = "libnvrtc.so.12";

/// The toolkit that `cargo xtask cuda` has made.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Toolkit(PathBuf);

impl Toolkit {
    /// The one in the target folder, if it is whole.
    pub(crate) fn find(workspace: &Workspace) -> Option<Self> {
        let toolkit = Self(folder(workspace).join("toolkit"));
        toolkit.is_whole().then_some(toolkit)
    }

    fn is_whole(&self) -> bool {
        let headers = HEADERS.iter().all(|header| self.0.join("include").join(header).is_file());
        headers && self.libraries().join(COMPILER).is_file()
    }

    /// Its folder, for messages.
    pub(crate) fn folder(&self) -> &Path {
        &self.0
    }

    fn libraries(&self) -> PathBuf {
        self.0.join("lib64")
    }

    /// Sets the environment so that programs find it, unless `CUDA_PATH` names another toolkit.
    pub(crate) fn prepare<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        match std::env::var_os("CUDA_PATH") {
            Some(_) => command,
            None => command.env("CUDA_PATH", &self.0).env(LOADER_PATH, before(LOADER_PATH, &self.libraries())),
        }
    }
}

fn folder(workspace: &Workspace) -> PathBuf {
    workspace.target.join("cuda")
}

/// Installs the packages and gathers their files in the target folder.
///
/// # Errors
/// The system has no such packages, they cannot be installed, or a file is missing in them.
pub(crate) fn set_up(workspace: &Workspace) -> Result<ExitCode> {
    if !cfg!(target_os = "linux") {
        bail!("only for Linux; elsewhere install NVIDIA's CUDA toolkit");
    }
    let made = folder(workspace).join("toolkit");
    if Toolkit::find(workspace).is_none() {
        let all = folder(workspace);
        if all.exists() {
            // What an interrupted attempt has left.
            std::fs::remove_dir_all(&all).with_context(|| format!("cannot remove {}", all.display()))?;
        }
        let environment = all.join("venv");
        let python = python::install(&environment, "NVIDIA's compiler", PACKAGES.iter().map(AsRef::as_ref))?;
        let script = "import sysconfig; print(sysconfig.get_paths()['purelib'])";
        let packages = output(Command::new(&python).args(["-c", script]))?;
        gather(&Path::new(packages.trim()).join("nvidia"), &made)?;
        // The files were moved out of it.
        std::fs::remove_dir_all(&environment).with_context(|| format!("cannot remove {}", environment.display()))?;
    }
    if Toolkit::find(workspace).is_none() {
        bail!("{} lacks a part of {HEADERS:?} or {COMPILER}", made.display());
    }
    println!("NVRTC and headers of CUDA 12.8 in {}", made.display());
    println!("Ready, where NVIDIA's driver is loaded: cargo xtask train --backend cuda --objective nca");
    Ok(ExitCode::SUCCESS)
}

/// Moves the headers and libraries of packages into the folders of one toolkit.
fn gather(packages: &Path, toolkit: &Path) -> Result<()> {
    for package in entries(packages)? {
        for (from, to) in [("include", "include"), ("lib", "lib64")] {
            let (from, to) = (package.join(from), toolkit.join(to));
            std::fs::create_dir_all(&to).with_context(|| format!("cannot create {}", to.display()))?;
            for entry in if from.is_dir() { entries(&from)? } else { Vec::new() } {
                let name = entry.file_name().unwrap_or_default();
                // Each folder of a Python package has this file.
                if name != "__init__.py" {
                    std::fs::rename(&entry, to.join(name))
                        .with_context(|| format!("cannot move {}", entry.display()))?;
                }
            }
        }
    }
    Ok(())
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let listed = std::fs::read_dir(folder).and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect());
    listed.with_context(|| format!("cannot read {}", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(file: &Path) {
        std::fs::create_dir_all(file.parent().expect("a folder")).expect("a folder");
        std::fs::write(file, "").expect("a file");
    }

    #[test]
    fn parts_of_packages_become_one_toolkit_that_is_found_only_if_whole() {
        let target = std::env::temp_dir().join(format!("xtask-cuda-{}", std::process::id()));
        let workspace = Workspace { root: "/checkout".into(), target: target.clone() };
        let (packages, toolkit) = (target.join("nvidia"), target.join("cuda/toolkit"));
        let files =
            ["a/include/cuda_runtime.h", "a/include/__init__.py", "b/include/crt/mma.h", "c/lib/libnvrtc.so.12"];
        files.iter().for_each(|file| write(&packages.join(file)));
        write(&packages.join("__init__.py"));
        gather(&packages, &toolkit).expect("a toolkit");
        let in_parts = Toolkit::find(&workspace);
        write(&packages.join("d/include/cuda/barrier"));
        gather(&packages, &toolkit).expect("a toolkit");
        let whole = Toolkit::find(&workspace);
        let has_python = toolkit.join("include/__init__.py").exists();
        std::fs::remove_dir_all(&target).expect("a folder");
        assert_eq!((in_parts, has_python), (None, false));
        let whole = whole.expect("a toolkit");
        let mut command = Command::new("collimate");
        let set: Vec<_> = whole.prepare(&mut command).get_envs().collect();
        if std::env::var_os("CUDA_PATH").is_none() {
            assert!(set.contains(&("CUDA_PATH".as_ref(), Some(toolkit.as_os_str()))), "{set:?}");
            let loader = set.iter().find(|(name, _)| *name == LOADER_PATH).and_then(|(_, value)| *value);
            assert!(loader.is_some_and(|value| std::env::split_paths(value).next() == Some(toolkit.join("lib64"))));
        }
    }
}
