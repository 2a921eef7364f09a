//! Measures works, ours alone or in turns with PyTorch. `cargo xtask bench` builds and starts it.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Parser;
use collimate_benches::contest::{Settings, measure};
use collimate_benches::docs;
use collimate_benches::result::store;
use collimate_benches::rows::ComputeSettings;
use collimate_benches::work::{SHAPES, Shape, WORKS, Work};

/// Measures training steps.
#[derive(Debug, Parser)]
struct Cli {
    /// Works to measure [default: all but those whose names begin with `device-`].
    #[arg(long = "work", value_name = "NAME")]
    works: Vec<String>,
    /// Shape of the model.
    #[arg(long, default_value = "135m")]
    shape: String,
    /// Measured steps.
    #[arg(long, default_value_t = 5)]
    steps: usize,
    /// Warm-up steps before them.
    #[arg(long, default_value_t = 1)]
    warmup: usize,
    /// Threads of each side.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Our backend.
    #[arg(long, default_value = "flex")]
    backend: String,
    /// Number of its device.
    #[arg(long, default_value_t = 0)]
    device: usize,
    /// Compute in bfloat16, on both sides.
    #[arg(long)]
    bf16: bool,
    /// Python with PyTorch [default: ours runs alone].
    #[arg(long)]
    python: Option<PathBuf>,
    /// Folder of the data files.
    #[arg(long)]
    data: PathBuf,
    /// Folder for models and runs.
    #[arg(long)]
    scratch: PathBuf,
    /// The checkout.
    #[arg(long)]
    root: PathBuf,
    /// File of results.
    #[arg(long)]
    out: PathBuf,
    /// Write tables and charts into the documentation.
    #[arg(long)]
    write_docs: bool,
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
    let shape = shape(&cli.shape)?;
    let works = works(&cli.works)?;
    let ours = std::env::current_exe()?.with_file_name(format!("bench-ours{}", std::env::consts::EXE_SUFFIX));
    let settings = Settings {
        root: cli.root.clone(),
        scratch: std::path::absolute(&cli.scratch)?,
        data: cli.data.clone(),
        ours,
        python: cli.python.clone(),
        num_steps: cli.steps.max(1),
        num_warmup: cli.warmup,
        compute: ComputeSettings {
            backend: cli.backend.clone(),
            device: cli.device,
            bf16: cli.bf16,
            threads: cli.threads,
        },
    };
    let mut all = store(&cli.out, &[])?;
    for work in works {
        eprintln!("\n==> {}, {} ({})", work.name, work.title, shape.name);
        let result = measure(work, shape, &settings).with_context(|| work.name.to_owned())?;
        // Written after each work, so that a later failure loses nothing.
        all = store(&cli.out, std::slice::from_ref(&result))?;
        println!("\n{}", docs::tables(&[result]));
    }
    if cli.write_docs {
        docs::write(&cli.root, &all)?;
    }
    eprintln!("every step: {}", cli.out.display());
    Ok(())
}

fn shape(name: &str) -> Result<&'static Shape> {
    let names = || SHAPES.iter().map(|shape| shape.name).collect::<Vec<_>>().join(", ");
    SHAPES.iter().find(|shape| shape.name == name).with_context(|| format!("no shape {name:?}; there are {}", names()))
}

fn works(names: &[String]) -> Result<Vec<&'static Work>> {
    if let Some(unknown) = names.iter().find(|name| WORKS.iter().all(|work| work.name != **name)) {
        let known: Vec<&str> = WORKS.iter().map(|work| work.name).collect();
        bail!("no work {unknown:?}; there are {}", known.join(", "));
    }
    // Works for GPUs take a CPU hours, so they run only when named.
    let asked = |work: &&Work| match names.is_empty() {
        true => !work.name.starts_with("device-"),
        false => names.iter().any(|name| name == work.name),
    };
    Ok(WORKS.iter().filter(asked).collect())
}
