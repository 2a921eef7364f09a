//! What two runs left, but for their times.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// Files that hold what training came to.
const TRAINED: [&str; 3] = ["model.safetensors", "adapter_model.safetensors", "metrics.jsonl"];

/// Fails where the runs in two folders differ in any file that is left, or in their caches' records.
#[track_caller]
pub(super) fn assert_same(expected: &Path, found: &Path) {
    let (expected, found) = (contents(expected), contents(found));
    let names = |files: &BTreeMap<String, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&expected), names(&found), "other files are left");
    compare(&expected, &found);
}

/// Fails where two runs came to other weights or figures.
#[track_caller]
pub(super) fn assert_same_training(expected: &Path, found: &Path) {
    let trained = |run: &Path| {
        let mut files = contents(run);
        files.retain(|name, _| TRAINED.contains(&name.as_str()));
        assert_eq!(files.len(), 2, "weights and metrics of {}: {:?}", run.display(), files.keys());
        files
    };
    compare(&trained(expected), &trained(found));
}

#[track_caller]
fn compare(expected: &BTreeMap<String, Vec<u8>>, found: &BTreeMap<String, Vec<u8>>) {
    for (name, expected) in expected {
        let found = &found[name];
        let text = |bytes: &[u8]| std::str::from_utf8(bytes).map(str::to_owned);
        match (text(expected), text(found)) {
            (Ok(expected), Ok(found)) => assert_eq!(expected, found, "{name}"),
            _ => {
                let at = expected.iter().zip(found).position(|(a, b)| a != b);
                assert!(expected == found, "{name} differs from byte {at:?} on");
            }
        }
    }
}

/// All files of a folder by their paths, and the folders with nothing in them; without logs and times.
fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut contents = BTreeMap::new();
    let mut left = vec![PathBuf::new()];
    while let Some(inner) = left.pop() {
        let entries: Vec<_> = fs::read_dir(folder.join(&inner)).expect("a folder").flatten().collect();
        if entries.is_empty() {
            contents.insert(format!("{}/", inner.display()), Vec::new());
        }
        for entry in entries {
            let name = inner.join(entry.file_name());
            if entry.path().is_dir() {
                left.push(name);
            } else if !name.ends_with("log.txt") {
                let bytes = fs::read(entry.path()).expect("a file");
                let bytes = without_times(&name, bytes);
                contents.insert(name.display().to_string(), bytes);
            }
        }
    }
    contents
}

fn without_times(path: &Path, bytes: Vec<u8>) -> Vec<u8> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let text = || String::from_utf8(bytes.clone()).expect("text");
    if name == "metrics.jsonl" {
        let row = |line: &str| {
            let mut row: Value = serde_json::from_str(line).expect("a row");
            row.as_object_mut().expect("a row").shift_remove("step_seconds");
            row.to_string() + "\n"
        };
        text().lines().map(row).collect::<String>().into_bytes()
    } else if name == "report.html" {
        // The one time on the page: `, 0.5 s in steps`.
        let page = text();
        let (before, after) = page.split_once(" s in steps").expect("the time of all steps");
        (before.rsplit_once(", ").expect("a number").0.to_owned() + after).into_bytes()
    } else if name.ends_with(".logps") {
        let mut records = bytes.as_chunks::<32>().0.to_vec();
        records.sort_unstable();
        [records.as_flattened(), bytes.as_chunks::<32>().1].concat()
    } else {
        bytes
    }
}
