//! Compares the bytes that two runs left.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// Bytes of a record of the reference cache.
const RECORD_BYTES: usize = 32;
/// Figures of a row that differ between runs with the same result.
const CLOCKED: [&str; 3] = ["step_seconds", "memory_bytes", "seconds"];
/// The files with the result of training; a run has one kind of weights.
const TRAINED: [&str; 3] = ["model.safetensors", "adapter_model.safetensors", "metrics.jsonl"];

/// How the folder `found` differs from `expected`, file by file: the run in `run`, the records in `cache`, and whatever
/// else lies beside them but logs. Wall-clock times are ignored.
///
/// # Errors
/// A file cannot be read.
pub fn differences(expected: &Path, found: &Path) -> Result<Vec<String>> {
    let mut differences = unlike_files(&contents(&expected.join("run"))?, &contents(&found.join("run"))?);
    differences.extend(unlike_caches(&expected.join("cache"), &found.join("cache"))?);
    let names = beside(expected)?;
    differences.extend(beside(found)?.difference(&names).map(|name| format!("{name} was left behind")));
    Ok(differences)
}

/// How two folders differ, file by file. Wall-clock times and logs are ignored.
///
/// # Errors
/// A file cannot be read.
pub fn unlike_folders(expected: &Path, found: &Path) -> Result<Vec<String>> {
    let written = |folder: &Path| -> Result<Contents> {
        let mut files = contents(folder)?;
        files.retain(|name, _| !name.starts_with("log-"));
        Ok(files)
    };
    Ok(unlike_files(&written(expected)?, &written(found)?))
}

/// Names of the entries of a folder, without those of logs.
fn beside(folder: &Path) -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let name = entry.with_context(|| format!("cannot read {}", folder.display()))?.file_name();
        names.insert(name.display().to_string());
    }
    names.retain(|name| !name.starts_with("log"));
    Ok(names)
}

/// How two runs' weights and metrics differ, whatever else their folders hold. Wall-clock times are ignored.
///
/// # Errors
/// A file cannot be read, or a run has no weights or metrics.
pub fn training_differences(expected: &Path, found: &Path) -> Result<Vec<String>> {
    let trained = |run: &Path| -> Result<Contents> {
        let mut files = contents(run)?;
        files.retain(|name, _| TRAINED.contains(&name.as_str()));
        if files.len() != 2 {
            bail!("{}: expected weights and metrics, found {:?}", run.display(), files.keys());
        }
        Ok(files)
    };
    Ok(unlike_files(&trained(expected)?, &trained(found)?))
}

/// Files by their path in the folder, without times; empty folders end with `/`.
type Contents = BTreeMap<String, Vec<u8>>;

fn contents(folder: &Path) -> Result<Contents> {
    let mut contents = Contents::new();
    let mut left = vec![PathBuf::new()];
    while let Some(inner) = left.pop() {
        let here = folder.join(&inner);
        let mut is_empty = true;
        for entry in fs::read_dir(&here).with_context(|| format!("cannot read {}", here.display()))? {
            let entry = entry.with_context(|| format!("cannot read {}", here.display()))?;
            is_empty = false;
            let (path, name) = (entry.path(), inner.join(entry.file_name()));
            if path.is_dir() {
                left.push(name);
                continue;
            }
            let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
            let name = name.display().to_string();
            contents.insert(name.clone(), without_times(&name, bytes));
        }
        if is_empty && here != folder {
            contents.insert(format!("{}/", inner.display()), Vec::new());
        }
    }
    Ok(contents)
}

fn unlike_files(expected: &Contents, found: &Contents) -> Vec<String> {
    // A folder that only one side has is named, not listed.
    let root = |path: &str| path.split_inclusive(['/', '\\']).next().unwrap_or_default().to_owned();
    let only_in = |these: &Contents, those: &Contents| -> BTreeSet<String> {
        let roots: BTreeSet<String> = those.keys().map(|path| root(path)).collect();
        let only = these.keys().filter(|path| !those.contains_key(*path));
        only.map(|path| if roots.contains(&root(path)) { path.clone() } else { root(path) }).collect()
    };
    let missing = only_in(expected, found).into_iter().map(|path| format!("{path}: missing"));
    let left = only_in(found, expected).into_iter().map(|path| format!("{path}: left behind"));
    let both = expected.iter().filter_map(|(path, bytes)| Some((path, bytes, found.get(path)?)));
    let unlike = both.filter(|(_, ours, theirs)| ours != theirs);
    let unlike = unlike.map(|(path, ours, theirs)| format!("{path}: {}", first_difference(ours, theirs)));
    missing.chain(left).chain(unlike).collect()
}

/// Where two files begin to differ: the line of a text, the byte of anything else.
fn first_difference(ours: &[u8], theirs: &[u8]) -> String {
    let at = ours.iter().zip(theirs).position(|(a, b)| a != b).unwrap_or_else(|| ours.len().min(theirs.len()));
    let (Ok(ours_text), Ok(theirs_text)) = (std::str::from_utf8(ours), std::str::from_utf8(theirs)) else {
        return format!("differs from byte {at} on ({} and {} bytes)", ours.len(), theirs.len());
    };
    let line = ours[..at].iter().filter(|byte| **byte == b'\n').count();
    let nth = |text: &str| text.lines().nth(line).unwrap_or("(nothing)").chars().take(400).collect::<String>();
    format!("line {} differs\n      expected {}\n      found    {}", line + 1, nth(ours_text), nth(theirs_text))
}

/// A file's content without wall-clock times and measured memory.
fn without_times(name: &str, bytes: Vec<u8>) -> Vec<u8> {
    let cut: fn(&str) -> String = match name.rsplit(['/', '\\']).next() {
        Some("metrics.jsonl" | "loop.jsonl") => {
            |text: &str| text.lines().map(|line| without_clock(line) + "\n").collect()
        }
        Some("report.html") => without_marked,
        Some("run.json") => |text: &str| text.lines().filter(|line| !is_clock(line)).collect::<Vec<_>>().join("\n"),
        _ => return bytes,
    };
    match String::from_utf8(bytes) {
        Ok(text) => cut(&text).into_bytes(),
        Err(error) => error.into_bytes(),
    }
}

/// Removed textually: parsing and rewriting the row would hide differences of form.
fn without_clock(row: &str) -> String {
    CLOCKED.iter().fold(row.to_owned(), |row, name| {
        let Some(start) = row.find(&format!(",\"{name}\":")) else { return row };
        let end = row[start + 1..].find([',', '}']).map_or(row.len(), |end| start + 1 + end);
        format!("{}{}", &row[..start], &row[end..])
    })
}

/// A page without what it marks as times and memory.
fn without_marked(page: &str) -> String {
    let mut pieces = page.split("<!--clock-->");
    let first = pieces.next().unwrap_or_default().to_owned();
    pieces.fold(first, |all, piece| all + piece.split_once("<!--/clock-->").map_or(piece, |(_, rest)| rest))
}

/// Whether a line of `run.json` has a date or a time.
fn is_clock(line: &str) -> bool {
    ["\"started\":", "\"seconds\":"].iter().any(|key| line.trim_start().starts_with(key))
}

/// Caches may hold their records in any order.
fn unlike_caches(expected: &Path, found: &Path) -> Result<Vec<String>> {
    if !expected.is_dir() {
        return Ok(Vec::new());
    }
    let sorted = |folder: &Path| -> Result<Contents> {
        let files =
            contents(folder)?.into_iter().map(|(name, bytes)| (format!("cache/{name}"), sorted_records(&bytes)));
        Ok(files.collect())
    };
    Ok(unlike_files(&sorted(expected)?, &sorted(found)?))
}

fn sorted_records(bytes: &[u8]) -> Vec<u8> {
    let (records, rest) = bytes.as_chunks::<RECORD_BYTES>();
    let mut records = records.to_vec();
    records.sort_unstable();
    [records.as_flattened(), rest].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contents_of(files: &[(&str, &str)]) -> Contents {
        files.iter().map(|(name, text)| ((*name).to_owned(), text.as_bytes().to_vec())).collect()
    }

    #[test]
    fn files_are_missing_or_left_behind_or_differ() {
        let expected = contents_of(&[("a", "1\n2\n"), ("b/1", ""), ("b/2", ""), ("w", "x")]);
        let found = contents_of(&[("a", "1\n3\n"), (".c/d", ""), (".c/e", ""), ("w", "x")]);
        let differences = unlike_files(&expected, &found);
        assert_eq!(differences.len(), 3, "{differences:?}");
        assert_eq!(differences[..2], ["b/: missing", ".c/: left behind"]);
        assert!(differences[2].starts_with("a: line 2 differs") && differences[2].ends_with('3'), "{differences:?}");
        assert_eq!(unlike_files(&expected, &expected), Vec::<String>::new());
    }

    #[test]
    fn binary_files_differ_from_a_byte_on() {
        assert_eq!(first_difference(&[1, 255, 3], &[1, 255, 4]), "differs from byte 2 on (3 and 3 bytes)");
        assert_eq!(first_difference(&[255], &[255, 4]), "differs from byte 1 on (1 and 2 bytes)");
    }

    #[test]
    fn only_times_are_taken_out() {
        let row =
            "{\"step\":1,\"loss\":0.5,\"step_seconds\":0.01,\"memory_bytes\":7}\n{\"step\":1,\"eval_loss\":0.5}\n";
        let expected = "{\"step\":1,\"loss\":0.5}\n{\"step\":1,\"eval_loss\":0.5}\n";
        assert_eq!(without_times("metrics.jsonl", row.into()), expected.as_bytes());
        assert_eq!(without_clock("{\"a\":1,\"step_seconds\":2e-3,\"b\":3}"), "{\"a\":1,\"b\":3}");
        let page = "<p>9 steps<!--clock-->, 1.5 s<!--/clock-->, 70 tokens</p><!--clock--><svg/><!--/clock--><p>";
        let expected = "<p>9 steps, 70 tokens</p><p>";
        assert_eq!(without_times("report.html", page.into()), expected.as_bytes());
        let info = "{\n  \"started\": \"2026\",\n  \"seconds\": 1.5,\n  \"model\": \"m\"\n}\n";
        assert_eq!(without_times("run.json", info.into()), b"{\n  \"model\": \"m\"\n}");
        assert_eq!(without_times("recipe.yaml", row.into()), row.as_bytes());
    }

    #[test]
    fn records_may_be_in_any_order() {
        let records = |order: &[u8]| order.iter().flat_map(|&byte| [byte; RECORD_BYTES]).collect::<Vec<u8>>();
        assert_eq!(sorted_records(&records(&[2, 1, 3])), records(&[1, 2, 3]));
        assert_ne!(sorted_records(&[records(&[2, 1]), vec![9]].concat()), records(&[1, 2]));
    }

    #[test]
    fn all_of_a_folder_is_compared() {
        let around = tempfile::tempdir().expect("a folder");
        let folder = around.path();
        for name in ["expected/run/checkpoint-3", "found/run/checkpoint-3", "found/run/.checkpoint-x"] {
            fs::create_dir_all(folder.join(name)).expect("a folder");
        }
        for name in ["expected/run/checkpoint-3/state", "found/run/checkpoint-3/state", "found/run/lock"] {
            fs::write(folder.join(name), "text").expect("a file");
        }
        let found = differences(&folder.join("expected"), &folder.join("found"));
        assert_eq!(found.expect("readable"), [".checkpoint-x/: left behind", "lock: left behind"]);
    }

    #[test]
    fn training_is_compared_by_weights_and_metrics_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |run: &str, weights: &str, report: &str| {
            let run = folder.path().join(run);
            fs::create_dir_all(&run).expect("a folder");
            fs::write(run.join("model.safetensors"), weights).expect("a file");
            fs::write(run.join("metrics.jsonl"), "{\"step\":1}\n").expect("a file");
            fs::write(run.join("report.html"), report).expect("a file");
            run
        };
        let (one, same, other) = (write("a", "1", "x"), write("b", "1", "y"), write("c", "2", "x"));
        assert_eq!(training_differences(&one, &same).expect("readable"), Vec::<String>::new());
        let differences = training_differences(&one, &other).expect("readable");
        assert!(matches!(differences.as_slice(), [one] if one.starts_with("model.safetensors: ")), "{differences:?}");
        fs::remove_file(one.join("metrics.jsonl")).expect("a file");
        assert!(training_differences(&one, &same).is_err(), "a run without metrics");
    }
}
