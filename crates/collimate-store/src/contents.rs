//! Hashes of data files, remembered for files that have not changed.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use blake3::{Hash, Hasher};
use collimate_data::DataError;
use serde::{Deserialize, Serialize};

use crate::memo::Memo;
use crate::stamp::Stamp;

/// Bytes of a file that are read and hashed at a time.
const CHUNK_BYTES: usize = 4 << 20;

/// What the files of a run contained when their hashes were taken.
#[derive(Debug)]
pub(crate) struct Contents {
    files: Vec<(PathBuf, Stamp)>,
    pub(crate) hashes: Vec<Hash>,
}

/// What a memo says about a file.
#[derive(Debug, Serialize, Deserialize)]
struct Known {
    stamp: Stamp,
    hash: String,
}

impl Contents {
    /// Hashes files; `None` if one of them is not a regular file or cannot be read, which whoever reads its rows will report.
    pub(crate) fn read<'a>(paths: impl Iterator<Item = &'a Path>, memos: &Path) -> Option<Self> {
        let mut contents = Self { files: Vec::new(), hashes: Vec::new() };
        for path in paths {
            let (stamp, hash) = hash_of(path, memos).ok()??;
            contents.files.push((path.to_owned(), stamp));
            contents.hashes.push(hash);
        }
        Some(contents)
    }

    /// Checks that the files are still those that were hashed.
    pub(crate) fn check_unchanged(&self) -> Result<(), DataError> {
        for (path, stamp) in &self.files {
            let io = |source| DataError::Io { path: path.clone(), source };
            if Stamp::new(&std::fs::metadata(path).map_err(io)?) != *stamp {
                let problem = "it was changed while it was read; start again once it is complete".to_owned();
                return Err(DataError::File { path: path.clone(), problem });
            }
        }
        Ok(())
    }
}

fn hash_of(path: &Path, memos: &Path) -> io::Result<Option<(Stamp, Hash)>> {
    // Looked at before it is opened: opening a pipe would wait for its other end.
    if !std::fs::metadata(path)?.is_file() {
        return Ok(None);
    }
    let mut file = File::open(path)?;
    let stamp = Stamp::new(&file.metadata()?);
    let name = blake3::hash(std::fs::canonicalize(path)?.as_os_str().as_encoded_bytes());
    let memo = Memo::new(memos.join(format!("{}.content", &name.to_hex()[..32])));
    if let Some(known) = memo.read::<Known>().filter(|known| known.stamp == stamp)
        && let Ok(hash) = Hash::from_hex(known.hash.as_bytes())
    {
        memo.touch();
        return Ok(Some((stamp, hash)));
    }
    let hash = hash_file(&mut file)?;
    if Stamp::new(&file.metadata()?) != stamp {
        return Ok(None);
    }
    if !stamp.is_fresh() {
        memo.write(&Known { stamp, hash: hash.to_hex().to_string() });
    }
    Ok(Some((stamp, hash)))
}

/// Hashes a file on all cores, piece by piece.
fn hash_file(file: &mut File) -> io::Result<Hash> {
    let (mut hasher, mut chunk) = (Hasher::new(), Vec::with_capacity(CHUNK_BYTES));
    while file.take(CHUNK_BYTES as u64).read_to_end(&mut chunk)? > 0 {
        hasher.update_rayon(&chunk);
        chunk.clear();
    }
    Ok(hasher.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::time::{Duration, SystemTime};

    fn hash(path: &Path, memos: &Path) -> Hash {
        Contents::read(std::iter::once(path), memos).expect("a regular file").hashes[0]
    }

    #[test]
    fn a_file_just_written_is_always_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, memos) = (folder.path().join("data"), folder.path());
        for text in ["one", "two", "six"] {
            fs::write(&path, text).expect("a file");
            assert_eq!(hash(&path, memos), blake3::hash(text.as_bytes()));
        }
        assert_eq!(fs::read_dir(memos).expect("a folder").count(), 1, "nothing is remembered");
    }

    /// A time in the past can be given to a file, but its entry is changed now.
    #[cfg(unix)]
    #[test]
    fn a_time_that_was_set_back_deceives_nobody() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, memos) = (folder.path().join("data"), folder.path());
        let long_ago = SystemTime::now() - Duration::from_secs(1000);
        for text in ["one", "two"] {
            fs::write(&path, text).expect("a file");
            File::options().append(true).open(&path).and_then(|file| file.set_modified(long_ago)).expect("a time");
            assert_eq!(hash(&path, memos), blake3::hash(text.as_bytes()));
        }
    }

    #[test]
    fn what_is_no_regular_file_has_no_hash() {
        let folder = tempfile::tempdir().expect("a folder");
        assert!(Contents::read([folder.path()].into_iter(), folder.path()).is_none());
        assert!(Contents::read([folder.path().join("nowhere").as_path()].into_iter(), folder.path()).is_none());
    }

    #[test]
    fn a_change_is_noticed() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("data");
        fs::write(&path, "one").expect("a file");
        let contents = Contents::read(std::iter::once(path.as_path()), folder.path()).expect("a file");
        assert!(contents.check_unchanged().is_ok());
        fs::write(&path, "three").expect("a file");
        let error = contents.check_unchanged().expect_err("another file").to_string();
        assert!(error.contains("data: it was changed while it was read"), "{error}");
    }
}
