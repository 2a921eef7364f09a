//! Memory does not grow with the data. Alone in its program, whose peak it measures.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::io::Write;
use std::path::Path;

use collimate_store::{GroupNumbers, StoreFolder};
use tempfile::TempDir;

use common::{Asked, TEMPLATE, tokenizer};

/// The most memory that this process has had so far, in bytes.
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// Rows of about a kilobyte; returns the file's length.
fn long_rows(path: &Path, count: usize) -> u64 {
    let mut file = std::io::BufWriter::new(fs::File::create(path).unwrap());
    let text = "The quick brown fox jumps over the lazy dog. ".repeat(8);
    for i in 0..count {
        let (good, bad) = (r#"{"content": ""#, r#"", "reward": "#);
        writeln!(file, r#"{{"prompt": "{i} {text}", "responses": [{good}{text}{i}{bad}1}}, {good}{text}{bad}0}}]}}"#)
            .unwrap();
    }
    file.flush().unwrap();
    fs::metadata(path).unwrap().len()
}

#[test]
fn the_peak_is_that_of_little_data() {
    let folder = TempDir::new().unwrap();
    let model = tokenizer(&folder.path().join("model"), TEMPLATE);
    let place = StoreFolder::new(Some(folder.path().join("tokens")));
    let run = |name: &str, count: usize| {
        let path = folder.path().join(name);
        let bytes = long_rows(&path, count);
        let asked = Asked { hold_out: 0.1, memory: Some(4 << 20), ..Asked::new(path) };
        let before = peak();
        for second in [false, true] {
            let prepared = asked.prepare(&model, &place).unwrap();
            assert_eq!(common::was_found(&prepared), second);
            let held_out = prepared.held_out.unwrap().unwrap();
            assert_eq!(prepared.training.len() + held_out.len(), count);
            place.content_hash(&prepared.training, Some(&held_out)).unwrap();
            let mut numbers = GroupNumbers::new(count, 2 * count, place.spool()).unwrap();
            for (position, group) in prepared.training.groups().enumerate() {
                let first = prepared.training.head(position).unwrap().first_response;
                numbers.set(position, first, &vec![0.5; group.unwrap().responses.len()]).unwrap();
            }
        }
        (bytes, peak() - before)
    };
    run("little.jsonl", 500);
    let (bytes, growth) = run("much.jsonl", 10_000);
    assert!(bytes > 10 << 20, "{bytes}");
    // Text and tokens of all rows at once were five bytes for each of the file's.
    assert!(growth < 16 << 20, "{} KiB for {} KiB of data", growth >> 10, bytes >> 10);
}
