//! Texts word by word: a text is cut where no token can reach across ([`cuts`]), and each part is looked up in a table of those
//! that were encoded before. The crate `tokenizers` encodes the others, so the ids are its own.
//!
//! That takes less than a tenth of the time, and memory for the ids only, however long the text is.

mod cuts;

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use aho_corasick::{AhoCorasick, MatchKind};
use tokenizers::{AddedToken, NormalizerWrapper, Tokenizer};

use super::TextTokenizer;
use super::guard::guarded;
use super::long::{Framed, PIECE_BYTES, framed};
use crate::TextError;
use cuts::Cuts;

/// Words of a table; then it begins anew.
const MOST_WORDS: usize = 1 << 15;
/// Longer words are not kept: they hardly return.
const MOST_WORD_BYTES: usize = 48;

/// Words that were encoded, with their ids.
#[derive(Debug, Default)]
struct Table {
    /// Where each word's ids are: the first, and their number.
    words: HashMap<Box<str>, (u32, u32)>,
    ids: Vec<u32>,
}

/// How a tokenizer's texts are cut, and the words met so far.
#[derive(Debug)]
pub(super) struct Words {
    cuts: Cuts,
    /// Whether texts are brought into Unicode's form C before they are divided.
    composes: bool,
    added: Added,
    /// What stands around a text without and with special tokens.
    around: [(Vec<u32>, Vec<u32>); 2],
    /// One for each thread that encodes at the same time.
    tables: Mutex<Vec<Table>>,
}

/// Tokens that are looked for before a text is divided into words.
#[derive(Debug)]
struct Added {
    finder: AhoCorasick,
    /// By pattern: its id, unless white space or words around it matter.
    ids: Vec<Option<u32>>,
    /// Those that are looked for in what is left.
    normalized: Option<AhoCorasick>,
}

/// A part of a text: a token that was looked for, or the text between two.
#[derive(Debug, PartialEq, Eq)]
enum Span<'a> {
    Token(u32),
    Text(&'a str),
}

impl Added {
    fn new(tokenizer: &Tokenizer) -> Option<Self> {
        let splits_special = tokenizer.get_added_vocabulary().get_encode_special_tokens();
        let tokens = tokenizer.get_added_tokens_decoder();
        let (normalized, others): (Vec<_>, Vec<_>) =
            tokens.iter().filter(|(_, token)| !token.content.is_empty()).partition(|(_, token)| token.normalized);
        let finder = |tokens: &[(&u32, &AddedToken)]| {
            let texts = tokens.iter().map(|(_, token)| &token.content);
            AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(texts).ok()
        };
        let id = |(id, token): &(&u32, &AddedToken)| {
            let depends = token.single_word || token.lstrip || token.rstrip || splits_special;
            (!depends).then_some(**id)
        };
        Some(Self {
            finder: finder(&others)?,
            ids: others.iter().map(id).collect(),
            normalized: if normalized.is_empty() { None } else { Some(finder(&normalized)?) },
        })
    }

    /// Divides a text at these tokens; `None` if one is there whose surroundings matter.
    fn spans<'a>(&self, text: &'a str, composes: bool) -> Option<Vec<Span<'a>>> {
        let (mut spans, mut from) = (Vec::new(), 0);
        for found in self.finder.find_iter(text) {
            spans.push(Span::Text(&text[from..found.start()]));
            spans.push(Span::Token(self.ids[found.pattern().as_usize()]?));
            from = found.end();
        }
        spans.push(Span::Text(&text[from..]));
        let may_have = |span: &Span<'_>| match (&self.normalized, span) {
            (Some(finder), Span::Text(text)) => finder.is_match(text) || (composes && !text.is_ascii()),
            _ => false,
        };
        (!spans.iter().any(may_have)).then_some(spans)
    }
}

impl Words {
    /// Those of a tokenizer; `None` if it is not known to divide texts so.
    pub(super) fn new(tokenizer: &Tokenizer) -> Option<Self> {
        let cuts = Cuts::of(tokenizer.get_pre_tokenizer()?)?;
        let (cuts, composes) = match tokenizer.get_normalizer() {
            None => (cuts, false),
            Some(NormalizerWrapper::NFC(_)) => (cuts.with_composition(), true),
            Some(_) => return None,
        };
        // What stands around a text does not depend on it.
        let encoded = |special| guarded(|| tokenizer.encode_fast("a", special)).ok().map(|a| framed(&a));
        let [without, with] = [false, true].map(encoded);
        let (without, with) = (without?, with?);
        if without.ids != with.ids || !without.before.is_empty() || !without.after.is_empty() {
            return None;
        }
        let around = [without, with].map(|framed| (framed.before, framed.after));
        Some(Self { cuts, composes, added: Added::new(tokenizer)?, around, tables: Mutex::default() })
    }

    /// A table to work with.
    fn table(&self) -> Table {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    fn give_back(&self, table: Table) {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner).push(table);
    }

    /// The parts of a text that are encoded by themselves.
    fn parts<'a>(&'a self, text: &'a str) -> impl Iterator<Item = &'a str> {
        let (mut characters, mut from, mut before) = (text.char_indices().peekable(), 0, None);
        std::iter::from_fn(move || {
            for (at, after) in characters.by_ref() {
                let is_cut = before.replace(after).is_some_and(|before| self.cuts.between(before, after));
                // An accent may make another character of the one that it follows, but not of white space.
                let stays = || {
                    let next = text[at + after.len_utf8()..].chars().next();
                    !self.composes || after.is_ascii_whitespace() || next.is_none_or(|next| next.is_ascii())
                };
                if is_cut && stays() {
                    let part = &text[from..at];
                    from = at;
                    return Some(part);
                }
            }
            let last = &text[from..];
            from = text.len();
            (!last.is_empty()).then_some(last)
        })
    }
}

impl TextTokenizer {
    /// Encodes a text word by word; `None` if it cannot be.
    pub(super) fn by_words(&self, text: &str, add_special_tokens: bool) -> Result<Option<Framed>, TextError> {
        let Some(words) = &self.words else { return Ok(None) };
        let Some(spans) = words.added.spans(text, words.composes) else { return Ok(None) };
        let mut table = words.table();
        let mut ids = Vec::with_capacity(text.len() / 4);
        let encoded: Result<bool, TextError> = spans.iter().try_fold(true, |is_whole, span| match span {
            Span::Token(id) => {
                ids.push(*id);
                Ok(is_whole)
            }
            Span::Text(text) => Ok(is_whole && self.add_words(words, &mut table, text, &mut ids)?),
        });
        words.give_back(table);
        let (before, after) = words.around[usize::from(add_special_tokens)].clone();
        Ok(encoded?.then_some(Framed { before, ids, after }))
    }

    /// Appends the ids of a text without added tokens; returns whether every part is short enough to be encoded at once.
    fn add_words(&self, words: &Words, table: &mut Table, text: &str, ids: &mut Vec<u32>) -> Result<bool, TextError> {
        for word in words.parts(text) {
            if let Some((first, count)) = table.words.get(word) {
                ids.extend_from_slice(&table.ids[*first as usize..(first + count) as usize]);
                continue;
            }
            if word.len() > PIECE_BYTES {
                return Ok(false);
            }
            let encoding = self.encoding(word, false)?;
            ids.extend_from_slice(encoding.get_ids());
            if word.len() <= MOST_WORD_BYTES {
                table.keep(word, encoding.get_ids());
            }
        }
        Ok(true)
    }
}

impl Table {
    fn keep(&mut self, word: &str, ids: &[u32]) {
        if self.words.len() == MOST_WORDS {
            self.words.clear();
            self.ids.clear();
        }
        self.words.insert(word.into(), (self.ids.len() as u32, ids.len() as u32));
        self.ids.extend_from_slice(ids);
    }
}

#[cfg(test)]
mod tests;
