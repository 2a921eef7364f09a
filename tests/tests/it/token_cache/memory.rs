//! The store keeps data out of memory.

use std::fs;

use super::{process, rows};
use crate::harness::Folder;

/// Four times the data take no more memory, once they are more than what is tokenized at a time.
#[cfg(target_os = "linux")]
#[test]
fn memory_does_not_grow_with_the_data() {
    let folder = Folder::new();
    // Peaks differ by some MiB from run to run, as the allocator meets more or less at once: growth shows in each try.
    let grows = |attempt: usize| memory_grows(&folder, &attempt.to_string());
    let problems: Vec<_> = (0..3).map_while(grows).collect();
    assert!(problems.len() < 3, "{problems:?}");
}

/// What grows with the data, if anything does.
#[cfg(target_os = "linux")]
fn memory_grows(folder: &Folder, attempt: &str) -> Option<String> {
    let peak = |name: &str, count: usize| {
        let data = folder.write(&format!("{name}.jsonl"), rows(count, 60));
        let cache = format!("token_cache={}", folder.arg(&format!("tokens-{attempt}")));
        let settings =
            [cache.as_str(), "memory_budget=150MiB", "max_steps=1", "sample_prompts=0", "reference_cache=false"];
        let output = format!("{name}-{attempt}");
        (fs::metadata(&data).expect("data").len(), process(folder, &output, &data, &settings).peak_bytes())
    };
    let (few_bytes, few) = peak("few", 6000);
    let (many_bytes, many) = peak("many", 24_000);
    assert!(many_bytes > few_bytes + (15 << 20), "{few_bytes} and {many_bytes} bytes");
    // The second run of the same data reads the store only.
    let (_, again) = peak("many-again", 24_000);
    let most = few + (12 << 20);
    (many >= most || again >= most).then(|| {
        format!(
            "{} KiB for {few_bytes} bytes, {} KiB for {many_bytes}, {} KiB again",
            few >> 10,
            many >> 10,
            again >> 10
        )
    })
}
