//! `cargo xtask python-check`: round trips of models and adapters through transformers and PEFT, and training beside TRL's
//! trainer.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::thread::JoinHandle;

use anyhow::{Context, Result, anyhow};
use clap::Args;

use crate::forward::Forwarded;
use crate::profile::Profile;
use crate::program;
use crate::python::Environment;
use crate::steps::{Steps, execute_into};
use crate::test_options::TestOptions;
use crate::workspace::{Workspace, in_ci};

/// Options of `cargo xtask python-check`.
#[derive(Debug, Default, Args)]
pub(crate) struct PythonCheckOptions {
    /// Python with what tests/python/requirements.txt names [default: a virtual environment in the target folder].
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) python: Option<PathBuf>,
    /// Models to check, with commas between: folders of tests/golden [default: all].
    #[arg(long, value_name = "NAMES")]
    pub(crate) only: Option<String>,
    /// Folder of other models by these names; one that is not in it is the golden one.
    #[arg(long, value_name = "DIR")]
    pub(crate) models: Option<PathBuf>,
}

/// Name of the step of `cargo xtask test`.
const STEP: &str = "round trips with transformers and PEFT, and training beside TRL";
const SCRIPT: &str = "tests/python/round_trips.py";
/// Published recipes, trained by both.
const RECIPES: &str = "tests/python/trl_recipes.py";

/// Builds the program and runs the checks.
pub(crate) fn python_check(workspace: &Workspace, options: &PythonCheckOptions, profile: Profile) -> Result<ExitCode> {
    let python = environment(workspace).python(workspace, options.python.as_deref())?;
    let program = program::build(workspace, &Forwarded::default(), profile)?;
    run(workspace, options, &python, &program, None)?;
    Ok(ExitCode::SUCCESS)
}

/// The environment of the checks, being made while other steps run.
pub(crate) struct Preparation(Result<JoinHandle<Result<PathBuf>>, &'static str>);

/// Begins to make the environment. Tests must not require Python, so the checks run only if it exists or, in CI, is made now.
pub(crate) fn prepare(workspace: &Workspace, options: &TestOptions) -> Preparation {
    if !(in_ci() || environment(workspace).is_made(workspace) || options.python.is_some()) {
        return Preparation(Err("no Python environment for it here; `cargo xtask python-check` makes one and runs it"));
    }
    let (workspace, named) = (workspace.clone(), options.python.clone());
    Preparation(Ok(std::thread::spawn(move || environment(&workspace).python(&workspace, named.as_deref()))))
}

/// The checks as a step of `cargo xtask test`, beside those that follow; the summary says why if they are left out.
pub(crate) fn step(
    workspace: &Workspace,
    preparation: Preparation,
    options: &TestOptions,
    profile: Profile,
    steps: &mut Steps,
) {
    let thread = match preparation.0 {
        Ok(thread) => thread,
        Err(reason) => return steps.leave_out(STEP, reason.to_owned()),
    };
    // An unreachable index or a full disk is not the code's fault.
    let made = thread.join().unwrap_or_else(|_| Err(anyhow!("its installation panicked")));
    let python = match made {
        Ok(python) => python,
        Err(error) => return steps.leave_out(STEP, format!("no Python environment can be made: {error:#}")),
    };
    if let Err(error) = start(workspace, python, options, profile, steps) {
        steps.run(STEP, || Err(error));
    }
}

/// Starts the checks with a copy of the program: later steps build it with other features.
fn start(
    workspace: &Workspace,
    python: PathBuf,
    options: &TestOptions,
    profile: Profile,
    steps: &mut Steps,
) -> Result<()> {
    let forwarded = Forwarded { backend: Some(options.backend.clone()), ..Forwarded::default() };
    let built = program::build(workspace, &forwarded, profile)?;
    let folder = scratch(workspace);
    let program = folder.join(built.file_name().unwrap_or_default());
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    std::fs::copy(&built, &program).with_context(|| format!("cannot write {}", program.display()))?;
    let all = PythonCheckOptions::default();
    let own = workspace.clone();
    steps.start_beside(STEP, folder.join("log.txt"), move |log| run(&own, &all, &python, &program, Some(log)))
}

/// The environment's Python, if the environment exists.
pub(crate) fn made_python(workspace: &Workspace) -> Option<PathBuf> {
    let environment = environment(workspace);
    environment.is_made(workspace).then(|| environment.python(workspace, None).ok()).flatten()
}

/// Runs the checks with a Python and a program; they print to `log`, or else to the terminal.
fn run(
    workspace: &Workspace,
    options: &PythonCheckOptions,
    python: &Path,
    program: &Path,
    log: Option<&File>,
) -> Result<()> {
    let folder = scratch(workspace).join("work");
    if folder.exists() {
        std::fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    let trips = execute_into(&mut script(workspace, options, python, program, &folder), log);
    match options.only.is_some() || options.models.is_some() {
        // The recipes are trained on one model.
        true => trips,
        false => trips.and(execute_into(&mut recipes(workspace, python, program, &folder), log)),
    }
}

/// The script that trains recipes with TRL and here.
fn recipes(workspace: &Workspace, python: &Path, program: &Path, folder: &Path) -> Command {
    command(workspace, RECIPES, python, program, folder)
}

/// A script with the program and a folder to work in.
fn command(workspace: &Workspace, script: &str, python: &Path, program: &Path, folder: &Path) -> Command {
    let mut command = Command::new(python);
    command.arg(workspace.root.join(script)).arg(program).arg(folder);
    // Keeps compiled modules out of the checkout.
    command.env("PYTHONPYCACHEPREFIX", scratch(workspace).join("pycache"));
    command
}

/// The script with its arguments.
fn script(
    workspace: &Workspace,
    options: &PythonCheckOptions,
    python: &Path,
    program: &Path,
    folder: &Path,
) -> Command {
    let mut command = command(workspace, SCRIPT, python, program, folder);
    if let Some(models) = &options.models {
        command.arg("--models").arg(models);
    }
    if let Some(only) = &options.only {
        command.args(["--only", only]);
    }
    command
}

fn environment(workspace: &Workspace) -> Environment {
    Environment { folder: scratch(workspace).join("venv"), requirements: "tests/python/requirements.txt" }
}

fn scratch(workspace: &Workspace) -> PathBuf {
    workspace.target.join("python-check")
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::workspace::words;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        options: PythonCheckOptions,
    }

    fn line(args: &[&str]) -> String {
        let workspace = Workspace { root: "/no-such-folder/checkout".into(), target: "/target".into() };
        let options = Cli::try_parse_from([&["python-check"], args].concat()).expect("valid options").options;
        let folder = scratch(&workspace).join("work");
        words(&script(&workspace, &options, Path::new("/venv/python"), Path::new("/target/debug/collimate"), &folder))
    }

    #[test]
    fn options_reach_the_script() {
        let start = "python /no-such-folder/checkout/tests/python/round_trips.py /target/debug/collimate \
                     /target/python-check/work";
        assert_eq!(line(&[]), start);
        let all = line(&["--models", "/models", "--only", "llama,phi3"]);
        assert_eq!(all, format!("{start} --models /models --only llama,phi3"));
    }

    #[test]
    fn the_script_and_its_packages_are_in_the_checkout() {
        let workspace = Workspace::locate().expect("a checkout");
        assert!(workspace.read(SCRIPT).is_ok() && workspace.read(RECIPES).is_ok());
        let packages = workspace.read(environment(&workspace).requirements).expect("a file of packages");
        let lines: Vec<&str> = packages.lines().collect();
        assert!(lines.is_sorted() && lines.iter().all(|line| line.contains("==")), "{packages}");
    }
}
