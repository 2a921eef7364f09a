//! A file that is read twice and must not change meanwhile.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use collimate_data::{DataError, DataSource, GroupReader, LoadOptions};
use collimate_files::{SpoolFolder, WriteError, open_input, write_all_at};

use crate::stamp::Stamp;

/// Bytes of a pipe that are copied at a time.
const COPY_BYTES: usize = 1 << 20;

/// A file of data, read from the start as often as needed.
#[derive(Debug)]
pub(super) struct Input {
    pub(super) path: PathBuf,
    /// Index of its first row among the rows of all files.
    pub(super) first_index: usize,
    /// What it was when it was opened first; `None` for a copy of what can be read only once.
    stamp: Option<Stamp>,
    copy: Option<File>,
}

impl Input {
    pub(super) fn open(path: &Path, first_index: usize, folder: &SpoolFolder) -> Result<Self, DataError> {
        let io = |source| DataError::Io { path: path.to_owned(), source };
        let mut file = open_input(path).map_err(io)?;
        let metadata = file.metadata().map_err(io)?;
        let input = Self { path: path.to_owned(), first_index, stamp: Some(Stamp::new(&metadata)), copy: None };
        if metadata.is_file() || metadata.is_dir() {
            return Ok(input);
        }
        let copy = folder.file()?;
        copy_into(&mut file, &copy, folder).map_err(|error| match error {
            Failed::Read(source) => io(source),
            Failed::Write(error) => error.into(),
        })?;
        Ok(Self { stamp: None, copy: Some(copy), ..input })
    }

    /// Reads the file from its start. One reader at a time: those of a copy share their position.
    pub(super) fn reader(&self, options: &LoadOptions) -> Result<GroupReader, DataError> {
        let io = |source| DataError::Io { path: self.path.clone(), source };
        let file = match &self.copy {
            None => open_input(&self.path).map_err(io)?,
            Some(copy) => {
                let mut copy = copy.try_clone().map_err(io)?;
                copy.seek(SeekFrom::Start(0)).map_err(io)?;
                copy
            }
        };
        DataSource::from_file(file, &self.path, options)
    }

    /// Checks that the file is what it was when it was opened first.
    pub(super) fn check_unchanged(&self) -> Result<(), DataError> {
        let Some(stamp) = self.stamp else { return Ok(()) };
        let now = std::fs::metadata(&self.path).map_err(|source| DataError::Io { path: self.path.clone(), source })?;
        if Stamp::new(&now) == stamp { Ok(()) } else { Err(self.changed()) }
    }

    pub(super) fn changed(&self) -> DataError {
        let problem = "it was changed while it was read; start again once it is complete".to_owned();
        DataError::File { path: self.path.clone(), problem }
    }
}

enum Failed {
    Read(io::Error),
    Write(WriteError),
}

fn copy_into(from: &mut File, copy: &File, folder: &SpoolFolder) -> Result<(), Failed> {
    let (mut buffer, mut at) = (vec![0; COPY_BYTES], 0);
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => {
                let written = write_all_at(copy, &buffer[..count], at);
                written.map_err(|source| Failed::Write(WriteError::at(folder.folder())(source)))?;
                at += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Failed::Read(error)),
        }
    }
}
