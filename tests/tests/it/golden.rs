//! What reads PyTorch's golden files beside the repository; `cargo xtask test` knows these tests by the module's name.

mod bfloat16;
mod gguf;
mod merged;
mod parity;
mod runs;
mod schedule;

use std::path::{Path, PathBuf};

/// A file or folder of the golden references.
fn golden(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/parity/golden");
    let folder = folder.canonicalize().unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    folder.join(name)
}

/// The same as text, for arguments.
fn golden_arg(name: &str) -> String {
    golden(name).display().to_string()
}
