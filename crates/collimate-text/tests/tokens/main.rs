//! Compares tokenizers and tokenized conversations with the reference implementations, in one executable.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod added_tokens;
mod continuations;
mod golden_tokens;
mod tokenizer_kinds;
