//! One number for each response of a run, by the responses' order.

use std::fs::File;

use collimate_files::{SpoolFolder, WriteError, read_exact_at, write_all_at};

use crate::bits::Bits;
use crate::error::StoreError;

/// Numbers that stay in memory; more are in a private file.
const MOST_IN_MEMORY: u64 = 1 << 18;
/// Bytes of a number.
const BYTES: u64 = 8;

/// Numbers of groups, in memory while there are few and else in a private file.
#[derive(Debug)]
pub struct GroupNumbers {
    values: Values,
    /// The groups that have theirs.
    known: Bits,
    folder: SpoolFolder,
}

#[derive(Debug)]
enum Values {
    Memory(Vec<f64>),
    File(File),
}

impl GroupNumbers {
    /// Room for the numbers of `num_groups` groups with `num_responses` responses together.
    ///
    /// # Errors
    /// They do not stay in memory, and the file cannot be made.
    pub fn new(num_groups: usize, num_responses: usize, folder: &SpoolFolder) -> Result<Self, StoreError> {
        Self::within(num_groups, num_responses, folder, MOST_IN_MEMORY)
    }

    fn within(num_groups: usize, num_responses: usize, folder: &SpoolFolder, most: u64) -> Result<Self, StoreError> {
        let values = match num_responses as u64 > most {
            false => Values::Memory(vec![f64::NAN; num_responses]),
            true => {
                let file = folder.file()?;
                file.set_len(num_responses as u64 * BYTES).map_err(WriteError::at(folder.folder()))?;
                Values::File(file)
            }
        };
        Ok(Self { values, known: Bits::none(num_groups), folder: folder.clone() })
    }

    /// Whether a group has its numbers.
    pub fn has(&self, group: usize) -> bool {
        self.known.get(group)
    }

    /// Sets a group's numbers, the first of which is that of response `first`.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn set(&mut self, group: usize, first: u64, numbers: &[f64]) -> Result<(), StoreError> {
        self.known.set(group, true);
        match &mut self.values {
            Values::Memory(values) => {
                let slots = values.iter_mut().skip(first as usize);
                slots.zip(numbers).for_each(|(slot, number)| *slot = *number);
            }
            Values::File(file) => {
                let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
                write_all_at(file, &bytes, first * BYTES).map_err(WriteError::at(self.folder.folder()))?;
            }
        }
        Ok(())
    }

    /// The numbers of `count` responses from `first` on.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn get(&self, first: u64, count: usize) -> Result<Vec<f64>, StoreError> {
        match &self.values {
            Values::Memory(values) => Ok(values.iter().skip(first as usize).take(count).copied().collect()),
            Values::File(file) => {
                let mut bytes = vec![0; count * BYTES as usize];
                let read = read_exact_at(file, &mut bytes, first * BYTES);
                read.map_err(|source| StoreError::Read { path: self.folder.folder().to_owned(), source })?;
                Ok(bytes.as_chunks().0.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_the_same_in_memory_and_in_a_file() {
        let folder = tempfile::tempdir().expect("a folder");
        for most in [0, 1000] {
            let folder = SpoolFolder::new(folder.path());
            let mut numbers = GroupNumbers::within(3, 7, &folder, most).expect("room");
            numbers.set(2, 5, &[-1.5, f64::NEG_INFINITY]).expect("room");
            numbers.set(0, 0, &[0.25, 3.0, -0.0]).expect("room");
            assert_eq!([0, 1, 2].map(|group| numbers.has(group)), [true, false, true]);
            assert_eq!(numbers.get(5, 2).expect("numbers"), [-1.5, f64::NEG_INFINITY]);
            assert_eq!(numbers.get(0, 3).expect("numbers"), [0.25, 3.0, -0.0]);
        }
        assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 0);
    }
}
