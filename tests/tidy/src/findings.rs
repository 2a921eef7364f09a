//! Every rule, applied to every package.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use crate::circles::circles;
use crate::documents::{DeadPath, dead_paths};
use crate::imports::edges;
use crate::packages::Package;
use crate::rules::Contents;
use crate::source::{SourceFile, Tree};

/// Maximum lines of a file.
pub(crate) const MOST_FILE_LINES: usize = 300;
/// Maximum lines of a function.
pub(crate) const MOST_FUNCTION_LINES: usize = 60;
/// Maximum lines of a crate's `src`.
pub(crate) const MOST_CRATE_LINES: usize = 7000;

/// A rule, which has a table in `exceptions.toml`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rule {
    CrateLines,
    FileLines,
    FunctionLines,
    Circles,
    TupleParameters,
    Panics,
    InPlaceWrites,
    Unsafe,
    DocumentPaths,
}

impl Rule {
    pub(crate) const ALL: [Self; 9] = [
        Self::CrateLines,
        Self::FileLines,
        Self::FunctionLines,
        Self::Circles,
        Self::TupleParameters,
        Self::Panics,
        Self::InPlaceWrites,
        Self::Unsafe,
        Self::DocumentPaths,
    ];

    /// Its table in `exceptions.toml`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::CrateLines => "crate-lines",
            Self::FileLines => "file-lines",
            Self::FunctionLines => "function-lines",
            Self::Circles => "circles",
            Self::TupleParameters => "tuple-parameters",
            Self::Panics => "panics",
            Self::InPlaceWrites => "in-place-writes",
            Self::Unsafe => "unsafe",
            Self::DocumentPaths => "document-paths",
        }
    }
}

/// A violation of a rule.
#[derive(Debug, Clone)]
pub(crate) struct Finding {
    pub(crate) rule: Rule,
    /// What an exception names: a folder, a file, or `file::function`.
    pub(crate) subject: String,
    /// Description of the violation.
    pub(crate) message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.rule.name(), self.subject, self.message)
    }
}

/// All violations in the checkout, including excepted ones.
pub(crate) fn find(root: &Path, packages: &[Package]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for package in packages {
        let (num_lines, _) = package.num_lines();
        if num_lines > MOST_CRATE_LINES {
            let message = format!("{num_lines} lines; at most {MOST_CRATE_LINES}");
            findings.push(Finding { rule: Rule::CrateLines, subject: package.folder.clone(), message });
        }
        for tree in &package.trees {
            findings.extend(circles_of(tree));
            tree.files.iter().for_each(|file| findings.extend(in_file(file, package.is_production())));
        }
    }
    findings.extend(dead_paths(root).into_iter().map(|DeadPath { document, line, path }| {
        let message = format!("line {line}: {path} does not exist");
        Finding { rule: Rule::DocumentPaths, subject: document, message }
    }));
    findings.sort_by(|a, b| (a.rule, &a.subject).cmp(&(b.rule, &b.subject)));
    findings
}

fn circles_of(tree: &Tree) -> Vec<Finding> {
    let edges = edges(tree);
    let to_finding = |circle: Vec<usize>| {
        let path = |file: usize| tree.files[file].path.as_str();
        let subject = circle.iter().map(|file| path(*file)).collect::<Vec<_>>().join(" ↔ ");
        let inside = edges.iter().filter(|((from, to), _)| circle.contains(from) && circle.contains(to));
        let lines = inside.map(|((from, to), names)| {
            let names = names.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
            format!("\n    {} uses {} ({names})", path(*from), path(*to))
        });
        Finding { rule: Rule::Circles, subject, message: lines.collect() }
    };
    circles(tree.files.len(), &edges).into_iter().map(to_finding).collect()
}

fn in_file(file: &SourceFile, is_production: bool) -> Vec<Finding> {
    let contents = Contents::read(file);
    let finding = |rule, subject: &str, message: String| Finding { rule, subject: subject.to_owned(), message };
    let mut findings = Vec::new();
    if file.num_lines > MOST_FILE_LINES {
        findings.push(finding(
            Rule::FileLines,
            &file.path,
            format!("{} lines; at most {MOST_FILE_LINES}", file.num_lines),
        ));
    }
    for function in &contents.functions {
        let subject = format!("{}::{}", file.path, function.name);
        if function.num_lines > MOST_FUNCTION_LINES {
            let message =
                format!("{} lines from line {}; at most {MOST_FUNCTION_LINES}", function.num_lines, function.line);
            findings.push(finding(Rule::FunctionLines, &subject, message));
        }
        if function.num_tuples > 0 {
            findings.push(finding(
                Rule::TupleParameters,
                &subject,
                format!("line {}: a tuple as a parameter; make it a struct", function.line),
            ));
        }
    }
    let by_line = [
        (Rule::Panics, &contents.panics, is_production && !is_program(&file.path)),
        (Rule::InPlaceWrites, &contents.writes, is_production),
        (Rule::Unsafe, &contents.unsafes, true),
    ];
    for (rule, lines, applies) in by_line {
        if applies && !lines.is_empty() {
            findings.push(finding(rule, &file.path, in_lines(lines)));
        }
    }
    findings
}

fn is_program(path: &str) -> bool {
    path.ends_with("/src/main.rs") || path.contains("/src/bin/") || path.contains("/examples/")
}

fn in_lines(lines: &[usize]) -> String {
    let lines = lines.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
    format!("line {lines}")
}

/// The longest functions of the checkout, longest first: lines, and `file::function`.
pub(crate) fn longest_functions(packages: &[Package], count: usize) -> Vec<(usize, String)> {
    let files = packages.iter().flat_map(|package| &package.trees).flat_map(|tree| &tree.files);
    let mut functions = BTreeMap::new();
    for file in files {
        for function in Contents::read(file).functions {
            functions.insert(
                (usize::MAX - function.num_lines, format!("{}::{}", file.path, function.name)),
                function.num_lines,
            );
        }
    }
    functions.into_iter().take(count).map(|((_, name), num_lines)| (num_lines, name)).collect()
}
