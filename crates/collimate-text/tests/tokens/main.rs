//! Compares chat templates and tokenizers with the reference implementations, in one executable.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod golden_tokens;
mod tokenizer_kinds;
