//! Comparisons with what PyTorch computed; `cargo xtask test --backend` selects these tests by the module's name.

mod bfloat16;
mod families;
mod gguf;
mod merged;
mod parity;
mod pictures;
mod precision;
mod quantized;
mod runs;
mod schedule;
mod training;
mod trl;
mod visual;
mod visual_answers;

use std::path::PathBuf;

use collimate_oracle::golden_dir;

/// A file or folder of the golden values.
fn golden(name: &str) -> PathBuf {
    golden_dir().join(name)
}

/// Its path as an argument.
fn golden_arg(name: &str) -> String {
    golden(name).display().to_string()
}
