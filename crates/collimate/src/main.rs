//! The `collimate` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    collimate::run()
}
