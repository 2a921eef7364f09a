//! `cargo xtask`: builds, tests, checks, benchmarks and scaffolding.
//!
//! Depends on none of our crates, so it starts in a second and works even if they don't compile.

mod backend;
mod bench;
mod beside;
mod chaos;
mod cli;
mod cuda;
mod doctor;
mod failed_tests;
mod forward;
mod fuzz;
mod harness;
mod kernels;
mod launch;
mod libtorch;
mod paper;
mod parity;
mod profile;
mod program;
mod python;
mod python_check;
mod ranks;
mod scaffold;
mod source;
mod steps;
mod test_options;
mod test_run;
mod tidy;
mod verify;
mod workspace;

use std::process::ExitCode;

use anyhow::Result;

use crate::cli::{Cli, Verb};
use crate::forward::Forwarded;
use crate::program::Profile;
use crate::workspace::Workspace;

fn main() -> ExitCode {
    match run(cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<ExitCode> {
    let workspace = Workspace::locate()?;
    let profile = match cli.profile {
        Some(profile) => Some(profile),
        None => Profile::from_environment()?,
    };
    let forward = |verb: Option<&str>, args| -> Result<ExitCode> {
        let forwarded = Forwarded::parse(args)?;
        program::run(&workspace, verb, &forwarded, profile.unwrap_or(Profile::Release))
    };
    match cli.verb {
        Verb::Train { args } => forward(Some("train"), args),
        Verb::QuickstartAssets { args } => forward(Some("quickstart-assets"), args),
        Verb::Run { args } => forward(None, args),
        Verb::Launch(options) => launch::launch(&workspace, &options, profile.unwrap_or(Profile::Release)),
        Verb::Test(options) => verify::test(&workspace, &options, profile.unwrap_or(Profile::Dev)),
        Verb::Check => verify::check(&workspace),
        Verb::Tidy { paths } => tidy::tidy(&workspace, &paths),
        Verb::Bench(options) => bench::bench(&workspace, &options),
        Verb::PythonCheck(options) => python_check::python_check(&workspace, &options, profile.unwrap_or(Profile::Dev)),
        Verb::Kernels => kernels::run(&workspace),
        Verb::Paper(options) => paper::paper(&workspace, &options),
        Verb::Chaos { args } => chaos::run(&workspace, "chaos", args, profile.unwrap_or(Profile::Release)),
        Verb::Soak { args } => chaos::run(&workspace, "soak", args, profile.unwrap_or(Profile::Release)),
        Verb::Fuzz(options) => fuzz::fuzz(&workspace, &options, profile.unwrap_or(Profile::Release)),
        Verb::NewObjective { name, path } => scaffold::new_objective(&workspace, &name, path.as_deref()),
        Verb::Libtorch(options) => libtorch::set_up(&workspace, &options),
        Verb::Cuda => cuda::set_up(&workspace),
        Verb::Doctor => doctor::run(&workspace),
    }
}
