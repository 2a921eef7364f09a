//! Published data, the only thing that tests read from outside the checkout: its location, and how to skip its tests.

use std::path::{Path, PathBuf};

/// Its folder, relative to the parent of the checkout.
pub(crate) const DATA: &str = "shared/data";
/// A description of the tests that read it.
pub(crate) const TESTS: &str = "tests on published reward data";
/// Options of libtest that skip these tests. Only their full names contain `real_data`.
const SKIP: [&str; 2] = ["--skip", "real_data"];

/// Options for libtest; empty if the data is available.
pub(crate) fn skipped(data: &Path) -> &'static [&'static str] {
    if data.is_dir() { &[] } else { &SKIP }
}

/// The folder where the data is expected.
pub(crate) fn data(root: &Path) -> PathBuf {
    root.parent().unwrap_or(root).join(DATA)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_on_published_data_are_left_out_where_there_is_none() {
        let folder = data(Path::new("/no-such-folder/checkout"));
        assert_eq!(folder, Path::new("/no-such-folder/shared/data"));
        assert_eq!(skipped(&folder), ["--skip", "real_data"]);
    }

    #[test]
    fn tests_on_published_data_run_where_it_is_there() {
        let folder = std::env::temp_dir().join(format!("xtask-beside-{}", std::process::id()));
        std::fs::create_dir_all(folder.join(DATA)).expect("temporary folder");
        let skipped = skipped(&data(&folder.join("checkout")));
        std::fs::remove_dir_all(&folder).expect("temporary folder");
        assert!(skipped.is_empty());
    }
}
