//! `cargo xtask paper`: what the paper claims, measured, and the page of it.

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::Result;
use clap::Args;

use crate::steps::execute;
use crate::workspace::Workspace;

/// Options of `cargo xtask paper`.
#[derive(Debug, Args)]
pub(crate) struct PaperOptions {
    /// Experiments [default: all]: theory, falling, ablation, reasoning, sensitivity, pictures.
    #[arg(long, value_name = "NAMES")]
    pub(crate) only: Option<String>,
    /// Folder with gsm8k_model_solutions.jsonl [default: shared/data beside the checkout]; without the file, generated
    /// problems take its place.
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// A small form of everything within minutes, into the target folder: to see that it works, not what is true.
    #[arg(long)]
    pub(crate) quick: bool,
    /// Folder of the page [default: docs/paper; with --quick, paper/page in the target folder].
    #[arg(long, value_name = "DIR")]
    pub(crate) output: Option<PathBuf>,
}

/// The package that does it.
const PACKAGE: &str = "collimate-paper";

/// Builds the program in release and runs it.
pub(crate) fn paper(workspace: &Workspace, options: &PaperOptions) -> Result<ExitCode> {
    execute(workspace.cargo_here("build").args(["--package", PACKAGE, "--release"]))?;
    execute(&mut program(workspace, options))?;
    Ok(ExitCode::SUCCESS)
}

/// The program with its arguments.
fn program(workspace: &Workspace, options: &PaperOptions) -> Command {
    let mut command = Command::new(workspace.program("release", PACKAGE));
    if let Some(only) = &options.only {
        command.args(["--only", only]);
    }
    if options.quick {
        command.arg("--quick");
    }
    command.arg("--data").arg(options.data.clone().unwrap_or_else(|| crate::beside::data(&workspace.root)));
    let work = workspace.target.join("paper");
    let page = if options.quick { work.join("page") } else { workspace.root.join("docs/paper") };
    command.arg("--output").arg(options.output.clone().unwrap_or(page));
    command.arg("--work").arg(work).arg("--root").arg(&workspace.root);
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
        options: PaperOptions,
    }

    fn line(args: &[&str]) -> String {
        let workspace = Workspace { root: "/checkout".into(), target: "/target".into() };
        words(&program(&workspace, &Cli::try_parse_from([&["paper"], args].concat()).expect("valid options").options))
    }

    #[test]
    fn the_page_goes_into_the_documents_and_a_quick_one_does_not() {
        let full =
            "collimate-paper --data /shared/data --output /checkout/docs/paper --work /target/paper --root /checkout";
        assert_eq!(line(&[]), full);
        let quick = "collimate-paper --only theory,falling --quick --data /d --output /target/paper/page --work \
                     /target/paper --root /checkout";
        assert_eq!(line(&["--quick", "--only", "theory,falling", "--data", "/d"]), quick);
    }
}
