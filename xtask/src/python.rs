//! Python for comparisons with PyTorch: a virtual environment in the target folder, created when first needed.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::steps::execute;
use crate::workspace::Workspace;

/// A virtual environment with the packages of a requirements file.
#[derive(Debug)]
pub(crate) struct Environment {
    /// Its folder.
    pub(crate) folder: PathBuf,
    /// The requirements file, from the root of the checkout.
    pub(crate) requirements: &'static str,
}

impl Environment {
    /// Whether it exists, with the packages that the checkout requires now.
    pub(crate) fn is_made(&self, workspace: &Workspace) -> bool {
        let wanted = workspace.read(self.requirements).ok();
        wanted.is_some() && std::fs::read_to_string(self.installed()).ok() == wanted && self.program().is_file()
    }

    /// The Python named in the options, or else the environment's, which is created if needed.
    ///
    /// # Errors
    /// There is no Python 3 with venv, or packages cannot be installed.
    pub(crate) fn python(&self, workspace: &Workspace, named: Option<&Path>) -> Result<PathBuf> {
        if let Some(named) = named {
            return Ok(named.to_owned());
        }
        if !self.is_made(workspace) {
            self.make(workspace)?;
        }
        Ok(self.program())
    }

    fn make(&self, workspace: &Workspace) -> Result<()> {
        let wanted = workspace.read(self.requirements)?;
        let file = workspace.root.join(self.requirements);
        install(&self.folder, "PyTorch", ["--requirement".as_ref(), file.as_os_str()])?;
        // Written last, so that a failed installation is repeated.
        let installed = self.installed();
        std::fs::write(&installed, wanted).with_context(|| format!("cannot write {}", installed.display()))
    }

    fn program(&self) -> PathBuf {
        program(&self.folder)
    }

    /// A copy of the requirements that were installed.
    fn installed(&self) -> PathBuf {
        self.folder.join("requirements.txt")
    }
}

/// Creates a virtual environment with `what`, installs packages by pip's arguments, and returns its Python.
///
/// # Errors
/// There is no Python 3 with venv, or packages cannot be installed.
pub(crate) fn install<'a>(folder: &Path, what: &str, packages: impl IntoIterator<Item = &'a OsStr>) -> Result<PathBuf> {
    eprintln!("Making a Python environment with {what} in {}; this takes minutes.", folder.display());
    execute(Command::new("python3").args(["-m", "venv"]).arg(folder))
        .context("needs Python 3 with venv; where PyTorch is wanted, --python names one that has it")?;
    let program = program(folder);
    if !program.is_file() {
        bail!("{} is not there; remove {} to make it again", program.display(), folder.display());
    }
    // Only a few of thousands of modules are ever imported; Python compiles those on import.
    let mut pip = Command::new(&program);
    execute(pip.args(["-m", "pip", "install", "--quiet", "--no-compile"]).args(packages))?;
    Ok(program)
}

/// The Python of an environment.
fn program(folder: &Path) -> PathBuf {
    let programs = folder.join(if cfg!(windows) { "Scripts" } else { "bin" });
    programs.join(format!("python{}", std::env::consts::EXE_SUFFIX))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A checkout with these requirements, in a temporary folder.
    fn checkout(name: &str, requirements: &str) -> Workspace {
        let root = std::env::temp_dir().join(format!("xtask-python-{name}-{}", std::process::id()));
        std::fs::create_dir_all(root.join("venv")).expect("temporary folder");
        std::fs::write(root.join("packages.txt"), requirements).expect("temporary file");
        Workspace { target: root.clone(), root }
    }

    fn environment(workspace: &Workspace) -> Environment {
        Environment { folder: workspace.root.join("venv"), requirements: "packages.txt" }
    }

    #[test]
    fn an_environment_with_other_packages_is_outdated() {
        let workspace = checkout("made", "a==1\n");
        let environment = environment(&workspace);
        let program = environment.program();
        std::fs::create_dir_all(program.parent().expect("a folder")).expect("temporary folder");
        std::fs::write(program, "").expect("temporary file");
        let unknown = environment.is_made(&workspace);
        std::fs::write(environment.installed(), "a==1\n").expect("temporary file");
        let same = environment.is_made(&workspace);
        std::fs::write(workspace.root.join("packages.txt"), "a==2\n").expect("temporary file");
        let other = environment.is_made(&workspace);
        std::fs::remove_dir_all(&workspace.root).expect("temporary folder");
        assert_eq!((unknown, same, other), (false, true, false));
    }

    #[test]
    fn a_named_python_is_used_as_it_is() {
        let workspace = checkout("named", "a==1\n");
        let found = environment(&workspace).python(&workspace, Some(Path::new("/opt/python")));
        let made = environment(&workspace).program().is_file();
        std::fs::remove_dir_all(&workspace.root).expect("temporary folder");
        assert_eq!((found.expect("a name"), made), ("/opt/python".into(), false));
    }
}
