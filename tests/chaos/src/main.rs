//! `collimate-chaos`: what `cargo xtask chaos` and `cargo xtask soak` run.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use collimate_chaos::{ChaosOptions, Program, SoakOptions, chaos, soak};

/// Kills and resumes runs, and watches long ones.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
    /// Program to run; without it `cargo xtask` builds one.
    #[arg(long, value_name = "PATH", global = true, default_value = "target/release/collimate")]
    program: PathBuf,
    /// Folder for runs and results.
    #[arg(long, value_name = "DIR", global = true, default_value = "target/chaos")]
    out: PathBuf,
    /// Folder of the model to train.
    #[arg(long, value_name = "DIR", global = true, default_value = MODEL)]
    model: PathBuf,
}

/// The quickstart's base model, from the root of the checkout.
const MODEL: &str = "crates/collimate-quickstart/assets/quickstart-base";

#[derive(Debug, Subcommand)]
enum Verb {
    /// Kill short runs at random moments and resume them: they must end with the bytes of a run that was left alone.
    Chaos(ChaosOptions),
    /// Train for long, and fail where memory, handles or files grow (Linux).
    Soak(SoakOptions),
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<()> {
    // Processes are started in folders of their own.
    let absolute = |path: &Path| path.canonicalize().with_context(|| path.display().to_string());
    let (program, model) = (Program::at(absolute(&cli.program)?), absolute(&cli.model)?);
    std::fs::create_dir_all(&cli.out).with_context(|| format!("cannot create {}", cli.out.display()))?;
    let out = absolute(&cli.out)?;
    match &cli.verb {
        Verb::Chaos(options) => chaos(&program, &model, &out, options),
        Verb::Soak(options) => soak(&program, &model, &out, options),
    }
}
