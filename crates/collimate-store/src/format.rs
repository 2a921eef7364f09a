//! How groups are laid out in bytes.
//!
//! ```text
//! header   magic, version, key                                          64 bytes
//! tokens   prompt and responses of each group, `width` bytes a token, then the prompt's images
//! responses  tokens, tokens cut, reward                                 16 bytes each
//! groups   place in the data, places in the sections above, checksums   64 bytes each
//! facts    what a run says about its data, as JSON
//! trailer  lengths of all sections, and a checksum of these and of the facts   64 bytes
//! ```
//!
//! Numbers are little-endian. Checksums are keyed by the store's key, so that no part of another store passes for one of this.

use blake3::Hash;
use collimate_text::{TokenizedGroup, TokenizedResponse};

/// What a store begins with: the format and its version.
pub(crate) const MAGIC: &[u8; 32] = b"collimate tokens, version 000002";
/// Bytes of the header: magic and key.
pub(crate) const HEADER_BYTES: u64 = 64;
/// Bytes of a response's record.
pub(crate) const RESPONSE_BYTES: usize = 16;
/// Bytes of a group's record.
pub(crate) const GROUP_BYTES: usize = 72;
/// Bytes of the trailer.
pub(crate) const TRAILER_BYTES: usize = 64;

/// Most bytes of a group's images.
pub(crate) const MAX_IMAGE_BYTES: usize = (1 << 29) - 1;

/// The first bytes of a keyed hash.
pub(crate) type Checksum = [u8; 8];

/// A group's record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct GroupRecord {
    pub(crate) index: u64,
    pub(crate) line: u64,
    /// Where its tokens begin, from the start of the section.
    pub(crate) tokens_at: u64,
    /// Number of its first response.
    pub(crate) first_response: u64,
    pub(crate) prompt_tokens: u32,
    pub(crate) prompt_cut: u32,
    pub(crate) num_responses: u32,
    /// Bytes of a token: 0 to 4. At 0 every token is 0.
    pub(crate) width: u32,
    /// Bytes of the images behind the tokens.
    pub(crate) image_bytes: u32,
    /// Tokens of the prompt that are images'.
    pub(crate) image_tokens: u32,
    /// Of the tokens.
    pub(crate) tokens_checksum: Checksum,
    /// Of this record and those of its responses.
    pub(crate) checksum: Checksum,
}

/// A response without its tokens.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ResponseHead {
    /// Tokens.
    pub tokens: u32,
    /// Tokens that truncation removed from the end.
    pub num_cut: u32,
    /// Scalar reward; higher is better.
    pub reward: f64,
}

pub(crate) fn checksum(key: &Hash, parts: &[&[u8]]) -> Checksum {
    let mut hasher = blake3::Hasher::new_keyed(key.as_bytes());
    parts.iter().for_each(|part| {
        hasher.update(part);
    });
    hasher.finalize().as_bytes().first_chunk().copied().unwrap_or_default()
}

impl ResponseHead {
    pub(crate) fn new(response: &TokenizedResponse) -> Self {
        Self { tokens: response.ids.len() as u32, num_cut: response.num_cut as u32, reward: response.reward }
    }

    pub(crate) fn to_bytes(self) -> [u8; RESPONSE_BYTES] {
        let mut bytes = [0; RESPONSE_BYTES];
        bytes[..4].copy_from_slice(&self.tokens.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.num_cut.to_le_bytes());
        bytes[8..].copy_from_slice(&self.reward.to_le_bytes());
        bytes
    }

    pub(crate) fn from_bytes(bytes: &[u8; RESPONSE_BYTES]) -> Self {
        Self { tokens: u32_at(bytes, 0), num_cut: u32_at(bytes, 4), reward: f64::from_bits(u64_at(bytes, 8)) }
    }
}

impl GroupRecord {
    /// The record without its own checksum.
    fn content(&self) -> [u8; GROUP_BYTES - 8] {
        let mut bytes = [0; GROUP_BYTES - 8];
        for (at, number) in [self.index, self.line, self.tokens_at, self.first_response].into_iter().enumerate() {
            bytes[8 * at..8 * at + 8].copy_from_slice(&number.to_le_bytes());
        }
        let prompt = [self.prompt_tokens, self.prompt_cut, self.num_responses];
        let numbers = prompt.into_iter().chain([self.width, self.image_bytes, self.image_tokens]);
        for (at, number) in numbers.enumerate() {
            bytes[32 + 4 * at..36 + 4 * at].copy_from_slice(&number.to_le_bytes());
        }
        bytes[56..].copy_from_slice(&self.tokens_checksum);
        bytes
    }

    /// The record with its checksum.
    pub(crate) fn sealed(mut self, key: &Hash, responses: &[u8]) -> [u8; GROUP_BYTES] {
        self.checksum = checksum(key, &[&self.content(), responses]);
        let mut bytes = [0; GROUP_BYTES];
        bytes[..GROUP_BYTES - 8].copy_from_slice(&self.content());
        bytes[GROUP_BYTES - 8..].copy_from_slice(&self.checksum);
        bytes
    }

    pub(crate) fn from_bytes(bytes: &[u8; GROUP_BYTES]) -> Self {
        let eight = |at: usize| bytes[at..].first_chunk().copied().unwrap_or_default();
        Self {
            index: u64_at(bytes, 0),
            line: u64_at(bytes, 8),
            tokens_at: u64_at(bytes, 16),
            first_response: u64_at(bytes, 24),
            prompt_tokens: u32_at(bytes, 32),
            prompt_cut: u32_at(bytes, 36),
            num_responses: u32_at(bytes, 40),
            width: u32_at(bytes, 44),
            image_bytes: u32_at(bytes, 48),
            image_tokens: u32_at(bytes, 52),
            tokens_checksum: eight(56),
            checksum: eight(64),
        }
    }

    /// Whether record and responses are what was written.
    pub(crate) fn is_sound(&self, key: &Hash, responses: &[u8]) -> bool {
        checksum(key, &[&self.content(), responses]) == self.checksum && self.width <= 4
    }
}

/// Lengths of a store's sections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lengths {
    /// Bytes of tokens.
    pub(crate) tokens: u64,
    pub(crate) num_responses: u64,
    pub(crate) num_groups: u64,
    /// Bytes of the facts.
    pub(crate) facts: u64,
}

impl Lengths {
    pub(crate) fn responses_at(&self) -> u64 {
        HEADER_BYTES + self.tokens
    }

    pub(crate) fn groups_at(&self) -> u64 {
        self.responses_at() + self.num_responses * RESPONSE_BYTES as u64
    }

    pub(crate) fn facts_at(&self) -> u64 {
        self.groups_at() + self.num_groups * GROUP_BYTES as u64
    }

    /// Bytes of the whole file.
    pub(crate) fn file(&self) -> u64 {
        self.facts_at() + self.facts + TRAILER_BYTES as u64
    }

    pub(crate) fn trailer(&self, key: &Hash, facts: &[u8]) -> [u8; TRAILER_BYTES] {
        let mut bytes = [0; TRAILER_BYTES];
        let numbers = [self.tokens, self.num_responses, self.num_groups, self.facts];
        for (at, number) in numbers.into_iter().enumerate() {
            bytes[8 * at..8 * at + 8].copy_from_slice(&number.to_le_bytes());
        }
        let mut hasher = blake3::Hasher::new_keyed(key.as_bytes());
        let hash = hasher.update(&bytes[..32]).update(facts).finalize();
        bytes[32..].copy_from_slice(hash.as_bytes());
        bytes
    }

    /// The lengths of a trailer, if they add up to the file's; its checksum is not looked at.
    pub(crate) fn from_trailer(bytes: &[u8; TRAILER_BYTES], file: u64) -> Option<Self> {
        let [tokens, num_responses, num_groups, facts] = [0, 8, 16, 24].map(|at| u64_at(bytes, at));
        let responses = num_responses.checked_mul(RESPONSE_BYTES as u64)?;
        let groups = num_groups.checked_mul(GROUP_BYTES as u64)?;
        let sections = [tokens, responses, groups, facts, TRAILER_BYTES as u64];
        let all = sections.into_iter().try_fold(HEADER_BYTES, u64::checked_add)?;
        (all == file).then_some(Self { tokens, num_responses, num_groups, facts })
    }
}

/// Bytes of a token that hold every id of a group.
pub(crate) fn width(group: &TokenizedGroup) -> u32 {
    let responses = group.responses.iter().flat_map(|response| &response.ids);
    let largest = group.prompt_ids.iter().chain(responses).copied().max().unwrap_or(0);
    4 - largest.leading_zeros() / 8
}

/// Appends tokens of `width` bytes.
pub(crate) fn push_tokens(bytes: &mut Vec<u8>, ids: &[u32], width: u32) {
    ids.iter().for_each(|id| bytes.extend_from_slice(&id.to_le_bytes()[..width as usize]));
}

/// Tokens of `width` bytes.
pub(crate) fn tokens(bytes: &[u8], width: u32, count: usize) -> Vec<u32> {
    if width == 0 {
        return vec![0; count];
    }
    let id = |token: &[u8]| {
        let mut id = [0; 4];
        id[..token.len()].copy_from_slice(token);
        u32::from_le_bytes(id)
    };
    bytes.chunks_exact(width as usize).map(id).collect()
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes[at..].first_chunk().map_or(0, |eight| u64::from_le_bytes(*eight))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes[at..].first_chunk().map_or(0, |four| u32::from_le_bytes(*four))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_take_as_many_bytes_as_the_largest_needs() {
        for (ids, expected) in
            [(vec![0, 0], 0), (vec![255], 1), (vec![256, 1], 2), (vec![1 << 16], 3), (vec![u32::MAX], 4)]
        {
            let group = TokenizedGroup {
                index: 0,
                line: 1,
                prompt_ids: ids.clone(),
                num_prompt_cut: 0,
                images: Vec::new(),
                responses: vec![],
            };
            let width = width(&group);
            assert_eq!(width, expected, "{ids:?}");
            let mut bytes = Vec::new();
            push_tokens(&mut bytes, &ids, width);
            assert_eq!((bytes.len(), tokens(&bytes, width, ids.len())), (ids.len() * width as usize, ids));
        }
    }

    #[test]
    fn a_trailer_that_does_not_add_up_is_none() {
        let lengths = Lengths { tokens: 10, num_responses: 4, num_groups: 2, facts: 3 };
        let trailer = lengths.trailer(&blake3::hash(b"key"), b"{ }");
        assert_eq!(Lengths::from_trailer(&trailer, lengths.file()), Some(lengths));
        assert_eq!(Lengths::from_trailer(&trailer, lengths.file() + 1), None);
        assert_eq!(Lengths::from_trailer(&[0xff; TRAILER_BYTES], lengths.file()), None);
    }
}
