//! `collimate-paper`, which `cargo xtask paper` builds and runs.

use std::process::ExitCode;

use clap::Parser;
use collimate_paper::options::Options;

fn main() -> ExitCode {
    match collimate_paper::run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
