//! Checks that paths named in documents exist.

use std::fs;
use std::path::{Path, PathBuf};

/// Documents about the past, whose paths may be gone.
const HISTORY: [&str; 2] = ["CHANGELOG.md", "docs/log.md"];
/// Folders of documents, from the root.
const FOLDERS: [&str; 9] =
    ["", "docs", "docs/decisions", "crates", "configs", "tests", "tests/golden", "examples", "fuzz"];
/// Prefixes of paths in the checkout.
const STARTS: [&str; 8] = ["crates/", "tests/", "fuzz/", "xtask/", "docs/", "benches/", "configs/", "examples/"];

/// A path in a document that does not exist.
#[derive(Debug)]
pub(crate) struct DeadPath {
    pub(crate) document: String,
    pub(crate) line: usize,
    pub(crate) path: String,
}

/// Every dead path in the documents of the checkout at `root`.
pub(crate) fn dead_paths(root: &Path) -> Vec<DeadPath> {
    let mut dead = Vec::new();
    for document in documents(root) {
        let text = fs::read_to_string(root.join(&document)).unwrap_or_default();
        for (index, line) in text.lines().enumerate() {
            let paths = named_paths(line).filter(|path| !root.join(path).exists());
            dead.extend(paths.map(|path| DeadPath {
                document: document.clone(),
                line: index + 1,
                path: path.to_owned(),
            }));
        }
    }
    dead
}

fn documents(root: &Path) -> Vec<String> {
    let files = FOLDERS.iter().flat_map(|folder| fs::read_dir(root.join(folder)).into_iter().flatten().flatten());
    let paths: Vec<PathBuf> = files.map(|entry| entry.path()).collect();
    let names = paths.iter().filter_map(|path| path.strip_prefix(root).ok()).map(|path| path.display().to_string());
    let mut names: Vec<String> =
        names.filter(|name| name.ends_with(".md") && !HISTORY.contains(&name.as_str())).collect();
    names.sort();
    names
}

/// The paths in backticks on a line, except patterns for several files.
fn named_paths(line: &str) -> impl Iterator<Item = &str> {
    let quoted = line.split('`').skip(1).step_by(2);
    let words = quoted.filter(|text| !text.contains(' ')).map(|text| text.trim_end_matches('/'));
    words.filter(|text| STARTS.iter().any(|start| text.starts_with(start)) && !is_pattern(text))
}

/// Whether a path has a placeholder: a word of capitals, a wildcard or an ellipsis.
fn is_pattern(path: &str) -> bool {
    let is_placeholder = |word: &str| word.len() > 1 && word.bytes().all(|byte| byte.is_ascii_uppercase());
    path.contains(['*', '<', '{', '…', ':', '#'])
        || path.split(['/', '.', '-', '_']).any(is_placeholder) && !path.ends_with(".md")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_between_backticks_and_begin_with_a_folder_of_the_checkout() {
        let line = "see `crates/a/src/b.rs`, `docs/`, crates/c, `crates/x/src/NAME.rs`, `cargo xtask`, `fuzz/*.rs`, `docs/A.md`";
        assert_eq!(named_paths(line).collect::<Vec<_>>(), ["crates/a/src/b.rs", "docs/A.md"]);
    }
}
