//! Options of `cargo xtask test`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct TestOptions {
    /// Backend to build and test with.
    #[arg(long, value_name = "NAME", default_value = "flex")]
    pub(crate) backend: String,
    /// Let burn join operations of cuda or wgpu.
    #[arg(long)]
    pub(crate) fusion: bool,
    /// Leave formatting and clippy to `cargo xtask check`.
    #[arg(long)]
    pub(crate) no_lints: bool,
    /// Python for the round trips with transformers and PEFT [default: that of `cargo xtask python-check` where it was
    /// made].
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) python: Option<PathBuf>,
    /// Arguments of `cargo test`, after `--`; runs these tests only.
    #[arg(last = true)]
    pub(crate) args: Vec<OsString>,
}
