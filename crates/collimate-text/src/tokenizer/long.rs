//! Long texts, encoded in pieces: the crate `tokenizers` takes some 260 bytes of memory a byte of text.
//!
//! The ids are those of the whole text. A piece is encoded with some of the text before it, so that what a tokenizer does to
//! the start of a text is done to what is not used. Two neighbors meet at a place where both have the end of a token,
//! with the same tokens on both sides of it: between words, where pre-tokenization divides the text, or inside a word of byte
//! pairs. Merges depend on their two neighbors only, so such pieces together are the encoding of both: each pair
//! of tokens that meet is in one of them. No place is next to more than one white space, since what patterns do with white
//! space depends on where it ends.

use std::sync::{Mutex, PoisonError};

use collimate_chat::with_memory;
use tokenizers::{Encoding, Model, ModelWrapper, OffsetType, PreTokenizer};

use super::kept::{Keep, Kept, LeftOut};
use super::{TextTokenizer, guard};
use crate::TextError;
use crate::unusable::MEMORY_REMEDY;

/// Texts of up to this many bytes are encoded at once, and longer ones in pieces of as many.
pub(crate) const PIECE_BYTES: usize = 64 << 10;
/// Texts without places to divide them are encoded at once up to this many bytes, one at a time. Where there is memory this
/// limit and the next grow ([`with_memory`]).
pub(crate) const MOST_WHOLE_BYTES: usize = 1 << 20;
/// The longest text that is tokenized: a prompt or a response, as the chat template writes it.
pub(crate) const MAX_TEXT_BYTES: usize = 4 << 20;
/// Places between words that are tried, and then as many inside them.
const MOST_PLACES: usize = 4;

/// Tokens before a place among which a word's beginning is looked for.
const NEAR_TOKENS: usize = 64;

/// How a text is divided.
#[derive(Debug, Clone, Copy)]
struct Division {
    /// Bytes of a piece.
    piece: usize,
    /// Bytes on either side of a place where pieces meet that both have encoded. Half of them are compared.
    shared: usize,
}

const DIVISION: Division = Division { piece: PIECE_BYTES, shared: 4 << 10 };

/// Taken to encode a long text at once.
static AT_ONCE: Mutex<()> = Mutex::new(());

/// One token of a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Token {
    id: u32,
    /// Its bytes in the whole text.
    start: usize,
    end: usize,
}

/// Tokens of a part of the text.
struct Piece {
    /// Where it ends in the whole text.
    end: usize,
    tokens: Vec<Token>,
    /// Number of the word that each token belongs to, as pre-tokenization divides the piece.
    words: Vec<Option<u32>>,
}

/// Ids of a text, and what the tokenizer puts around them.
pub(super) struct Framed {
    pub(super) before: Vec<u32>,
    pub(super) ids: Vec<u32>,
    pub(super) left_out: LeftOut,
    pub(super) after: Vec<u32>,
}

impl TextTokenizer {
    /// Lets longer texts through where `memory` bytes may be used: 4 MiB up to 1 GiB, and up to 64 MiB in proportion.
    pub fn with_memory(mut self, memory: u64) -> Self {
        self.memory = memory;
        self.chat_template = self.chat_template.map(|template| template.with_memory(memory));
        self
    }

    /// Bytes of the longest text that is tokenized.
    pub fn max_text_bytes(&self) -> usize {
        with_memory(MAX_TEXT_BYTES, self.memory)
    }

    /// Encodes a text of any length. `keep` is for the ids of long ones.
    pub(super) fn framed(&self, text: &str, add_special_tokens: bool, keep: Keep) -> Result<Framed, TextError> {
        if let Some(framed) = self.by_words(text, add_special_tokens, keep)? {
            return Ok(framed);
        }
        if text.len() <= PIECE_BYTES {
            return Ok(framed(&self.encoding(text, add_special_tokens)?));
        }
        if let Some(framed) = self.in_pieces(text, add_special_tokens, DIVISION, keep)? {
            return Ok(framed);
        }
        let limit = with_memory(MOST_WHOLE_BYTES, self.memory);
        if text.len() > limit {
            let problem = format!(
                "a text of {} bytes cannot be divided without changing its tokens, and at most {limit} bytes are \
                 encoded at once; {MEMORY_REMEDY}",
                text.len()
            );
            return Err(TextError::Encoding { problem });
        }
        let _alone = AT_ONCE.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(framed(&self.encoding(text, add_special_tokens)?))
    }

    /// Encodes a text in pieces; `None` if it has no places for that.
    fn in_pieces(
        &self,
        text: &str,
        add_special_tokens: bool,
        division: Division,
        keep: Keep,
    ) -> Result<Option<Framed>, TextError> {
        // What stands around a text does not depend on it.
        let mut around = framed(&self.encoding("a", add_special_tokens)?);
        let only: Vec<u32> = self.piece("a", 0, 1)?.tokens.iter().map(|token| token.id).collect();
        if around.ids != only {
            return Ok(None);
        }
        let mut kept = Kept::new(keep, text.len());
        let mut from = 0;
        let mut piece = self.piece(text, 0, text.floor_char_boundary(division.piece))?;
        while piece.end < text.len() {
            let Some((place, next)) = self.next_piece(text, from, &piece, division)? else { return Ok(None) };
            kept.extend(&piece.between(from, place));
            (from, piece) = (place, next);
        }
        kept.extend(&piece.between(from, text.len() + 1));
        (around.ids, around.left_out) = kept.finish();
        Ok(Some(around))
    }

    /// The place where the piece after this one takes over, and that piece.
    fn next_piece(
        &self,
        text: &str,
        from: usize,
        piece: &Piece,
        division: Division,
    ) -> Result<Option<(usize, Piece)>, TextError> {
        let may_divide_words = matches!(self.tokenizer.get_model(), ModelWrapper::BPE(_));
        let (first, last) = (from + division.piece / 2, piece.end - division.shared);
        let places = || piece.places(first, last);
        let between_words = places().filter(|place| is_between_words(text, *place)).take(MOST_PLACES);
        let others = places().filter(|place| is_inside_text(text, *place)).take(MOST_PLACES);
        for place in between_words.chain(others) {
            let Some(start) = piece.start_before(place - division.shared) else { continue };
            let end = text.floor_char_boundary((place + division.piece).min(text.len()));
            let next = self.piece(text, start, end)?;
            if piece.meets(&next, place, may_divide_words, division.shared / 2) {
                return Ok(Some((place, next)));
            }
        }
        Ok(None)
    }

    /// Encodes a part of a text, without what the tokenizer puts around it.
    fn piece(&self, text: &str, start: usize, end: usize) -> Result<Piece, TextError> {
        let tokenizer = &self.tokenizer;
        let encoded = guard::guarded(|| {
            let added = tokenizer.get_added_vocabulary();
            let mut words = added.extract_and_normalize(tokenizer.get_normalizer(), &text[start..end]);
            if let Some(pre_tokenizer) = tokenizer.get_pre_tokenizer() {
                pre_tokenizer.pre_tokenize(&mut words)?;
            }
            words.tokenize(|word| tokenizer.get_model().tokenize(word.get()))?;
            words.into_encoding(None, 0, OffsetType::Byte)
        });
        let encoded = encoded.map_err(|problem| TextError::Encoding { problem })?;
        let ids = encoded.get_ids().iter().zip(encoded.get_offsets());
        let tokens = ids.map(|(id, offsets)| Token { id: *id, start: start + offsets.0, end: start + offsets.1 });
        let mut tokens: Vec<Token> = tokens.collect();
        if !tokens.is_sorted_by_key(|token| token.start) {
            // Without tokens there is no place for another piece.
            tokens.clear();
        }
        Ok(Piece { end, tokens, words: encoded.get_word_ids().to_vec() })
    }
}

impl Piece {
    /// Where tokens begin, from the last at or before `last` down to `first`.
    fn places(&self, first: usize, last: usize) -> impl Iterator<Item = usize> + '_ {
        let end = self.index(last + 1);
        self.tokens[..end].iter().rev().map(|token| token.start).take_while(move |start| *start >= first)
    }

    /// Where the next piece may begin, at or before `last`: with a word if one is near, since patterns that count
    /// characters begin to count there.
    fn start_before(&self, last: usize) -> Option<usize> {
        let begins_a_word = |start: &usize| {
            let index = self.index(*start);
            index == 0 || self.words[index] != self.words[index - 1]
        };
        self.places(0, last).take(NEAR_TOKENS).find(begins_a_word).or_else(|| self.places(0, last).next())
    }

    /// Index of the first token that begins at or after a place.
    fn index(&self, place: usize) -> usize {
        self.tokens.partition_point(|token| token.start < place)
    }

    /// Ids of the tokens that begin between two places.
    fn between(&self, from: usize, to: usize) -> Vec<u32> {
        self.tokens[self.index(from)..self.index(to)].iter().map(|token| token.id).collect()
    }

    /// Whether this piece up to a place, and from there on the next one, are together what both would be in one.
    fn meets(&self, next: &Self, place: usize, may_divide_words: bool, compared: usize) -> bool {
        let ends_here = |piece: &Self| {
            let index = piece.index(place);
            let (before, after) = piece.tokens.split_at(index);
            let is_there = before.last().is_some_and(|token| token.end <= place)
                && after.first().is_some_and(|token| token.start == place);
            let divides_a_word = is_there && piece.words[index] == piece.words[index - 1];
            (is_there, divides_a_word)
        };
        let ((is_mine, divides_mine), (is_theirs, divides_theirs)) = (ends_here(self), ends_here(next));
        if !is_mine || !is_theirs || divides_mine != divides_theirs || (divides_mine && !may_divide_words) {
            return false;
        }
        let (first, last) = (place - compared, self.end - compared);
        let shared = |piece: &Self, from: usize, to: usize| piece.tokens[piece.index(from)..piece.index(to)].to_vec();
        let before = shared(self, first, place);
        !before.is_empty()
            && before == shared(next, first, place)
            && shared(self, place, last) == shared(next, place, last)
    }
}

/// Whether a place is before or after a single white space, with text on both sides of that.
fn is_between_words(text: &str, place: usize) -> bool {
    let Some((before, after)) = text.split_at_checked(place) else { return false };
    let (mut before, mut after) = (before.chars().rev(), after.chars());
    let (last, first) = (before.next(), after.next());
    let is_space = |character: Option<char>| character.is_some_and(|character| character.is_ascii_whitespace());
    // Others might combine with the white space.
    let begins_text =
        |character: Option<char>| character.is_some_and(|c| c.is_alphanumeric() || c.is_ascii_punctuation());
    let ends_text = |character: Option<char>| character.is_some_and(|character| !character.is_whitespace());
    (ends_text(last) && is_space(first) && begins_text(after.next()))
        || (ends_text(before.next()) && is_space(last) && begins_text(first))
}

/// Whether neither side of a place is white space.
fn is_inside_text(text: &str, place: usize) -> bool {
    let Some((before, after)) = text.split_at_checked(place) else { return false };
    let is_text = |character: Option<char>| character.is_some_and(|character| !character.is_whitespace());
    is_text(before.chars().next_back()) && is_text(after.chars().next())
}

/// The ids of an encoding, and those that the tokenizer put around them.
pub(super) fn framed(encoding: &Encoding) -> Framed {
    let (ids, marks) = (encoding.get_ids(), encoding.get_special_tokens_mask());
    let is_put = |mask: &&u32| **mask == 1;
    let before = marks.iter().take_while(is_put).count();
    let after = marks.len() - marks[before..].iter().rev().take_while(is_put).count();
    let [before, ids, after] = [&ids[..before], &ids[before..after], &ids[after..]].map(<[u32]>::to_vec);
    Framed { before, ids, left_out: LeftOut::default(), after }
}

#[cfg(test)]
pub(crate) mod tests;
