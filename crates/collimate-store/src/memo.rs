//! Small files that say something about a larger one, so that it need not be read again.

use std::fs::File;
use std::path::PathBuf;
use std::time::SystemTime;

use collimate_files::{read_plain, write_atomically};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The largest memo, in bytes.
const MAX_BYTES: u64 = 4096;

/// A file with one value and its checksum. Whatever is wrong with it, it says nothing.
#[derive(Debug, Clone)]
pub(crate) struct Memo {
    path: PathBuf,
}

impl Memo {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// What it says.
    pub(crate) fn read<T: DeserializeOwned>(&self) -> Option<T> {
        let text = read_plain(&self.path, MAX_BYTES).ok()?;
        let (hash, value) = text.split_once(' ')?;
        (blake3::hash(value.as_bytes()).to_hex().as_str() == hash).then(|| serde_json::from_str(value).ok())?
    }

    /// Says something else from now on. Best effort: without it more is read the next time.
    pub(crate) fn write(&self, value: &impl Serialize) {
        if let Ok(value) = serde_json::to_string(value) {
            let hash = blake3::hash(value.as_bytes()).to_hex();
            let _ = write_atomically(&self.path, format!("{hash} {value}").as_bytes());
        }
    }

    /// Marks that it was of use.
    pub(crate) fn touch(&self) {
        let _ = File::options().append(true).open(&self.path).and_then(|file| file.set_modified(SystemTime::now()));
    }

    pub(crate) fn forget(&self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_memo_that_was_altered_says_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let memo = Memo::new(folder.path().join("memo"));
        assert_eq!(memo.read::<u32>(), None);
        memo.write(&1234);
        assert_eq!((memo.read::<u32>(), memo.read::<String>()), (Some(1234), None));
        let text = std::fs::read_to_string(&memo.path).expect("a file");
        std::fs::write(&memo.path, text.replace("1234", "1235")).expect("a file");
        assert_eq!(memo.read::<u32>(), None);
        memo.forget();
        assert_eq!(memo.read::<u32>(), None);
    }
}
