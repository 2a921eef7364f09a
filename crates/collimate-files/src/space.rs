//! How much room there is on a disk, and how much a folder takes.

use std::fs;
use std::path::Path;

/// Bytes that this user can still write where `path` is or will be; `None` if the system does not say. Quotas are not
/// counted.
pub fn free_space(path: &Path) -> Option<u64> {
    let there = path.ancestors().find(|ancestor| ancestor.exists());
    // The parent of a relative path of one component is empty.
    available(there.unwrap_or(Path::new(".")))
}

#[cfg(unix)]
fn available(path: &Path) -> Option<u64> {
    let found = rustix::fs::statvfs(path).ok()?;
    // File systems without a size, such as an unlimited tmpfs, have no blocks at all.
    (found.f_blocks > 0).then(|| found.f_bavail.saturating_mul(found.f_frsize))
}

#[cfg(not(unix))]
fn available(_path: &Path) -> Option<u64> {
    None
}

/// Bytes of the files in a folder, not counting those in its folders; 0 if it cannot be read.
pub fn folder_bytes(path: &Path) -> u64 {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    let sizes = entries.filter_map(|entry| entry.metadata().ok()).filter(|metadata| metadata.is_file());
    sizes.map(|metadata| metadata.len()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(unix)]
    fn a_folder_that_is_not_there_yet_is_on_the_disk_of_its_parent() {
        let folder = tempfile::tempdir().expect("a folder");
        let free = free_space(folder.path()).expect("a size");
        let below = free_space(&folder.path().join("runs/first")).expect("a size");
        // Others write meanwhile.
        assert!(free > 0 && free.abs_diff(below) < free / 2, "{free} {below}");
        assert!(free_space(Path::new("no-such-folder-here")).is_some());
    }

    #[test]
    fn a_folders_files_are_counted() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir(folder.path().join("inner")).expect("a folder");
        for (name, length) in [("a", 10), ("b", 32), ("inner/c", 100)] {
            fs::write(folder.path().join(name), vec![0; length]).expect("a file");
        }
        assert_eq!(folder_bytes(folder.path()), 42);
        assert_eq!(folder_bytes(&folder.path().join("none")), 0);
    }
}
