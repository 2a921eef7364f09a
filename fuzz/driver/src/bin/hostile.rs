//! Long runs of hostile input; `cargo xtask fuzz` builds and starts it.
//!
//! Each target runs in its own process, on a thread with Rust's default stack. An overflow or an abort is then a finding like
//! any other: the input being read is in a file.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Parser;
use collimate_hostile::{Answer, Corpus, Counting, InputFolders, Mutator, STACK_BYTES, Target, try_input};
use serde::{Deserialize, Serialize};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

static CAUGHT: AtomicU64 = AtomicU64::new(0);

/// Seconds after which a parser hangs: the run stops and keeps the input.
const HUNG_SECONDS: u64 = 30;
/// Findings kept per target.
const MOST_FINDINGS: usize = 20;
/// Shorter inputs say nothing about memory per byte.
const MIN_BYTES_FOR_RATIO: usize = 1024;

/// Hostile input for the parsers of downloaded files.
#[derive(Debug, Parser)]
#[command(name = "hostile")]
struct Options {
    /// Parser to try; may be repeated [default: all].
    #[arg(long, value_name = "NAME")]
    target: Vec<Target>,
    /// Inputs per parser.
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    inputs: u64,
    /// Seconds after which a parser's run stops.
    #[arg(long, value_name = "S")]
    seconds: Option<u64>,
    /// Seed of the mutations.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Folder with the corpus and the dictionaries.
    #[arg(long, value_name = "DIR", default_value = "fuzz")]
    fuzz: PathBuf,
    /// Folder for findings and results.
    #[arg(long, value_name = "DIR", default_value = "target/hostile")]
    out: PathBuf,
    /// Feed one file to the parser of `--target`, and print its answer.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Run in this process.
    #[arg(long, hide = true)]
    child: bool,
}

/// Results of one target.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Report {
    target: String,
    inputs: u64,
    parsed: u64,
    refused: u64,
    findings: Vec<String>,
    /// Panics in dependencies that became errors.
    caught_panics: u64,
    slowest_milliseconds: f64,
    largest_peak_bytes: usize,
    /// Largest memory per byte of input beyond the base, for inputs of at least 1 KiB.
    largest_multiple: f64,
    seconds: f64,
}

fn main() -> ExitCode {
    let options = Options::parse();
    match run(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(options: &Options) -> Result<bool> {
    let targets = if options.target.is_empty() { Target::ALL.to_vec() } else { options.target.clone() };
    fs::create_dir_all(&options.out).with_context(|| options.out.display().to_string())?;
    if let Some(file) = &options.file {
        let [target] = targets[..] else { bail!("--file wants one --target") };
        return on_small_stack(|| one_file(target, file));
    }
    if options.child {
        let [target] = targets[..] else { bail!("--child wants one --target") };
        let report = on_small_stack(|| try_target(target, options))?;
        println!("{}", serde_json::to_string(&report)?);
        return Ok(report.findings.is_empty());
    }
    let reports = targets.iter().map(|target| in_child(*target, options)).collect::<Result<Vec<_>>>()?;
    print_table(&reports);
    let path = options.out.join("results.json");
    fs::write(&path, serde_json::to_string_pretty(&reports)?).with_context(|| path.display().to_string())?;
    println!("\n{}", path.display());
    Ok(reports.iter().all(|report| report.findings.is_empty()))
}

/// Runs on a thread with the stack that parsers must make do with.
fn on_small_stack<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, work)?;
        thread.join().unwrap_or_else(|_| bail!("the driver itself panicked"))
    })
}

fn one_file(target: Target, file: &Path) -> Result<bool> {
    let input = fs::read(file).with_context(|| file.display().to_string())?;
    let trial = try_input(target, &InputFolders::new()?, &input);
    println!("{:?}\n{:.3} s, {} bytes of memory", trial.answer, trial.time.as_secs_f64(), trial.peak_bytes);
    match trial.fault(target, &input) {
        Some(fault) => println!("FAULT: {fault}"),
        None => return Ok(true),
    }
    Ok(false)
}

/// Runs a target in its own process, whose death is a finding.
fn in_child(target: Target, options: &Options) -> Result<Report> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--child", "--target", target.name()]);
    command.args(["--inputs", &options.inputs.to_string(), "--seed", &options.seed.to_string()]);
    command.arg("--fuzz").arg(&options.fuzz).arg("--out").arg(&options.out);
    if let Some(seconds) = options.seconds {
        command.args(["--seconds", &seconds.to_string()]);
    }
    let current = current_input(target, &options.out);
    let output = command.stderr(fs::File::create(options.out.join(format!("{target}.log")))?).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    if let Some(report) = text.lines().last().and_then(|line| serde_json::from_str(line).ok()) {
        return Ok(report);
    }
    let kept = options.out.join(format!("{target}-died"));
    let copied = fs::copy(&current, &kept).map(|_| kept.display().to_string());
    let finding = format!("the process died ({}): {}", output.status, copied.unwrap_or_else(|e| e.to_string()));
    Ok(Report { target: target.name().to_owned(), findings: vec![finding], ..Report::default() })
}

/// The file with the input being read, in memory if the system has a file system there.
fn current_input(target: Target, out: &Path) -> PathBuf {
    let memory = Path::new("/dev/shm");
    let name = format!("collimate-{target}-{}", out.display().to_string().replace('/', "-"));
    if memory.is_dir() { memory.join(name) } else { out.join(name) }
}

fn try_target(target: Target, options: &Options) -> Result<Report> {
    let corpus = Corpus::read(&options.fuzz, target).with_context(|| format!("the corpus of {target}"))?;
    let folders = InputFolders::new()?;
    let mut mutator = Mutator::new(&corpus, options.seed);
    let mut current = fs::File::create(current_input(target, &options.out))?;
    let begun = Instant::now();
    let watch = watch_for_hangs();
    let mut report = Report { target: target.name().to_owned(), ..Report::default() };
    std::panic::set_hook(Box::new(|panic| {
        if collimate_data::catches_panics() {
            CAUGHT.fetch_add(1, Ordering::Relaxed);
        }
        let mut err = std::io::stderr();
        // Nothing to be done if the log is gone.
        let _ = writeln!(err, "{panic}");
    }));
    for number in 0..options.inputs {
        if options.seconds.is_some_and(|seconds| begun.elapsed() > Duration::from_secs(seconds)) {
            break;
        }
        let input = match corpus.inputs.get(number as usize) {
            Some((_, input)) => input.clone(),
            None => mutator.next_input(),
        };
        keep_current(&mut current, &input)?;
        watch.store(begun.elapsed().as_secs() + 1, Ordering::Relaxed);
        let trial = try_input(target, &folders, &input);
        watch.store(0, Ordering::Relaxed);
        count(&mut report, target, &input, &trial);
        if let Some(fault) = trial.fault(target, &input).filter(|_| report.findings.len() < MOST_FINDINGS) {
            let path = options.out.join(format!("{target}-{}-{number}", options.seed));
            fs::write(&path, &input)?;
            report.findings.push(format!("{fault}: {}", path.display()));
        }
    }
    report.caught_panics = CAUGHT.load(Ordering::Relaxed);
    report.seconds = begun.elapsed().as_secs_f64();
    Ok(report)
}

fn keep_current(file: &mut fs::File, input: &[u8]) -> Result<()> {
    use std::io::Seek as _;
    file.rewind()?;
    file.write_all(input)?;
    file.set_len(input.len() as u64)?;
    Ok(())
}

fn count(report: &mut Report, target: Target, input: &[u8], trial: &collimate_hostile::Trial) {
    report.inputs += 1;
    match &trial.answer {
        Some(Answer::Parsed) => report.parsed += 1,
        Some(Answer::Refused(_)) => report.refused += 1,
        None => {}
    }
    report.slowest_milliseconds = report.slowest_milliseconds.max(trial.time.as_secs_f64() * 1e3);
    report.largest_peak_bytes = report.largest_peak_bytes.max(trial.peak_bytes);
    if input.len() >= MIN_BYTES_FOR_RATIO {
        let beyond = trial.peak_bytes.saturating_sub(target.limit().base_bytes);
        report.largest_multiple = report.largest_multiple.max(beyond as f64 / input.len() as f64);
    }
}

/// Aborts the process if an input takes too long. The result holds the second at which an input began, or 0.
fn watch_for_hangs() -> Arc<AtomicU64> {
    let since = Arc::new(AtomicU64::new(0));
    let (watched, begun) = (Arc::clone(&since), Instant::now());
    std::thread::spawn(move || {
        loop {
            std::thread::sleep(Duration::from_secs(1));
            let second = watched.load(Ordering::Relaxed);
            if second > 0 && begun.elapsed().as_secs() > second + HUNG_SECONDS {
                eprintln!("an input takes more than {HUNG_SECONDS} s");
                std::process::abort();
            }
        }
    });
    since
}

fn print_table(reports: &[Report]) {
    println!(
        "| parser | inputs | parsed | refused | findings | slowest, ms | largest peak, MiB | multiple of input | s |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for report in reports {
        println!(
            "| {} | {} | {} | {} | {} | {:.1} | {:.2} | {:.1} | {:.0} |",
            report.target,
            report.inputs,
            report.parsed,
            report.refused,
            report.findings.len(),
            report.slowest_milliseconds,
            report.largest_peak_bytes as f64 / f64::from(1 << 20),
            report.largest_multiple,
            report.seconds,
        );
    }
    for finding in reports.iter().flat_map(|report| &report.findings) {
        println!("FINDING {finding}");
    }
}
