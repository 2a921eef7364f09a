//! Where the inputs of blocks wait for the backward pass, and a file for them.

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use collimate_files::{ScratchFolder, WriteError, read_exact_at, write_all_at};
use collimate_model::{InputKey, InputPlace, InputStore, StoreError};
use serde::Serialize;

use crate::control::check_stop;
use crate::error::TrainError;
use collimate_collective::StopFlag;

/// What the file is called in messages; it has no name on the disk.
const NAME: &str = "inputs-of-blocks";

/// Where the inputs of blocks wait for the backward pass.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum InputsIn {
    /// In the memory of the device that computes.
    Device,
    /// In the memory of the host, beside a device with memory of its own.
    Host,
    /// In a file without a name, in this folder.
    File(#[serde(skip)] PathBuf),
}

impl InputsIn {
    /// The place itself. A stop that is requested ends a pass at the next input that is written or read.
    ///
    /// # Errors
    /// The file cannot be created.
    pub(crate) fn open(&self, stop: &StopFlag) -> Result<InputPlace, TrainError> {
        Ok(match self {
            Self::Device => InputPlace::Device,
            Self::Host => InputPlace::Host,
            Self::File(folder) => InputPlace::Store(Box::new(InputFile::create(folder, stop.clone())?)),
        })
    }
}

/// Inputs in a file without a name, whose space is free again once the pass or the process ends.
struct InputFile {
    file: File,
    /// What messages call it.
    path: PathBuf,
    /// Where an input begins.
    begins: HashMap<InputKey, u64>,
    len: u64,
    stop: StopFlag,
}

impl InputFile {
    fn create(folder: &Path, stop: StopFlag) -> Result<Self, WriteError> {
        let path = folder.join(NAME);
        let file = ScratchFolder::beside(&path).file()?;
        Ok(Self { file, path, begins: HashMap::new(), len: 0, stop })
    }
}

impl InputStore for InputFile {
    fn put(&mut self, key: InputKey, bytes: &[u8]) -> Result<(), StoreError> {
        check_stop(&self.stop)?;
        write_all_at(&self.file, bytes, self.len).map_err(WriteError::at(&self.path)).map_err(TrainError::from)?;
        self.begins.insert(key, self.len);
        self.len += bytes.len() as u64;
        Ok(())
    }

    fn take(&mut self, key: InputKey, bytes: &mut [u8]) -> Result<(), StoreError> {
        check_stop(&self.stop)?;
        // What was never put is beyond the end.
        let at = self.begins.remove(&key).unwrap_or(self.len);
        let read = read_exact_at(&self.file, bytes, at);
        Ok(read.map_err(|source| TrainError::io(&self.path, source))?)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const KEYS: [InputKey; 3] =
        [InputKey { layer: 0, pack: 0 }, InputKey { layer: 0, pack: 1 }, InputKey { layer: 1, pack: 0 }];

    fn bytes(key: InputKey) -> Vec<u8> {
        (0..1000 + 500 * key.pack).map(|i| (i * 7 + 31 * key.layer + key.pack) as u8).collect()
    }

    #[test]
    fn every_input_comes_back_and_nobody_sees_the_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut file = InputFile::create(folder.path(), StopFlag::default()).expect("a file");
        KEYS.iter().for_each(|key| file.put(*key, &bytes(*key)).expect("room"));
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 0);
        for key in [KEYS[2], KEYS[0], KEYS[1]] {
            let mut found = vec![0; bytes(key).len()];
            file.take(key, &mut found).expect("an input");
            assert!(found == bytes(key), "{key:?}");
        }
        let error = file.take(KEYS[0], &mut [0; 8]).expect_err("taken already").to_string();
        assert!(error.contains("inputs-of-blocks: "), "{error}");
    }

    #[test]
    fn what_cannot_be_written_names_the_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let taken = folder.path().join("readable");
        fs::write(&taken, "").expect("a file");
        let mut file = InputFile::create(folder.path(), StopFlag::default()).expect("a file");
        file.file = File::open(&taken).expect("a file to read");
        let error = file.put(KEYS[0], &[1; 8]).expect_err("not open for writing");
        let error = error.downcast::<TrainError>().expect("an error of the run");
        assert!(matches!(*error, TrainError::Write(_)), "{error:?}");
        let message = format!("{}: cannot be written: ", folder.path().join("inputs-of-blocks").display());
        assert!(error.to_string().starts_with(&message), "{error}");
        assert!(InputFile::create(&folder.path().join("none"), StopFlag::default()).is_err());
    }

    #[test]
    fn a_stop_ends_a_pass_between_two_inputs() {
        let folder = tempfile::tempdir().expect("a folder");
        let stop = StopFlag::default();
        let mut file = InputFile::create(folder.path(), stop.clone()).expect("a file");
        file.put(KEYS[0], &bytes(KEYS[0])).expect("room");
        stop.request(15);
        let errors = [file.put(KEYS[1], &[1]), file.take(KEYS[0], &mut [0; 1000])];
        for error in errors.map(|done| done.expect_err("a stop").downcast::<TrainError>().expect("of the run")) {
            assert!(matches!(*error, TrainError::Interrupted { signal: 15, .. }), "{error:?}");
        }
    }
}
