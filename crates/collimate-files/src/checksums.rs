//! Checksums of a folder's files, kept in `checksums.json` beside them.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::{WriteError, name_of, write_atomically};

/// Lists a folder's other files; written last, so that a folder with it is complete.
pub const CHECKSUMS_FILE: &str = "checksums.json";

/// Size and BLAKE3 hash of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Checksum {
    bytes: u64,
    blake3: String,
}

/// Writes `checksums.json` with the size and BLAKE3 hash of every file in the folder.
///
/// # Errors
/// A file cannot be read, or `checksums.json` cannot be written.
pub fn write_checksums(folder: &Path) -> Result<(), WriteError> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder).map_err(WriteError::of(folder))? {
        let path = entry.map_err(WriteError::of(folder))?.path();
        let checksum = checksum(&path).map_err(WriteError::of(&path))?;
        files.insert(name_of(&path), checksum);
    }
    files.remove(CHECKSUMS_FILE);
    let path = folder.join(CHECKSUMS_FILE);
    let text = serde_json::to_string_pretty(&files).map_err(|error| WriteError::of(&path)(error.into()))?;
    write_atomically(&path, (text + "\n").as_bytes())
}

/// Checks every file listed in `checksums.json`; other files are ignored.
///
/// # Errors
/// A message for the user: no `checksums.json`, or a file that is missing or differs in size or content.
pub fn verify_checksums(folder: &Path) -> Result<(), String> {
    let text = fs::read_to_string(folder.join(CHECKSUMS_FILE)).map_err(|error| format!("{CHECKSUMS_FILE}: {error}"))?;
    let files: BTreeMap<String, Checksum> =
        serde_json::from_str(&text).map_err(|error| format!("{CHECKSUMS_FILE}: {error}"))?;
    for (name, expected) in &files {
        // A tampered list must not make us read files outside the folder.
        if Path::new(name).components().count() != 1 || name.contains(['/', '\\']) || name == ".." {
            return Err(format!("{CHECKSUMS_FILE}: \"{name}\" is not the name of a file in this folder"));
        }
        let path = folder.join(name);
        let found = fs::metadata(&path).map_err(|error| format!("{name}: {error}"))?.len();
        if found != expected.bytes {
            return Err(format!("{name}: expected {} bytes, found {found}", expected.bytes));
        }
        if checksum(&path).map_err(|error| format!("{name}: {error}"))? != *expected {
            return Err(format!("{name}: its content does not match its checksum"));
        }
    }
    Ok(())
}

fn checksum(path: &Path) -> io::Result<Checksum> {
    let mut hasher = blake3::Hasher::new();
    let bytes = io::copy(&mut File::open(path)?, &mut hasher)?;
    Ok(Checksum { bytes, blake3: hasher.finalize().to_hex().to_string() })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::write(folder.path().join("a"), [1; 100]).expect("a file");
        fs::write(folder.path().join("b"), [2; 50]).expect("a file");
        write_checksums(folder.path()).expect("checksums");
        folder
    }

    #[test]
    fn an_untouched_folder_passes() {
        let folder = folder();
        assert_eq!(verify_checksums(folder.path()), Ok(()));
        fs::write(folder.path().join("c"), "not listed").expect("a file");
        assert_eq!(verify_checksums(folder.path()), Ok(()));
    }

    #[test]
    fn a_list_that_points_elsewhere_is_refused() {
        for name in ["../a", "/etc/hostname", "..", "x/y"] {
            let folder = folder();
            let list = format!("{{\"{name}\": {{\"bytes\": 1, \"blake3\": \"\"}}}}");
            fs::write(folder.path().join(CHECKSUMS_FILE), list).expect("a file");
            let error = verify_checksums(folder.path()).expect_err("a path");
            assert!(error.contains("is not the name of a file"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn a_torn_or_changed_file_is_found(offset in 0usize..100, cut in any::<bool>(), first in any::<bool>()) {
            let folder = folder();
            let path = folder.path().join(if first { "a" } else { "b" });
            let mut bytes = fs::read(&path).expect("a file");
            let offset = offset % bytes.len();
            if cut { bytes.truncate(offset) } else { bytes[offset] ^= 0x10 }
            fs::write(&path, bytes).expect("a file");
            prop_assert!(verify_checksums(folder.path()).is_err());
        }

        #[test]
        fn a_torn_list_is_found(keep in 0.0f64..1.0) {
            let folder = folder();
            let path = folder.path().join(CHECKSUMS_FILE);
            let bytes = fs::read(&path).expect("a list");
            // The last byte is a newline; without it the list is still complete.
            let len = ((bytes.len() - 1) as f64 * keep) as usize;
            fs::write(&path, &bytes[..len]).expect("a file");
            prop_assert!(verify_checksums(folder.path()).is_err());
        }
    }
}
