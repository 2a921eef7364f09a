//! The figures that `cargo xtask tidy` shows before its findings.

use std::fmt::Write;

use crate::findings::longest_functions;
use crate::packages::Package;

/// Number of functions to show.
const NUM_LONGEST: usize = 10;

/// Lines of the crates and the longest functions.
pub(crate) fn tables(packages: &[Package], paths: &[String]) -> String {
    let mut text = String::from("lines of src, and without tests:\n");
    for package in packages.iter().filter(|package| is_below(&package.folder, paths)) {
        let (all, own) = package.num_lines();
        if all > 0 {
            let _ = writeln!(text, "  {all:6} {own:6}  {}", package.folder);
        }
    }
    if paths.is_empty() {
        let _ = writeln!(text, "longest functions:");
        for (num_lines, name) in longest_functions(packages, NUM_LONGEST) {
            let _ = writeln!(text, "  {num_lines:6}  {name}");
        }
    }
    text
}

/// Whether a subject is one of these folders or files, or is inside one; always true without any.
pub(crate) fn is_below(subject: &str, paths: &[String]) -> bool {
    let below = |path: &String| {
        subject.split(" ↔ ").any(|part| {
            part.strip_prefix(path.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', ':']))
        })
    };
    paths.is_empty() || paths.iter().any(below)
}
