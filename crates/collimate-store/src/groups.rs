//! Groups by position, wherever they are: in a file of the cache, a private file, or memory.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use blake3::Hash;
use collimate_data::DataFiles;
use collimate_files::{Spool, read_exact_at};
use collimate_text::{TokenizedGroup, TokenizedResponse};

use crate::ahead::ImagesAhead;
use crate::error::StoreError;
use crate::facts::{Facts, Totals, hash_group};
use crate::format::{GROUP_BYTES, GroupRecord, HEADER_BYTES, Lengths, RESPONSE_BYTES, ResponseHead, checksum, tokens};
use crate::head::{GroupHead, head, num_bytes};
use crate::images::images;
use crate::memo::Memo;
use crate::sources::Sources;
use crate::stamp::Stamp;

/// The tokenized groups of a run, read by position and in any order. Memory holds none of them.
#[derive(Debug)]
pub struct GroupStore {
    pub(crate) key: Hash,
    pub(crate) body: Body,
    pub(crate) lengths: Lengths,
    pub(crate) facts: Facts,
    notes: Vec<String>,
    files: DataFiles,
    /// Where it is said that the file was checked as a whole; forgotten if that turns out to be wrong.
    pub(crate) checked: Option<Memo>,
    /// What the file was when it was checked, to be said there once it is old enough to be told from a later change.
    unsaid: Option<Stamp>,
    /// Whether something was found that is not what was written.
    is_damaged: AtomicBool,
    /// Images that are loaded ahead, if somebody computes with them.
    pub(crate) ahead: Option<ImagesAhead>,
}

impl Drop for GroupStore {
    fn drop(&mut self) {
        let (Body::Shared { file, .. }, Some(memo)) = (&self.body, &self.checked) else { return };
        let is_same = |stamp: &Stamp| file.metadata().is_ok_and(|metadata| Stamp::new(&metadata) == *stamp);
        let is_sound = !self.is_damaged.load(Ordering::Relaxed);
        if let Some(stamp) = self.unsaid.filter(|stamp| is_sound && !stamp.is_fresh() && is_same(stamp)) {
            memo.write(&stamp);
        }
    }
}

/// Where the bytes are.
#[derive(Debug)]
pub(crate) enum Body {
    /// A file of the cache.
    Shared { file: File, path: PathBuf },
    /// For this process only.
    Private(Spools),
}

/// The sections of a store that no other process sees.
#[derive(Debug)]
pub(crate) struct Spools {
    pub(crate) tokens: Spool,
    pub(crate) responses: Spool,
    pub(crate) groups: Spool,
}

/// A section of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Section {
    Tokens,
    Responses,
    Groups,
}

impl GroupStore {
    /// `sources` are the run's own names for what the groups come from.
    pub(crate) fn new(key: Hash, body: Body, lengths: Lengths, facts: Facts, sources: &Sources) -> Self {
        let files = sources.files(&facts.starts);
        let notes = facts.notes.iter().map(|note| sources.filled_in(note)).collect();
        let is_damaged = AtomicBool::new(false);
        Self { key, body, lengths, facts, notes, files, checked: None, unsaid: None, is_damaged, ahead: None }
    }

    /// Says, at the latest when the store is closed, that the file as it is now was checked, if it `was` just then.
    pub(crate) fn remember_checked(&mut self, was: bool) {
        if let (true, Body::Shared { file, .. }) = (was, &self.body) {
            self.unsaid = file.metadata().ok().map(|metadata| Stamp::new(&metadata));
        }
    }

    /// Number of groups.
    pub fn len(&self) -> usize {
        self.lengths.num_groups as usize
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Totals over all groups.
    pub fn totals(&self) -> &Totals {
        &self.facts.totals
    }

    /// Lines for the log: what was found, truncated and left out when the data was read.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The files that the groups come from.
    pub fn files(&self) -> &DataFiles {
        &self.files
    }

    /// The file of the cache; `None` if the store lasts only for this process.
    pub fn path(&self) -> Option<&Path> {
        match &self.body {
            Body::Shared { path, .. } => Some(path),
            Body::Private(_) => None,
        }
    }

    /// The group at `position`, in the order of the files and their lines.
    ///
    /// # Errors
    /// There is none, its bytes cannot be read, or they are not what was written.
    pub fn group(&self, position: usize) -> Result<TokenizedGroup, StoreError> {
        let record = self.record(position)?;
        let responses = self.responses(&record, position)?;
        let bytes = self.read(Section::Tokens, record.tokens_at, num_bytes(&record, &responses))?;
        let mut group = self.decode(&record, &responses, &bytes, position)?;
        if let Some(ahead) = &self.ahead {
            ahead.take(&mut group.images);
        }
        Ok(group)
    }

    /// The group at `position` without its tokens.
    ///
    /// # Errors
    /// As [`Self::group`].
    pub fn head(&self, position: usize) -> Result<GroupHead, StoreError> {
        let record = self.record(position)?;
        Ok(head(&record, self.responses(&record, position)?))
    }

    /// File and line of a group.
    pub fn location(&self, position: usize) -> Result<String, StoreError> {
        let record = self.record(position)?;
        Ok(self.files.location(record.index as usize, record.line as usize))
    }

    /// Adds the tokens and rewards of all groups to a hash; `part` tells training (0) from held-out data.
    ///
    /// # Errors
    /// As [`Self::group`].
    pub fn hash_into(&self, hasher: &mut blake3::Hasher, part: u8) -> Result<(), StoreError> {
        self.groups().try_for_each(|group| {
            hash_group(&group?, hasher, part);
            Ok(())
        })
    }

    pub(crate) fn record(&self, position: usize) -> Result<GroupRecord, StoreError> {
        let bytes = self.read(Section::Groups, (position * GROUP_BYTES) as u64, GROUP_BYTES)?;
        Ok(GroupRecord::from_bytes(bytes.as_slice().first_chunk().unwrap_or(&[0; GROUP_BYTES])))
    }

    pub(crate) fn responses(&self, record: &GroupRecord, position: usize) -> Result<Vec<ResponseHead>, StoreError> {
        let at = record.first_response.saturating_mul(RESPONSE_BYTES as u64);
        let bytes = self.read(Section::Responses, at, record.num_responses as usize * RESPONSE_BYTES)?;
        self.check(record, &bytes, position)
    }

    /// The responses of a record, if both are what was written.
    pub(crate) fn check(
        &self,
        record: &GroupRecord,
        responses: &[u8],
        position: usize,
    ) -> Result<Vec<ResponseHead>, StoreError> {
        if !record.is_sound(&self.key, responses) {
            return Err(self.damaged(format!("the record of prompt {position} does not have its checksum")));
        }
        Ok(responses.as_chunks().0.iter().map(ResponseHead::from_bytes).collect())
    }

    /// A group of a record and its tokens, if these are what was written.
    pub(crate) fn decode(
        &self,
        record: &GroupRecord,
        responses: &[ResponseHead],
        bytes: &[u8],
        position: usize,
    ) -> Result<TokenizedGroup, StoreError> {
        if checksum(&self.key, &[bytes]) != record.tokens_checksum {
            return Err(self.damaged(format!("the tokens of prompt {position} do not have their checksum")));
        }
        let (mut rest, image_bytes) = bytes.split_at(bytes.len().saturating_sub(record.image_bytes as usize));
        let images = images(image_bytes)
            .ok_or_else(|| self.damaged(format!("the images of prompt {position} are not what is written")))?;
        let mut take = |count: usize| {
            let (ids, after) = rest.split_at((count * record.width as usize).min(rest.len()));
            rest = after;
            tokens(ids, record.width, count)
        };
        let prompt_ids = take(record.prompt_tokens as usize);
        let response = |head: &ResponseHead| TokenizedResponse {
            ids: take(head.tokens as usize),
            reward: head.reward,
            num_cut: head.num_cut as usize,
        };
        Ok(TokenizedGroup {
            index: record.index as usize,
            line: record.line as usize,
            prompt_ids,
            num_prompt_cut: record.prompt_cut as usize,
            images,
            responses: responses.iter().map(response).collect(),
        })
    }

    /// Bytes of a section. The lengths that ask for them may be damaged, so they are checked before anything is allocated.
    pub(crate) fn read(&self, section: Section, at: u64, len: usize) -> Result<Vec<u8>, StoreError> {
        if at.checked_add(len as u64).is_none_or(|end| end > self.section_len(section)) {
            return Err(self.damaged("a record leads beyond its section".to_owned()));
        }
        let mut bytes = vec![0; len];
        self.read_into(section, at, &mut bytes)?;
        Ok(bytes)
    }

    pub(crate) fn read_into(&self, section: Section, at: u64, bytes: &mut [u8]) -> Result<(), StoreError> {
        let read = match (&self.body, section) {
            (Body::Shared { file, .. }, _) => read_exact_at(file, bytes, self.section_at(section) + at),
            (Body::Private(spools), Section::Tokens) => spools.tokens.read_exact_at(bytes, at),
            (Body::Private(spools), Section::Responses) => spools.responses.read_exact_at(bytes, at),
            (Body::Private(spools), Section::Groups) => spools.groups.read_exact_at(bytes, at),
        };
        match read {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Err(self.damaged("the file ends before its last section".to_owned()))
            }
            read => read.map_err(|source| StoreError::Read { path: self.name(), source }),
        }
    }

    fn section_at(&self, section: Section) -> u64 {
        match section {
            Section::Tokens => HEADER_BYTES,
            Section::Responses => self.lengths.responses_at(),
            Section::Groups => self.lengths.groups_at(),
        }
    }

    /// Bytes of a section.
    pub(crate) fn section_len(&self, section: Section) -> u64 {
        match section {
            Section::Tokens => self.lengths.tokens,
            Section::Responses => self.lengths.num_responses * RESPONSE_BYTES as u64,
            Section::Groups => self.lengths.num_groups * GROUP_BYTES as u64,
        }
    }

    pub(crate) fn damaged(&self, what: String) -> StoreError {
        // Otherwise the next run would trust the file as this one did.
        self.is_damaged.store(true, Ordering::Relaxed);
        self.checked.iter().for_each(Memo::forget);
        StoreError::Damaged { path: self.name(), what }
    }

    fn name(&self) -> PathBuf {
        self.path().map_or_else(|| PathBuf::from("the private file of the run's tokens"), Path::to_owned)
    }
}
