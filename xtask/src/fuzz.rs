//! `cargo xtask fuzz`: hostile input for the parsers of downloaded files.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use clap::Args;

use crate::program::Profile;
use crate::steps::execute;
use crate::workspace::Workspace;

/// Options of `cargo xtask fuzz`.
#[derive(Debug, Args)]
pub(crate) struct FuzzOptions {
    /// Parser to try; may be repeated [default: all]: jsonl, row_file, image, safetensors, packed_weights,
    /// weight_index, config, tokenizer, chat_template, adapter, recipe, metrics, objective_rows.
    #[arg(long, value_name = "NAME")]
    pub(crate) target: Vec<String>,
    /// Inputs per parser.
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    pub(crate) inputs: u64,
    /// Seconds after which a parser's run stops.
    #[arg(long, value_name = "S")]
    pub(crate) seconds: Option<u64>,
    /// Seed of the mutations.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,
    /// Feed one file to the parser named, and print its answer.
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
}

/// Package of the driver.
const PACKAGE: [&str; 2] = ["--package", "collimate-hostile"];

/// Builds the driver and runs it.
pub(crate) fn fuzz(workspace: &Workspace, options: &FuzzOptions, profile: Profile) -> Result<ExitCode> {
    let (flags, folder): (&[&str], _) = match profile {
        Profile::Dev => (&[], "debug"),
        Profile::Release => (&["--release"], "release"),
    };
    execute(workspace.cargo_here("build").args(PACKAGE).args(flags))?;
    let out = workspace.target.join("hostile");
    std::fs::create_dir_all(&out).with_context(|| format!("cannot create {}", out.display()))?;
    execute(&mut driver(workspace, options, folder, &out))?;
    Ok(ExitCode::SUCCESS)
}

/// The command line of the driver.
fn driver(workspace: &Workspace, options: &FuzzOptions, folder: &str, out: &Path) -> Command {
    let mut command = Command::new(workspace.program(folder, "hostile"));
    for target in &options.target {
        command.args(["--target", target]);
    }
    command.arg(format!("--inputs={}", options.inputs)).arg(format!("--seed={}", options.seed));
    if let Some(seconds) = options.seconds {
        command.arg(format!("--seconds={seconds}"));
    }
    if let Some(file) = &options.file {
        command.arg("--file").arg(file);
    }
    command.arg("--fuzz").arg(workspace.root.join("fuzz")).arg("--out").arg(out);
    command
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::workspace::words;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        options: FuzzOptions,
    }

    #[test]
    fn options_reach_the_driver() {
        let workspace = Workspace { root: "/checkout".into(), target: "/target".into() };
        let args = ["fuzz", "--target", "jsonl", "--target", "recipe", "--inputs", "5", "--seconds", "2"];
        let options = Cli::try_parse_from(args).expect("valid options").options;
        let expected = "hostile --target jsonl --target recipe --inputs=5 --seed=1 --seconds=2 --fuzz /checkout/fuzz \
                        --out /target/hostile";
        assert_eq!(words(&driver(&workspace, &options, "release", Path::new("/target/hostile"))), expected);
    }
}
