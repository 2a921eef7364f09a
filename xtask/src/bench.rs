//! `cargo xtask bench`: kernels, training steps, and the same steps in PyTorch.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use clap::Args;

use crate::backend;
use crate::python::Environment;
use crate::steps::execute;
use crate::workspace::Workspace;

/// Options of `cargo xtask bench`.
#[derive(Debug, Args)]
pub(crate) struct BenchOptions {
    /// Do the same works in PyTorch, in turns with ours, and print the ratios; kernels are left out.
    #[arg(long)]
    pub(crate) peer: bool,
    /// Do them too in PyTorch with prompts packed as ours and the reference cached; alone or beside --peer.
    #[arg(long)]
    pub(crate) control: bool,
    /// Work to measure; may be repeated [default: all but device-… and shared-…]: gsm8k-full, gsm8k-lora, topical-lora,
    /// k-sweep, k-sweep-full, k-sweep-budget, long-responses, shared-k2, shared-k4, shared-k8, shared-k16, device-k2,
    /// device-k4, device-k4-single, device-long.
    #[arg(long, value_name = "NAME")]
    pub(crate) work: Vec<String>,
    /// Model: 10m, 135m, 1b (Llama-3.2-1B) or 8b (Llama-3.1-8B), of random weights.
    #[arg(long, value_name = "NAME", default_value = "135m")]
    pub(crate) shape: String,
    /// Backend of ours: flex, libtorch, cuda or wgpu; PyTorch computes on the same device.
    #[arg(long, value_name = "NAME", default_value = "flex")]
    pub(crate) backend: String,
    /// Number of the device, as `collimate backends` lists them.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) device: usize,
    /// Let burn join operations of cuda or wgpu.
    #[arg(long)]
    pub(crate) fusion: bool,
    /// Compute in bfloat16 on both sides.
    #[arg(long)]
    pub(crate) bf16: bool,
    /// How exact products in float32 are on both sides, by PyTorch's names: highest, high or medium.
    #[arg(long, value_name = "NAME", value_parser = ["highest", "high", "medium"], default_value = "highest",
          conflicts_with = "bf16")]
    pub(crate) precision: String,
    /// Steps that count.
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub(crate) steps: usize,
    /// Steps before those that count.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) warmup: usize,
    /// Threads of each side.
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub(crate) threads: usize,
    /// Folder with `gsm8k_rewards.jsonl` and `topical_chat_rewards.jsonl` [default: shared/data beside the checkout].
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// File of results; those of other works in it stay [default: bench/results.json in the target folder].
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// Write tables and charts of all results in the file into docs/performance.md.
    #[arg(long)]
    pub(crate) write_docs: bool,
    /// Python with what benches/peer/requirements.txt names [default: a virtual environment in the target folder].
    #[arg(long, value_name = "PATH")]
    pub(crate) python: Option<PathBuf>,
    /// Arguments of `cargo bench`, after `--`; runs these benchmarks only.
    #[arg(last = true)]
    pub(crate) args: Vec<OsString>,
}

/// The package of the benchmarks.
const PACKAGE: [&str; 2] = ["--package", "collimate-benches"];
/// What the peer needs.
const REQUIREMENTS: &str = "benches/peer/requirements.txt";

/// Runs the benchmarks that the options ask for.
pub(crate) fn bench(workspace: &Workspace, options: &BenchOptions) -> Result<ExitCode> {
    if !options.args.is_empty() {
        execute(workspace.cargo_here("bench").args(PACKAGE).args(&options.args))?;
        return Ok(ExitCode::SUCCESS);
    }
    let scratch = workspace.target.join("bench");
    std::fs::create_dir_all(&scratch).with_context(|| format!("cannot create {}", scratch.display()))?;
    let environment = Environment { folder: scratch.join("venv"), requirements: REQUIREMENTS };
    let rivals = options.peer || options.control;
    let python = if rivals { Some(environment.python(workspace, options.python.as_deref())?) } else { None };
    let features = backend::features_with(workspace, &options.backend, options.fusion)?;
    if python.is_none() && options.work.is_empty() && features.is_empty() {
        let mut kernels = workspace.cargo_here("bench");
        kernels.args(PACKAGE).args(["--bench", "ops", "--", "--json"]).arg(scratch.join("ops.json"));
        execute(&mut kernels)?;
    }
    let mut build = workspace.cargo_here("build");
    build.args(PACKAGE).args(["--release", "--bins"]);
    if !features.is_empty() {
        build.args(["--features", &features.join(",")]);
    }
    execute(backend::prepare(workspace, &features, &mut build)?)?;
    let mut compare = compare(workspace, options, &scratch, python.as_deref());
    execute(backend::prepare(workspace, &features, &mut compare)?)?;
    Ok(ExitCode::SUCCESS)
}

/// The program that measures, with its arguments.
fn compare(workspace: &Workspace, options: &BenchOptions, scratch: &Path, python: Option<&Path>) -> Command {
    let mut command = Command::new(workspace.program("release", "bench-compare"));
    for work in &options.work {
        command.args(["--work", work]);
    }
    command.args(["--shape", &options.shape, "--backend", &options.backend]);
    command.arg(format!("--device={}", options.device));
    if options.bf16 {
        command.arg("--bf16");
    } else {
        command.args(["--precision", &options.precision]);
    }
    command.arg(format!("--steps={}", options.steps));
    command.arg(format!("--warmup={}", options.warmup));
    command.arg(format!("--threads={}", options.threads));
    command.arg("--data").arg(options.data.clone().unwrap_or_else(|| crate::beside::data(&workspace.root)));
    command.arg("--out").arg(options.out.clone().unwrap_or_else(|| scratch.join("results.json")));
    command.arg("--root").arg(&workspace.root).arg("--scratch").arg(scratch);
    if let Some(python) = python {
        command.arg("--python").arg(python);
        command.args(options.peer.then_some("--peer")).args(options.control.then_some("--control"));
    }
    if options.write_docs {
        command.arg("--write-docs");
    }
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
        options: BenchOptions,
    }

    fn parsed(args: &[&str]) -> BenchOptions {
        Cli::try_parse_from([&["bench"], args].concat()).expect("valid options").options
    }

    #[test]
    fn options_reach_the_program_that_measures() {
        let workspace = Workspace { root: "/checkout".into(), target: "/target".into() };
        let options = parsed(&["--peer", "--work", "k-sweep", "--steps", "2", "--write-docs"]);
        let command = compare(&workspace, &options, Path::new("/target/bench"), Some(Path::new("/venv/python")));
        let expected = "bench-compare --work k-sweep --shape 135m --backend flex --device=0 --precision highest --steps=2 --warmup=1 --threads=2 --data /shared/data \
                        --out /target/bench/results.json --root /checkout --scratch /target/bench --python /venv/python \
                        --peer --write-docs";
        assert_eq!(words(&command), expected);
    }

    #[test]
    fn the_types_are_bfloat16_or_float32_of_a_precision() {
        let workspace = Workspace { root: "/checkout".into(), target: "/target".into() };
        let program = |args: &[&str]| {
            let python = Path::new("/venv/python");
            words(&compare(&workspace, &parsed(args), Path::new("/target/bench"), Some(python)))
        };
        let bf16 = program(&["--peer", "--control", "--bf16"]);
        assert!(
            bf16.contains(" --bf16 ") && !bf16.contains("--precision") && bf16.ends_with("--peer --control"),
            "{bf16}"
        );
        let high = program(&["--control", "--precision", "high"]);
        assert!(high.contains(" --precision high ") && high.ends_with("/venv/python --control"), "{high}");
        for refused in [&["--bf16", "--precision", "high"][..], &["--precision", "higher"]] {
            assert!(Cli::try_parse_from([&["bench"], refused].concat()).is_err(), "{refused:?}");
        }
    }

    #[test]
    fn what_stands_after_two_dashes_is_cargos() {
        assert_eq!(parsed(&["--", "--bench", "step", "nca"]).args, ["--bench", "step", "nca"]);
    }
}
