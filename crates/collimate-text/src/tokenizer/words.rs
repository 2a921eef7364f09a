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
use super::kept::{Keep, Kept};
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

/// A part of a text: up to and with a token that was looked for, or up to the end.
#[derive(Debug)]
struct Span<'a> {
    text: &'a str,
    /// The id of the token that follows, if one does, unless its surroundings matter.
    token: Option<Option<u32>>,
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

    /// Divides a text at these tokens.
    fn spans<'a>(&'a self, text: &'a str) -> impl Iterator<Item = Span<'a>> {
        let (mut tokens, mut from) = (self.finder.find_iter(text), Some(0));
        std::iter::from_fn(move || {
            let start = from?;
            let token = tokens.next();
            from = token.map(|token| token.end());
            let text = &text[start..token.map_or(text.len(), |token| token.start())];
            Some(Span { text, token: token.map(|token| self.ids[token.pattern().as_usize()]) })
        })
    }

    /// Whether a text has no token whose surroundings matter.
    fn may_divide(&self, text: &str, composes: bool) -> bool {
        if self.ids.iter().all(Option::is_some) && self.normalized.is_none() {
            return true;
        }
        let may_have = |text: &str| match &self.normalized {
            Some(finder) => finder.is_match(text) || (composes && !text.is_ascii()),
            None => false,
        };
        self.spans(text).all(|span| span.token != Some(None) && !may_have(span.text))
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
    pub(super) fn by_words(
        &self,
        text: &str,
        add_special_tokens: bool,
        keep: Keep,
    ) -> Result<Option<Framed>, TextError> {
        let Some(words) = self.words.as_ref().filter(|words| words.added.may_divide(text, words.composes)) else {
            return Ok(None);
        };
        let mut table = words.table();
        let mut kept = Kept::new(keep, text.len());
        let encoded: Result<bool, TextError> = words.added.spans(text).try_fold(true, |is_whole, span| {
            let is_whole = is_whole && self.add_words(words, &mut table, span.text, &mut kept)?;
            kept.extend(span.token.flatten().as_slice());
            Ok(is_whole)
        });
        words.give_back(table);
        let (before, after) = words.around[usize::from(add_special_tokens)].clone();
        let (ids, left_out) = kept.finish();
        Ok(encoded?.then_some(Framed { before, ids, left_out, after }))
    }

    /// Appends the ids of a text without added tokens; returns whether every part is short enough to be encoded at once.
    fn add_words(&self, words: &Words, table: &mut Table, text: &str, kept: &mut Kept) -> Result<bool, TextError> {
        for word in words.parts(text) {
            if let Some((first, count)) = table.words.get(word) {
                kept.extend(&table.ids[*first as usize..(first + count) as usize]);
                continue;
            }
            if word.len() > PIECE_BYTES {
                return Ok(false);
            }
            let encoding = self.encoding(word, false)?;
            kept.extend(encoding.get_ids());
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
