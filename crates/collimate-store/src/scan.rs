//! Reads the groups of a store in order, with few calls to the system.

use std::ops::Range;

use collimate_text::TokenizedGroup;

use crate::error::StoreError;
use crate::format::{GROUP_BYTES, GroupRecord, RESPONSE_BYTES, ResponseHead};
use crate::groups::{GroupStore, Section};
use crate::head::{GroupHead, head, num_bytes};

/// Bytes of a section that are read at a time.
const WINDOW_BYTES: usize = 256 << 10;

impl GroupStore {
    /// All groups in order.
    pub fn groups(&self) -> GroupScan<'_> {
        GroupScan::new(self, 0..self.len())
    }

    /// All groups in order, without their tokens.
    pub fn heads(&self) -> HeadScan<'_> {
        HeadScan::new(self)
    }
}

/// A part of a section that moves along with what is read.
#[derive(Debug)]
struct Window {
    section: Section,
    start: u64,
    bytes: Vec<u8>,
}

impl Window {
    fn new(section: Section) -> Self {
        Self { section, start: 0, bytes: Vec::new() }
    }

    /// `len` bytes from `at` on.
    fn get(&mut self, store: &GroupStore, at: u64, len: usize) -> Result<&[u8], StoreError> {
        let end = at.checked_add(len as u64).filter(|end| *end <= store.section_len(self.section));
        let Some(end) = end else { return Err(store.damaged("a record leads beyond its section".to_owned())) };
        if at < self.start || end > self.start + self.bytes.len() as u64 {
            let left = store.section_len(self.section) - at;
            self.bytes.clear();
            self.bytes.shrink_to(WINDOW_BYTES);
            self.bytes.resize(len.max(WINDOW_BYTES).min(usize::try_from(left).unwrap_or(usize::MAX)), 0);
            self.start = at;
            store.read_into(self.section, at, &mut self.bytes)?;
        }
        let offset = (at - self.start) as usize;
        Ok(&self.bytes[offset..offset + len])
    }
}

/// A group's record with its responses.
#[derive(Debug)]
struct Record {
    position: usize,
    group: GroupRecord,
    responses: Vec<ResponseHead>,
}

/// Records in order.
#[derive(Debug)]
struct Records<'a> {
    store: &'a GroupStore,
    groups: Window,
    responses: Window,
    positions: Range<usize>,
}

impl<'a> Records<'a> {
    fn new(store: &'a GroupStore, positions: Range<usize>) -> Self {
        Self { store, groups: Window::new(Section::Groups), responses: Window::new(Section::Responses), positions }
    }

    fn read(&mut self, position: usize) -> Result<Record, StoreError> {
        let bytes = self.groups.get(self.store, (position * GROUP_BYTES) as u64, GROUP_BYTES)?;
        let group = GroupRecord::from_bytes(bytes.first_chunk().unwrap_or(&[0; GROUP_BYTES]));
        let at = group.first_response.saturating_mul(RESPONSE_BYTES as u64);
        let bytes = self.responses.get(self.store, at, group.num_responses as usize * RESPONSE_BYTES)?;
        let responses = self.store.check(&group, bytes, position)?;
        Ok(Record { position, group, responses })
    }

    /// The next record; nothing follows an error.
    fn next(&mut self) -> Option<Result<Record, StoreError>> {
        let position = self.positions.next()?;
        let read = self.read(position);
        if read.is_err() {
            self.positions = 0..0;
        }
        Some(read)
    }
}

/// Iterates over all groups without their tokens.
#[derive(Debug)]
pub struct HeadScan<'a>(Records<'a>);

impl<'a> HeadScan<'a> {
    pub(crate) fn new(store: &'a GroupStore) -> Self {
        Self(Records::new(store, 0..store.len()))
    }
}

impl Iterator for HeadScan<'_> {
    type Item = Result<GroupHead, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.0.next()?.map(|record| head(&record.group, record.responses)))
    }
}

/// Iterates over groups in order.
#[derive(Debug)]
pub struct GroupScan<'a> {
    records: Records<'a>,
    tokens: Window,
}

impl<'a> GroupScan<'a> {
    pub(crate) fn new(store: &'a GroupStore, positions: Range<usize>) -> Self {
        Self { records: Records::new(store, positions), tokens: Window::new(Section::Tokens) }
    }
}

impl Iterator for GroupScan<'_> {
    type Item = Result<TokenizedGroup, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        let Record { position, group: record, responses } = match self.records.next()? {
            Ok(read) => read,
            Err(error) => return Some(Err(error)),
        };
        let store = self.records.store;
        let len = num_bytes(&record, &responses);
        let group = self.tokens.get(store, record.tokens_at, len);
        let group = group.and_then(|bytes| store.decode(&record, &responses, bytes, position));
        if group.is_err() {
            self.records.positions = 0..0;
        }
        Some(group)
    }
}
