//! Measures works, ours alone or in turns with PyTorch. `cargo xtask bench` builds and starts it.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Parser;
use collimate_benches::compute::{ComputeSettings, Precision};
use collimate_benches::contest::{Rival, Settings, measure};
use collimate_benches::result::store;
use collimate_benches::work::{SHAPES, Shape, WORKS, Work};
use collimate_benches::{control, docs};

/// Measures training steps.
#[derive(Debug, Parser)]
struct Cli {
    /// Works to measure [default: all but those whose names begin with `device-` or `shared-`].
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
    /// How exact products in float32 are, on both sides.
    #[arg(long, value_parser = precision, default_value = "highest", conflicts_with = "bf16")]
    precision: Precision,
    /// The published recipe in PyTorch takes part.
    #[arg(long, requires = "python")]
    peer: bool,
    /// PyTorch with packed prompts and a cached reference takes part.
    #[arg(long, requires = "python")]
    control: bool,
    /// Python with PyTorch.
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
        rivals: rivals(cli),
        num_steps: cli.steps.max(1),
        num_warmup: cli.warmup,
        compute: ComputeSettings {
            backend: cli.backend.clone(),
            device: cli.device,
            bf16: cli.bf16,
            precision: cli.precision,
            threads: cli.threads,
        },
    };
    let mut all = store(&cli.out, &[])?;
    for work in works {
        eprintln!("\n==> {}, {} ({})", work.name, work.title, shape.name);
        let result = measure(work, shape, &settings).with_context(|| work.name.to_owned())?;
        // Written after each work, so that a later failure loses nothing.
        all = store(&cli.out, std::slice::from_ref(&result))?;
        println!("\n{}", docs::tables(std::slice::from_ref(&result)));
        println!("{}", control::tables(&[&result]));
    }
    if cli.write_docs {
        docs::write(&cli.root, &all)?;
    }
    eprintln!("every step: {}", cli.out.display());
    Ok(())
}

/// PyTorch's entrants.
fn rivals(cli: &Cli) -> Vec<Rival> {
    let kinds = [(cli.peer, Rival::recipe as fn(PathBuf) -> Rival), (cli.control, Rival::control)];
    let asked = kinds.iter().filter(|(asked, _)| *asked);
    cli.python.iter().flat_map(|python| asked.clone().map(|(_, rival)| rival(python.clone()))).collect()
}

fn precision(name: &str) -> Result<Precision> {
    let names = || Precision::ALL.map(Precision::name).join(", ");
    Precision::from_name(name).with_context(|| format!("no precision {name:?}; there are {}", names()))
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
    let asked = |work: &&Work| match names.is_empty() {
        true => work.is_usual(),
        false => names.iter().any(|name| name == work.name),
    };
    Ok(WORKS.iter().filter(asked).collect())
}
