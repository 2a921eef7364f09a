//! The packages of the checkout and their source files.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::source::{Tree, read_tree};

/// A package: its folder and the module tree of each of its targets.
pub(crate) struct Package {
    /// Folder, relative to the workspace: `crates/collimate-data`.
    pub(crate) folder: String,
    /// A tree for the library, each program, test, benchmark and example.
    pub(crate) trees: Vec<Tree>,
}

impl Package {
    /// Whether users get it: only then do the rules on library code apply.
    pub(crate) fn is_production(&self) -> bool {
        self.folder.starts_with("crates/")
            && !["oracle", "paper", "features"].iter().any(|name| self.folder.ends_with(name))
    }

    /// Lines of its `src`, with and without code that only tests compile.
    pub(crate) fn num_lines(&self) -> (usize, usize) {
        let files = || self.trees.iter().flat_map(|tree| &tree.files).filter(|file| file.path.contains("/src/"));
        let tests: usize = files().map(|file| file.num_test_lines()).sum();
        let all: usize = files().map(|file| file.num_lines).sum();
        (all, all - tests)
    }
}

/// Folders that are packages or contain them.
const PLACES: [&str; 6] = ["crates", "tests", "benches", "xtask", "fuzz", "examples"];

/// Reads every package of the checkout at `root`.
///
/// # Errors
/// A file cannot be read or is not valid Rust.
pub(crate) fn read(root: &Path) -> Result<Vec<Package>> {
    let mut packages = Vec::new();
    for place in PLACES {
        let folder = root.join(place);
        for candidate in std::iter::once(folder.clone()).chain(entries(&folder)) {
            if candidate.join("Cargo.toml").is_file() {
                packages.push(read_package(root, &candidate)?);
            }
        }
    }
    Ok(packages)
}

fn read_package(root: &Path, folder: &Path) -> Result<Package> {
    let mut trees = Vec::new();
    for target in targets(folder) {
        trees.push(read_tree(root, folder, &target).with_context(|| target.display().to_string())?);
    }
    let folder = folder.strip_prefix(root).unwrap_or(folder).display().to_string();
    Ok(Package { folder, trees })
}

/// The root files of a package's targets, as cargo finds them.
fn targets(folder: &Path) -> Vec<PathBuf> {
    let mut targets: Vec<PathBuf> = ["src/lib.rs", "src/main.rs", "build.rs"]
        .iter()
        .map(|name| folder.join(name))
        .filter(|file| file.is_file())
        .collect();
    for place in ["src/bin", "tests", "benches", "examples", "fuzz_targets"] {
        for entry in entries(&folder.join(place)) {
            if entry.extension().is_some_and(|extension| extension == "rs") {
                targets.push(entry);
            } else if entry.join("main.rs").is_file() {
                targets.push(entry.join("main.rs"));
            }
        }
    }
    targets
}

/// A folder's entries by name; empty if it does not exist.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut entries: Vec<PathBuf> =
        fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    entries.sort();
    entries
}
