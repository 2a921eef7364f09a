//! What a process writes down for itself: in memory while it is little, in a private file once it is much.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::WriteError;
use crate::positioned::{read_exact_at, write_all_at};

/// Bytes that stay in memory; more go to the file, this many at a time.
const MOST_IN_MEMORY: usize = 1 << 20;

/// Where private files are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpoolFolder {
    folder: PathBuf,
}

impl Default for SpoolFolder {
    /// `TMPDIR`, or else a folder for large temporary files: `/var/tmp`, since `/tmp` is often memory.
    fn default() -> Self {
        let large = Path::new("/var/tmp");
        let folder = match std::env::var_os("TMPDIR") {
            None if cfg!(unix) && large.is_dir() => large.to_owned(),
            _ => std::env::temp_dir(),
        };
        Self { folder }
    }
}

impl SpoolFolder {
    /// A folder of the caller's choice, which is created where it is missing.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A new file that no name leads to, so that it disappears with the process.
    ///
    /// # Errors
    /// The folder cannot be written to.
    pub fn file(&self) -> Result<File, WriteError> {
        let made = fs::create_dir_all(&self.folder).and_then(|()| tempfile::tempfile_in(&self.folder));
        made.map_err(WriteError::at(&self.folder))
    }
}

/// Bytes that are appended once and then read at any position.
///
/// They are in memory while they are few, and otherwise in a file without a name. What is beyond the end reads as an error.
#[derive(Debug)]
pub struct Spool {
    folder: SpoolFolder,
    file: Option<File>,
    /// Bytes in the file.
    written: u64,
    /// What follows them.
    pending: Vec<u8>,
    most_in_memory: usize,
}

impl Spool {
    /// An empty one, which begins its file in `place` when it needs one.
    pub fn new(folder: SpoolFolder) -> Self {
        Self { folder, file: None, written: 0, pending: Vec::new(), most_in_memory: MOST_IN_MEMORY }
    }

    /// Bytes appended so far.
    pub fn len(&self) -> u64 {
        self.written + self.pending.len() as u64
    }

    /// Whether nothing was appended.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends bytes.
    ///
    /// # Errors
    /// They do not stay in memory, and the file cannot be written.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        self.pending.extend_from_slice(bytes);
        if self.pending.len() < self.most_in_memory {
            return Ok(());
        }
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(self.folder.file()?),
        };
        write_all_at(file, &self.pending, self.written).map_err(WriteError::at(&self.folder.folder))?;
        self.written += self.pending.len() as u64;
        self.pending.clear();
        self.pending.shrink_to(self.most_in_memory);
        Ok(())
    }

    /// Fills `buffer` with the bytes from `at` on.
    ///
    /// # Errors
    /// There are not that many, or the file cannot be read.
    pub fn read_exact_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()> {
        let in_file = self.written.saturating_sub(at).min(buffer.len() as u64) as usize;
        let (from_file, from_memory) = buffer.split_at_mut(in_file);
        if let Some(file) = self.file.as_ref().filter(|_| !from_file.is_empty()) {
            read_exact_at(file, from_file, at)?;
        }
        let start = usize::try_from((at + in_file as u64).saturating_sub(self.written)).unwrap_or(usize::MAX);
        let end = start.saturating_add(from_memory.len());
        let found = self.pending.get(start..end).ok_or(io::ErrorKind::UnexpectedEof)?;
        from_memory.copy_from_slice(found);
        Ok(())
    }

    /// All bytes in order, in pieces of at most `piece` bytes: a multiple of the size of what was appended keeps that whole.
    ///
    /// # Errors
    /// The file cannot be read, or `each` fails.
    pub fn for_each_piece<E: From<WriteError>>(
        &self,
        piece: usize,
        mut each: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut buffer = vec![0; piece.min(usize::try_from(self.len()).unwrap_or(piece))];
        let mut at = 0;
        while at < self.len() {
            let count = buffer.len().min((self.len() - at) as usize);
            let read = self.read_exact_at(&mut buffer[..count], at);
            read.map_err(WriteError::at(&self.folder.folder))?;
            each(&buffer[..count])?;
            at += count as u64;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Five-byte records, of which 4 KiB stay in memory.
    fn filled(folder: SpoolFolder, count: u32) -> Spool {
        let mut spool = Spool { most_in_memory: 4096, ..Spool::new(folder) };
        for number in 0..count {
            spool.push(&number.to_le_bytes()).expect("room");
            spool.push(&[7]).expect("room");
        }
        spool
    }

    fn number(spool: &Spool, index: u32) -> u32 {
        let mut bytes = [0; 4];
        spool.read_exact_at(&mut bytes, 5 * u64::from(index)).expect("a record");
        u32::from_le_bytes(bytes)
    }

    #[test]
    fn what_was_appended_is_read_wherever_it_is() {
        let folder = tempfile::tempdir().expect("a folder");
        for count in [3, 900, 300_000] {
            let spool = filled(SpoolFolder::new(folder.path()), count);
            assert_eq!(spool.len(), 5 * u64::from(count));
            assert!((0..count).step_by(7).all(|index| number(&spool, index) == index), "{count}");
            assert!(spool.read_exact_at(&mut [0; 5], spool.len() - 4).is_err());
            let mut all = 0_u64;
            let sum = |piece: &[u8]| {
                all += piece.iter().filter(|byte| **byte == 7).count() as u64;
                assert_eq!(piece.len() % 5, 0);
                Ok::<_, WriteError>(())
            };
            spool.for_each_piece(5 * 1000, sum).expect("all pieces");
            assert!(all >= u64::from(count));
        }
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 0, "the file has no name");
    }

    #[test]
    fn memory_stays_small() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut spool = Spool::new(SpoolFolder::new(folder.path()));
        for _ in 0..64 {
            spool.push(&vec![1; 1 << 20]).expect("room");
            assert!(spool.pending.capacity() <= 2 * MOST_IN_MEMORY);
        }
        assert_eq!(spool.len(), 64 << 20);
    }

    #[test]
    fn little_needs_no_folder_and_much_names_it() {
        let around = tempfile::tempdir().expect("a folder");
        let taken = around.path().join("file");
        fs::write(&taken, "").expect("a file");
        let mut spool = Spool::new(SpoolFolder::new(taken.join("below")));
        spool.push(&[1; 1000]).expect("memory");
        let error = (0..100).find_map(|_| spool.push(&vec![1; 1 << 20]).err()).expect("no folder");
        assert!(error.to_string().contains("below"), "{error}");
    }
}
