//! Checks what CONTRIBUTING promises about the source, without compiling it: sizes, circles of files, panics, writes in
//! place, `unsafe`, and paths in documents.
//!
//! Run it with `cargo xtask tidy [PATH…]`; with paths, only findings in files below them are shown. Permitted violations
//! are listed with reasons in `tests/tidy/exceptions.toml`.

mod circles;
mod documents;
mod exceptions;
mod findings;
mod imports;
mod packages;
mod report;
mod rules;
mod source;
mod syntax;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<ExitCode> {
    // Read at run time, since a target folder may be copied from another checkout.
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    let manifest = Path::new(&manifest);
    let root = manifest.ancestors().nth(2).context("tidy lies two folders below the workspace")?;
    let paths: Vec<String> = std::env::args().skip(1).map(|path| path.trim_end_matches('/').to_owned()).collect();
    let exceptions = exceptions::read(&manifest.join("exceptions.toml"))?;
    let packages = packages::read(root)?;
    let found = findings::find(root, &packages);
    let outcome = exceptions.judge(found);
    print!("{}", report::tables(&packages, &paths));
    let failures: Vec<_> =
        outcome.failures.iter().filter(|finding| report::is_below(&finding.subject, &paths)).collect();
    failures.iter().for_each(|finding| println!("{finding}"));
    if paths.is_empty() {
        outcome.stale.iter().for_each(|line| println!("{line}"));
    }
    println!("{} findings, {} exceptions", failures.len(), outcome.num_excepted);
    let stale = paths.is_empty() && !outcome.stale.is_empty();
    Ok(if failures.is_empty() && !stale { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
