//! The store keeps data out of memory.

use std::fs;

use super::{process_with, rows};
use crate::harness::Folder;

/// Rows before these have shorter numbers, so that a window of them has less text.
const FIRST: usize = 1_000_000;
/// What may come on top where there are four times as many rows: the text is 25 MB more, its tokens 75 MB.
const MOST_GROWTH: u64 = 8 << 20;

/// Four times the data take no more memory, once they are more than what is tokenized at a time.
///
/// One heap for all threads, since glibc gives each its own, which keeps what that thread has freed: which of them meets the
/// most differs from run to run, and so does their sum.
#[cfg(target_os = "linux")]
#[test]
fn memory_does_not_grow_with_the_data() {
    let folder = Folder::new();
    let peak = |name: &str, data: &str| {
        let cache = format!("token_cache={}", folder.arg("tokens"));
        let settings =
            [cache.as_str(), "memory_budget=150MiB", "max_steps=1", "sample_prompts=0", "reference_cache=false"];
        process_with(&folder, name, data, &settings, &[("MALLOC_ARENA_MAX", "1")]).peak_bytes()
    };
    let data = |name: &str, count: usize| folder.write(name, rows(FIRST..FIRST + count, 60));
    let (few_data, many_data) = (data("few.jsonl", 6000), data("many.jsonl", 24_000));
    let bytes = |data: &str| fs::metadata(data).expect("data").len();
    assert!(bytes(&many_data) > bytes(&few_data) + 3 * MOST_GROWTH);
    let few = peak("few", &few_data);
    let many = peak("many", &many_data);
    // The second run of the same data reads the store only.
    let (few_again, many_again) = (peak("few-again", &few_data), peak("many-again", &many_data));
    let peaks = [few, many, few_again, many_again].map(|bytes| bytes >> 10);
    assert!(many < few + MOST_GROWTH && many_again < few_again + MOST_GROWTH, "{peaks:?} KiB");
    assert!(few_again < few, "{peaks:?} KiB");
}
