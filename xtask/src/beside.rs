//! Files that tests read from beside the checkout: where they are, and which tests cannot run without them.

use std::path::{Path, PathBuf};

/// A folder beside the checkout that some tests read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Beside {
    /// Where it is, from the root of the checkout.
    folder: &'static str,
    /// The tests that read it.
    pub(crate) tests: &'static str,
    /// What the full name of each of these tests holds, and that of no other test: a module's name.
    module: &'static str,
}

/// Every such folder. A test that reads one stands in a module that is named after it.
const ALL: [Beside; 2] = [
    Beside { folder: "../shared/parity/golden", tests: "tests against PyTorch's golden files", module: "golden" },
    Beside { folder: "../shared/data", tests: "tests on published reward data", module: "real_data" },
];

/// The folders that are not there.
pub(crate) fn missing(root: &Path) -> Vec<Beside> {
    ALL.into_iter().filter(|beside| !root.join(beside.folder).is_dir()).collect()
}

impl Beside {
    /// Where the folder is expected.
    pub(crate) fn path(self, root: &Path) -> PathBuf {
        // `..` is spelled out where it can be: the path is for people.
        let outside = self.folder.strip_prefix("../").zip(root.parent());
        outside.map_or_else(|| root.join(self.folder), |(inside, parent)| parent.join(inside))
    }

    /// Options of libtest that leave its tests out.
    pub(crate) fn skip(self) -> [&'static str; 2] {
        ["--skip", self.module]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_is_not_there_is_named_where_it_is_expected() {
        let root = Path::new("/no-such-folder/checkout");
        let missing = missing(root);
        assert_eq!(missing, ALL);
        assert_eq!(missing[0].path(root), Path::new("/no-such-folder/shared/parity/golden"));
        assert_eq!(missing[1].path(root), Path::new("/no-such-folder/shared/data"));
    }

    #[test]
    fn only_what_is_not_there_is_missing() {
        let folder = std::env::temp_dir().join(format!("xtask-beside-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("shared/data")).expect("temporary folder");
        std::fs::create_dir_all(folder.join("checkout")).expect("temporary folder");
        let missing = missing(&folder.join("checkout"));
        std::fs::remove_dir_all(&folder).expect("temporary folder");
        assert_eq!(missing, [ALL[0]]);
    }
}
