//! Checksums of a folder's files, kept in `checksums.json` beside them.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::plain::{check_plain, open_plain, read_plain};
use crate::{WriteError, name_of, write_atomically};

/// Lists a folder's other files; written last, so that a folder with it is complete.
pub const CHECKSUMS_FILE: &str = "checksums.json";

/// Size limit of the list, in bytes: some twenty thousand files.
const MAX_LIST_BYTES: u64 = 4 << 20;

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
    for entry in fs::read_dir(folder).map_err(WriteError::at(folder))? {
        let path = entry.map_err(WriteError::at(folder))?.path();
        let checksum = checksum(&path, u64::MAX).map_err(WriteError::at(&path))?;
        files.insert(name_of(&path), checksum);
    }
    files.remove(CHECKSUMS_FILE);
    let path = folder.join(CHECKSUMS_FILE);
    let text = serde_json::to_string_pretty(&files).map_err(|error| WriteError::at(&path)(error.into()))?;
    write_atomically(&path, (text + "\n").as_bytes())
}

/// Checks every file listed in `checksums.json`, and that it lists those that are `needed`; other files are ignored. Links,
/// pipes and devices are not read.
///
/// # Errors
/// A message for the user: no `checksums.json`, a needed file that it does not list, or a file that is missing or differs in
/// size or content.
pub fn verify_checksums<S: AsRef<str>>(folder: &Path, needed: &[S]) -> Result<(), String> {
    must_be_folder(folder)?;
    let files = read_list(folder)?;
    if let Some(missing) = needed.iter().map(AsRef::as_ref).find(|name| !files.contains_key(*name)) {
        return Err(format!("{CHECKSUMS_FILE}: does not list \"{missing}\""));
    }
    for (name, expected) in &files {
        // A tampered list must not make us read files outside the folder.
        if Path::new(name).components().count() != 1 || name.contains(['/', '\\']) || name == ".." {
            return Err(format!("{CHECKSUMS_FILE}: \"{name}\" is not the name of a file in this folder"));
        }
        let path = folder.join(name);
        let failed = |error: io::Error| format!("{name}: {error}");
        let found = open_plain(&path).and_then(|file| file.metadata()).map_err(failed)?.len();
        if found != expected.bytes {
            return Err(format!("{name}: expected {} bytes, found {found}", expected.bytes));
        }
        if checksum(&path, expected.bytes).map_err(failed)? != *expected {
            return Err(format!("{name}: its content does not match its checksum"));
        }
    }
    Ok(())
}

/// Checks that a folder is one of those that this program fills and closes with `checksums.json`, damaged or not, so that it may
/// be removed: no link, and with nothing in it but plain files that are listed there or `known` to be in such a folder.
///
/// # Errors
/// A message for the user: what else it is, or holds.
pub fn check_sealed<S: AsRef<str>>(folder: &Path, known: &[S]) -> Result<(), String> {
    must_be_folder(folder)?;
    let failed = |error: io::Error| error.to_string();
    // A list that a broken disk cut off says nothing about names.
    let files = match open_plain(&folder.join(CHECKSUMS_FILE)) {
        Ok(_) => read_list(folder).ok(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(format!("it is not this program's: it has no {CHECKSUMS_FILE}"));
        }
        Err(error) => return Err(format!("{CHECKSUMS_FILE}: {error}")),
    };
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = name_of(&path);
        check_plain(&path).map_err(|error| format!("it holds \"{name}\", which is not this program's: {error}"))?;
        let is_known = name == CHECKSUMS_FILE || known.iter().any(|known| known.as_ref() == name);
        if !is_known && files.as_ref().is_some_and(|files| !files.contains_key(&name)) {
            return Err(format!("it holds \"{name}\", which {CHECKSUMS_FILE} does not list"));
        }
    }
    Ok(())
}

fn must_be_folder(path: &Path) -> Result<(), String> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(found) if found.is_symlink() => Err(crate::plain::LINK.to_owned()),
        Ok(_) => Err("it is not a folder".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

fn read_list(folder: &Path) -> Result<BTreeMap<String, Checksum>, String> {
    let text = read_plain(&folder.join(CHECKSUMS_FILE), MAX_LIST_BYTES);
    let text = text.map_err(|error| format!("{CHECKSUMS_FILE}: {error}"))?;
    serde_json::from_str(&text).map_err(|error| format!("{CHECKSUMS_FILE}: {error}"))
}

/// The checksum of a file's first bytes; of one that has more, their number is `limit + 1`.
fn checksum(path: &Path, limit: u64) -> io::Result<Checksum> {
    let mut hasher = blake3::Hasher::new();
    // The file may grow meanwhile.
    let bytes = io::copy(&mut open_plain(path)?.take(limit.saturating_add(1)), &mut hasher)?;
    Ok(Checksum { bytes, blake3: hasher.finalize().to_hex().to_string() })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NONE: &[&str] = &[];

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
        assert_eq!(verify_checksums(folder.path(), NONE), Ok(()));
        fs::write(folder.path().join("c"), "not listed").expect("a file");
        assert_eq!(verify_checksums(folder.path(), NONE), Ok(()));
    }

    #[test]
    fn a_list_must_name_what_is_needed() {
        let folder = folder();
        assert_eq!(verify_checksums(folder.path(), &["a", "b"]), Ok(()));
        let error = verify_checksums(folder.path(), &["a", "c"]).expect_err("c is not listed");
        assert_eq!(error, "checksums.json: does not list \"c\"");
        fs::write(folder.path().join(CHECKSUMS_FILE), "{}").expect("a file");
        assert!(verify_checksums(folder.path(), &["a"]).is_err());
    }

    /// A pipe would be waited for, and a device read for ever.
    #[cfg(unix)]
    #[test]
    fn links_pipes_and_devices_are_not_read() {
        use std::os::unix::fs::symlink;

        for (name, target) in [("a", "/dev/zero"), (CHECKSUMS_FILE, "/dev/zero"), ("a", "elsewhere/a"), ("b", "pipe")] {
            let folder = folder();
            let path = folder.path().join(name);
            fs::create_dir(folder.path().join("elsewhere")).expect("a folder");
            fs::rename(&path, folder.path().join("elsewhere").join(name)).expect("a file");
            match target {
                "pipe" => assert!(std::process::Command::new("mkfifo").arg(&path).status().expect("mkfifo").success()),
                target => symlink(target, &path).expect("a link"),
            }
            let error = verify_checksums(folder.path(), NONE).expect_err("no plain file");
            assert!(error.starts_with(name) && error.contains("it is "), "{error}");
        }
    }

    #[test]
    fn a_list_that_points_elsewhere_is_refused() {
        for name in ["../a", "/etc/hostname", "..", "x/y"] {
            let folder = folder();
            let list = format!("{{\"{name}\": {{\"bytes\": 1, \"blake3\": \"\"}}}}");
            fs::write(folder.path().join(CHECKSUMS_FILE), list).expect("a file");
            let error = verify_checksums(folder.path(), NONE).expect_err("a path");
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
            prop_assert!(verify_checksums(folder.path(), NONE).is_err());
        }

        #[test]
        fn a_torn_list_is_found(keep in 0.0f64..1.0) {
            let folder = folder();
            let path = folder.path().join(CHECKSUMS_FILE);
            let bytes = fs::read(&path).expect("a list");
            // The last byte is a newline; without it the list is still complete.
            let len = ((bytes.len() - 1) as f64 * keep) as usize;
            fs::write(&path, &bytes[..len]).expect("a file");
            prop_assert!(verify_checksums(folder.path(), NONE).is_err());
        }
    }
}
