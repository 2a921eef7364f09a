//! Whether a name is taken, and whether two names are those of one file.

use std::fs::{self, Metadata};
use std::path::Path;

/// Whether anything has this name, be it a link that leads nowhere.
pub fn is_there(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

/// Whether two files are one, under whatever names. Only Unix tells; elsewhere it is never known.
pub(crate) fn is_same_file(a: &Metadata, b: &Metadata) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        (a.dev(), a.ino()) == (b.dev(), b.ino())
    }
    #[cfg(not(unix))]
    {
        let _ = (a, b);
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn a_link_that_leads_nowhere_is_there() {
        let folder = tempfile::tempdir().expect("a folder");
        let link = folder.path().join("link");
        assert!(!is_there(&link));
        std::os::unix::fs::symlink("nowhere", &link).expect("a link");
        assert!(is_there(&link) && !link.exists());
    }

    #[cfg(unix)]
    #[test]
    fn a_file_is_the_same_under_each_of_its_names_and_a_copy_is_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let (file, hard, copy) = (folder.path().join("file"), folder.path().join("hard"), folder.path().join("copy"));
        fs::write(&file, "rows").expect("a file");
        fs::hard_link(&file, &hard).expect("a link");
        fs::copy(&file, &copy).expect("a copy");
        let [file, hard, copy] = [file, hard, copy].map(|path| fs::metadata(path).expect("metadata"));
        assert_eq!((is_same_file(&file, &hard), is_same_file(&file, &copy)), (true, false));
    }
}
