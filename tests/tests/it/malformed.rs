//! Broken rows, recipes and model folders: each is refused with exit code 2 and a message that says where.

mod models;
mod recipes;
mod rows;

use crate::harness::{Folder, Outcome};

/// One case as a snapshot shows it.
fn shown(name: &str, folder: &Folder, outcome: &Outcome) -> String {
    assert_eq!(outcome.code, 2, "{name}: {} {}", outcome.out, outcome.err);
    assert!(!outcome.err.trim().is_empty(), "{name} says nothing");
    format!("## {name}\n{}\n\n", folder.anonymous(&outcome.err).trim_end())
}
