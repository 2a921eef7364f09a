//! Guards the `tokenizers` crate against hostile files: inspects `tokenizer.json` first, and catches panics.
//!
//! `tokenizers` trusts its files: it indexes by their numbers, unwraps missing fields, recurses as deep as they nest
//! and allocates whatever they claim. A panic can be caught and becomes an error. A stack overflow or a huge allocation
//! cannot, so the file is inspected for those before it is parsed.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use tokenizers::{AddedToken, ModelWrapper, Tokenizer};

use collimate_data::caught;

/// The largest `tokenizer.json`, in bytes. Published ones stay below 35 MB.
pub(super) const MAX_TOKENIZER_BYTES: u64 = 256 << 20;
/// The longest token or pattern, in bytes: a Unigram model's trie has a level per byte and is dropped by recursion.
const MAX_TOKEN_BYTES: usize = 2048;
/// Bytes of all added tokens: the automaton that looks for them takes some 60 bytes a byte. Published ones have 200 kB.
const MAX_ADDED_BYTES: usize = 2 << 20;
/// Limit on nested objects and lists: a sequence of sequences of splits has about twelve levels.
const MAX_NESTING: usize = 24;
/// The longest word that is looked up piece by piece: WordPiece takes its cube in time. Published ones have 100.
const MAX_WORD_CHARACTERS: u64 = 500;
/// Factor by which all replacements together may lengthen a text; each may apply to the result of the one before.
const MAX_GROWTH: f64 = 64.0;

/// Parses a `tokenizer.json`.
pub(super) fn parse(bytes: &[u8]) -> Result<Tokenizer, String> {
    let (mut totals, mut json) = (Totals::default(), serde_json::Deserializer::from_slice(bytes));
    let inspection = Inspection { field: "(the file)", depth: 0, totals: &mut totals };
    inspection.deserialize(&mut json).map_err(|error| error.to_string())?;
    guarded(|| Tokenizer::from_bytes(bytes))
}

/// Turns off the BPE dropout that a file asks for; returns its probability. It is the only thing in a tokenizer's file that
/// is random.
pub(super) fn turn_off_dropout(tokenizer: &mut Tokenizer) -> Option<f32> {
    let ModelWrapper::BPE(model) = tokenizer.get_model() else { return None };
    let dropout = model.dropout.filter(|dropout| *dropout != 0.0)?;
    let mut model = model.clone();
    model.dropout = None;
    tokenizer.with_model(model);
    Some(dropout)
}

/// Runs `tokenizers` and turns its panics into errors.
pub(super) fn guarded<T>(work: impl FnOnce() -> tokenizers::Result<T>) -> Result<T, String> {
    match caught(work) {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(panic) => Err(format!("the tokenizer contradicts itself ({panic})")),
    }
}

/// Checks the bytes of tokens that other files add.
pub(super) fn check_added(tokens: &[AddedToken]) -> Result<(), String> {
    let added = tokens.iter().map(|token| token.content.len()).sum::<usize>();
    match added > MAX_ADDED_BYTES {
        true => Err(format!("added tokens of {added} bytes, at most {MAX_ADDED_BYTES} are read")),
        false => Ok(()),
    }
}

/// Sums over the file so far.
struct Totals {
    /// Factor by which the replacements may lengthen a text.
    growth: f64,
    /// Bytes of added tokens.
    added: usize,
}

impl Default for Totals {
    fn default() -> Self {
        Self { growth: 1.0, added: 0 }
    }
}

/// A visitor that inspects one value of the file.
struct Inspection<'a> {
    /// The field that holds the value.
    field: &'a str,
    depth: usize,
    totals: &'a mut Totals,
}

/// What the enclosing object needs to know about a value.
#[derive(Clone, Copy)]
enum Found {
    /// A string: its length, and whether it names a normalizer that adds text.
    Text {
        len: usize,
        adds: bool,
    },
    /// An object: the length of its field `String`.
    Pattern(Option<usize>),
    Other,
}

impl<'de> DeserializeSeed<'de> for Inspection<'_> {
    type Value = Found;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Found, D::Error> {
        match self.depth > MAX_NESTING {
            true => Err(self.error(format!("it nests deeper than {MAX_NESTING} levels"))),
            false => deserializer.deserialize_any(self),
        }
    }
}

impl<'de> Visitor<'de> for Inspection<'_> {
    type Value = Found;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Found, E> {
        Ok(Found::Other)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Found, E> {
        Ok(Found::Other)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Found, E> {
        Ok(Found::Other)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Found, E> {
        match self.field == "max_input_chars_per_word" && number > MAX_WORD_CHARACTERS {
            true => Err(self.error(format!("{number}, at most {MAX_WORD_CHARACTERS} is read"))),
            false => Ok(Found::Other),
        }
    }

    fn visit_f64<E>(self, _: f64) -> Result<Found, E> {
        Ok(Found::Other)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Found, E> {
        match self.field {
            "precompiled_charsmap" => charsmap(text).map_err(|problem| self.error(problem))?,
            // A merge consists of two tokens.
            "merges" => {}
            _ if text.len() > MAX_TOKEN_BYTES => return Err(self.too_long(text)),
            _ => {}
        }
        Ok(Found::Text { len: text.len(), adds: matches!(text, "Replace" | "Prepend") })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Found, A::Error> {
        let Self { field, depth, totals } = self;
        while items.next_element_seed(Inspection { field, depth: depth + 1, totals })?.is_some() {}
        Ok(Found::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Found, A::Error> {
        let (mut adds, mut added, mut replaced, mut string) = (false, 0, None, None);
        while let Some(name) = fields.next_key::<Cow<'de, str>>()? {
            if name.len() > MAX_TOKEN_BYTES {
                return Err(self.too_long(&name));
            }
            let inspection = Inspection { field: &name, depth: self.depth + 1, totals: self.totals };
            match (&*name, fields.next_value_seed(inspection)?) {
                ("type", Found::Text { adds: true, .. }) => adds = true,
                ("content" | "prepend", Found::Text { len, .. }) => added = len,
                ("pattern", Found::Pattern(len)) => replaced = len,
                ("String", Found::Text { len, .. }) => string = Some(len),
                _ => {}
            }
        }
        if self.field == "added_tokens" {
            self.totals.added += added;
        }
        if self.totals.added > MAX_ADDED_BYTES {
            return Err(self.error(format!("tokens of more than {MAX_ADDED_BYTES} bytes together")));
        }
        if adds {
            self.totals.growth *= (added as f64 / replaced.unwrap_or(1).max(1) as f64).max(1.0);
        }
        match self.totals.growth > MAX_GROWTH {
            true => Err(self.error(format!("replacements make a text more than {MAX_GROWTH} times as long"))),
            false => Ok(Found::Pattern(string)),
        }
    }
}

impl Inspection<'_> {
    fn error<E: Error>(&self, problem: String) -> E {
        E::custom(format!("field \"{}\": {problem}", self.field))
    }

    fn too_long<E: Error>(&self, text: &str) -> E {
        self.error(format!("a text of {} bytes, at most {MAX_TOKEN_BYTES} are read", text.len()))
    }
}

/// Checks the first word of a charsmap: the length of its table, which is allocated before it is read.
fn charsmap(text: &str) -> Result<(), String> {
    let sextet = |byte: u8| match byte {
        b'A'..=b'Z' => Some(u32::from(byte - b'A')),
        b'a'..=b'z' => Some(u32::from(byte - b'a') + 26),
        b'0'..=b'9' => Some(u32::from(byte - b'0') + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    let start = text.bytes().take(6).map(sextet).collect::<Option<Vec<_>>>().filter(|start| start.len() == 6);
    // Not Base64, or empty: the decoder itself reports that.
    let Some(start) = start else { return Ok(()) };
    let bits = start.iter().fold(0_u64, |bits, sextet| bits << 6 | u64::from(*sextet)) >> 4;
    // The first 32 of these 36 bits are a little-endian number.
    let table = (bits as u32).swap_bytes();
    match table as usize > text.len() {
        true => Err("its table is longer than the map".to_owned()),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_a_charsmap_is_no_longer_than_the_map() {
        assert_eq!(charsmap("BAAAAAEAAAA="), Ok(()));
        assert!(charsmap("/////wAAAAA=").is_err());
        assert_eq!(charsmap(""), Ok(()));
    }

    #[test]
    fn added_tokens_are_bounded_together() {
        let token = format!(r#"{{"content": "{}"}}"#, "a".repeat(2000));
        let file = |count: usize| format!(r#"{{"added_tokens": [{}]}}"#, vec![token.as_str(); count].join(","));
        let problem = |count: usize| parse(file(count).as_bytes()).unwrap_err();
        assert!(
            problem(2000).contains("field \"added_tokens\": tokens of more than 2097152 bytes"),
            "{}",
            problem(2000)
        );
        assert!(!problem(500).contains("2097152"), "{}", problem(500));
    }

    #[test]
    fn replacements_multiply() {
        let replace =
            |content: &str| format!(r#"{{"type": "Replace", "pattern": {{"String": "a"}}, "content": "{content}"}}"#);
        let growth_from = |text: &str| {
            let (mut totals, mut json) = (Totals::default(), serde_json::Deserializer::from_str(text));
            let inspection = Inspection { field: "", depth: 0, totals: &mut totals };
            inspection.deserialize(&mut json).map(|_| totals.growth).map_err(|error| error.to_string())
        };
        assert_eq!(growth_from(&format!("[{0}, {0}]", replace("bbbb"))), Ok(4.0 * 4.0));
        assert_eq!(growth_from(&replace("")), Ok(1.0));
        assert!(growth_from(&format!("[{0}, {0}]", replace("123456789"))).is_err());
    }
}
