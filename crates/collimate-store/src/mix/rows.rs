//! What the first pass over the data keeps of each group: where it is, and hashes of its text.

use std::hash::{Hash, Hasher};

use collimate_data::{DataError, Prompt, PromptGroup};
use collimate_files::{Spool, SpoolFolder, WriteError};

use crate::bits::Bits;

/// Bytes of a row in the table.
const ROW_BYTES: usize = 48;
/// Rows that are read from the table at a time.
const ROWS_AT_ONCE: usize = 4096;
/// The least bytes of hashes that are sorted at a time.
const LEAST_SORTED_BYTES: usize = 8 << 20;
/// The most passes over the table to find equal hashes: then a pass sorts more at a time.
const MOST_PASSES: usize = 32;

/// A hash that two texts do not share by chance.
type WideHash = [u8; 16];

/// A group's row in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Row {
    /// Index among the rows of all files, from 0.
    pub(super) index: usize,
    /// Line in its file, from 1.
    pub(super) line: usize,
    /// Of the prompt with what its template is given, and the responses.
    text: WideHash,
    /// Of the prompt alone.
    prompt: WideHash,
}

/// Which hash rows are compared by.
#[derive(Debug, Clone, Copy)]
pub(super) enum By {
    Text,
    Prompt,
}

impl Row {
    pub(super) fn new(group: &PromptGroup) -> Self {
        let prompt = wide_hash(|hasher| group.prompt.hash(hasher));
        let text = wide_hash(|hasher| {
            group.prompt.hash(hasher);
            group.chat.hash(hasher);
            group.responses.iter().for_each(|response| response.text().hash(hasher));
        });
        Self { index: group.index, line: group.line, text, prompt }
    }

    fn to_bytes(self) -> [u8; ROW_BYTES] {
        let mut bytes = [0; ROW_BYTES];
        bytes[..8].copy_from_slice(&(self.index as u64).to_le_bytes());
        bytes[8..16].copy_from_slice(&(self.line as u64).to_le_bytes());
        bytes[16..32].copy_from_slice(&self.text);
        bytes[32..].copy_from_slice(&self.prompt);
        bytes
    }

    fn from_bytes(bytes: &[u8; ROW_BYTES]) -> Self {
        let number = |at: usize| bytes[at..].first_chunk().map_or(0, |eight| u64::from_le_bytes(*eight)) as usize;
        let hash = |at: usize| bytes[at..].first_chunk().copied().unwrap_or_default();
        Self { index: number(0), line: number(8), text: hash(16), prompt: hash(32) }
    }
}

fn wide_hash(feed: impl FnOnce(&mut Wide)) -> WideHash {
    let mut hasher = Wide(blake3::Hasher::new());
    feed(&mut hasher);
    let mut hash = [0; 16];
    hasher.0.finalize_xof().fill(&mut hash);
    hash
}

/// Feeds what the standard library would hash to BLAKE3.
struct Wide(blake3::Hasher);

impl Hasher for Wide {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        self.0.finalize().as_bytes().first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
    }
}

/// A row for each group that passed the filters, by its position.
#[derive(Debug)]
pub(super) struct RowTable {
    spool: Spool,
    /// Whether the group's prompt is text.
    pub(super) is_text: Bits,
}

impl RowTable {
    pub(super) fn new(folder: &SpoolFolder) -> Self {
        Self { spool: Spool::new(folder.clone()), is_text: Bits::default() }
    }

    pub(super) fn push(&mut self, group: &PromptGroup) -> Result<(), WriteError> {
        self.is_text.push(matches!(group.prompt, Prompt::Text(_)));
        self.spool.push(&Row::new(group).to_bytes())
    }

    /// Number of groups.
    pub(super) fn len(&self) -> usize {
        self.is_text.len()
    }

    /// The row of the group at `position`.
    pub(super) fn row(&self, position: usize) -> Result<Row, DataError> {
        let mut bytes = [0; ROW_BYTES];
        let read = self.spool.read_exact_at(&mut bytes, (position * ROW_BYTES) as u64);
        read.map_err(WriteError::at(std::path::Path::new("the table of rows")))?;
        Ok(Row::from_bytes(&bytes))
    }

    /// Calls `each` with every list of several chosen groups that have the same hash: their ranks among the chosen, from 0,
    /// and their positions, both rising.
    pub(super) fn for_each_equal(
        &self,
        by: By,
        chosen: &Bits,
        mut each: impl FnMut(&[Ranked]),
    ) -> Result<(), DataError> {
        let num_passes = (chosen.count() * size_of::<(WideHash, Ranked)>()).div_ceil(LEAST_SORTED_BYTES);
        let num_passes = num_passes.clamp(1, MOST_PASSES);
        for pass in 0..num_passes {
            let mut hashes: Vec<(WideHash, Ranked)> = Vec::new();
            let (mut position, mut rank) = (0, 0);
            self.spool.for_each_piece(ROW_BYTES * ROWS_AT_ONCE, |piece| {
                for bytes in piece.as_chunks::<ROW_BYTES>().0 {
                    if chosen.get(position) {
                        let row = Row::from_bytes(bytes);
                        let hash = match by {
                            By::Text => row.text,
                            By::Prompt => row.prompt,
                        };
                        if usize::from(hash[0]) % num_passes == pass {
                            hashes.push((hash, Ranked { rank, position: position as u32 }));
                        }
                        rank += 1;
                    }
                    position += 1;
                }
                Ok::<_, DataError>(())
            })?;
            hashes.sort_unstable();
            for equal in hashes.chunk_by(|a, b| a.0 == b.0).filter(|equal| equal.len() > 1) {
                each(&equal.iter().map(|(_, ranked)| *ranked).collect::<Vec<_>>());
            }
        }
        Ok(())
    }
}

/// A chosen group: its rank among the chosen and its position among all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ranked {
    pub(super) rank: u32,
    pub(super) position: u32,
}
