//! Writes groups, one after the other.

use std::io::{BufWriter, Write};
use std::path::Path;

use blake3::Hash;
use collimate_data::DataFiles;
use collimate_files::{AtomicFile, Spool, SpoolFolder, WriteError};
use collimate_text::{GroupLengths, TokenizedGroup};

use crate::error::StoreError;
use crate::facts::{Facts, Totals, hash_group};
use crate::format::{
    GroupRecord, HEADER_BYTES, Lengths, MAGIC, MAX_IMAGE_BYTES, ResponseHead, checksum, push_tokens, width,
};
use crate::groups::{Body, GroupStore, Spools};
use crate::images::push_images;
use crate::sources::Sources;

/// Bytes of the file that are collected for one write.
const WRITE_BYTES: usize = 1 << 20;

/// A store that is being written: tokens go to the disk at once, and nothing of a group stays in memory.
#[derive(Debug)]
pub(crate) struct Writer {
    key: Hash,
    tokens: Tokens,
    responses: Spool,
    groups: Spool,
    lengths: Lengths,
    totals: Totals,
    content: blake3::Hasher,
    buffer: Vec<u8>,
}

/// Where tokens go.
#[derive(Debug)]
enum Tokens {
    Shared(Box<BufWriter<AtomicFile>>),
    Private(Spool),
}

impl Writer {
    /// Writes `file`, whose path others will find it by.
    pub(crate) fn shared(key: Hash, file: AtomicFile, folder: &SpoolFolder) -> Result<Self, WriteError> {
        let mut file = BufWriter::with_capacity(WRITE_BYTES, file);
        let header = file.write_all(MAGIC).and_then(|()| file.write_all(key.as_bytes()));
        header.map_err(WriteError::at(file.get_ref().path()))?;
        Ok(Self::new(key, Tokens::Shared(Box::new(file)), folder))
    }

    /// Writes for this process only.
    pub(crate) fn private(folder: &SpoolFolder) -> Self {
        Self::new(Hash::from_bytes([0; 32]), Tokens::Private(Spool::new(folder.clone())), folder)
    }

    fn new(key: Hash, tokens: Tokens, folder: &SpoolFolder) -> Self {
        Self {
            key,
            tokens,
            responses: Spool::new(folder.clone()),
            groups: Spool::new(folder.clone()),
            lengths: Lengths { tokens: 0, num_responses: 0, num_groups: 0, facts: 0 },
            totals: Totals::default(),
            content: blake3::Hasher::new(),
            buffer: Vec::new(),
        }
    }

    /// Number of groups so far.
    pub(crate) fn len(&self) -> usize {
        self.totals.num_groups
    }

    /// Appends a group.
    pub(crate) fn push(&mut self, group: &TokenizedGroup) -> Result<(), WriteError> {
        let width = width(group);
        self.buffer.clear();
        push_tokens(&mut self.buffer, &group.prompt_ids, width);
        let mut responses = Vec::with_capacity(group.responses.len() * 16);
        for response in &group.responses {
            push_tokens(&mut self.buffer, &response.ids, width);
            responses.extend_from_slice(&ResponseHead::new(response).to_bytes());
        }
        let num_tokens_bytes = self.buffer.len();
        push_images(&mut self.buffer, &group.images);
        let image_bytes = self.buffer.len() - num_tokens_bytes;
        if image_bytes > MAX_IMAGE_BYTES {
            let problem = format!("the images of the prompt of line {} take {image_bytes} bytes", group.line);
            return Err(WriteError::at(Path::new("tokens"))(std::io::Error::other(problem)));
        }
        let record = GroupRecord {
            index: group.index as u64,
            line: group.line as u64,
            tokens_at: self.lengths.tokens,
            first_response: self.lengths.num_responses,
            prompt_tokens: group.prompt_ids.len() as u32,
            prompt_cut: group.num_prompt_cut as u32,
            num_responses: group.responses.len() as u32,
            width,
            image_bytes: image_bytes as u32,
            image_tokens: group.image_tokens() as u32,
            tokens_checksum: checksum(&self.key, &[&self.buffer]),
            checksum: [0; 8],
        };
        match &mut self.tokens {
            Tokens::Shared(file) => {
                file.write_all(&self.buffer).map_err(WriteError::at(file.get_ref().path()))?;
            }
            Tokens::Private(spool) => spool.push(&self.buffer)?,
        }
        self.responses.push(&responses)?;
        self.groups.push(&record.sealed(&self.key, &responses))?;
        self.lengths.tokens += self.buffer.len() as u64;
        self.lengths.num_responses += group.responses.len() as u64;
        self.lengths.num_groups += 1;
        self.totals.add(group);
        hash_group(group, &mut self.content, 0);
        Ok(())
    }

    /// Makes the store visible to others, if it is for them, and opens it.
    ///
    /// `notes` have marks where `sources` have names.
    pub(crate) fn finish(
        mut self,
        notes: Vec<String>,
        files: &DataFiles,
        sources: &Sources,
    ) -> Result<GroupStore, StoreError> {
        let content = self.content.finalize().to_hex().to_string();
        let facts = Facts::new(self.totals, notes, files, content);
        let (tokens, responses, groups) = (self.tokens, self.responses, self.groups);
        let mut file = match tokens {
            Tokens::Private(tokens) => {
                let body = Body::Private(Spools { tokens, responses, groups });
                return Ok(GroupStore::new(self.key, body, self.lengths, facts, sources));
            }
            Tokens::Shared(file) => file,
        };
        let path = file.get_ref().path().to_owned();
        let text = serde_json::to_vec(&facts).map_err(|error| WriteError::at(&path)(error.into()))?;
        self.lengths.facts = text.len() as u64;
        for section in [&responses, &groups] {
            section.for_each_piece(WRITE_BYTES, |piece| file.write_all(piece).map_err(WriteError::at(&path)))?;
        }
        let trailer = self.lengths.trailer(&self.key, &text);
        let end = file.write_all(&text).and_then(|()| file.write_all(&trailer));
        end.map_err(WriteError::at(&path))?;
        let file = file.into_inner().map_err(|error| WriteError::at(&path)(error.into_error()))?;
        // Opened before others see it: from then on one of them might remove it.
        let reader = file.reader().map_err(WriteError::at(&path))?;
        debug_assert!(self.lengths.tokens + HEADER_BYTES <= self.lengths.file());
        file.commit()?;
        Ok(GroupStore::new(self.key, Body::Shared { file: reader, path }, self.lengths, facts, sources))
    }
}
