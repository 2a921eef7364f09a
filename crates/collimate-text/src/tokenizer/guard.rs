//! Looking through `tokenizer.json` before the crate that reads it does, and keeping its panics in.
//!
//! The crate `tokenizers` trusts its files: it indexes by what they say, unwraps what they leave out, nests as deep as they
//! do and takes the memory that they ask for. What would overflow the stack or take the memory cannot be caught, so it
//! is looked for first; a panic is caught and becomes an error.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use tokenizers::Tokenizer;

use collimate_data::caught;

/// The largest `tokenizer.json`, in bytes. The largest published ones have some 35 MB.
pub(super) const MAX_TOKENIZER_BYTES: u64 = 256 << 20;
/// The longest token or pattern, in bytes: the trie of a Unigram model nests a level a byte and is dropped by recursion.
const MAX_TOKEN_BYTES: usize = 2048;
/// Objects and lists in each other: a sequence of sequences of splits has some twelve.
const MAX_NESTING: usize = 24;
/// How much longer all replacements together may make a text: each may be applied to what the one before gave.
const MAX_GROWTH: f64 = 64.0;

/// Reads a `tokenizer.json`.
pub(super) fn parse(bytes: &[u8]) -> Result<Tokenizer, String> {
    let (mut growth, mut json) = (1.0, serde_json::Deserializer::from_slice(bytes));
    let look = Look { field: "(the file)", depth: 0, growth: &mut growth };
    look.deserialize(&mut json).map_err(|error| error.to_string())?;
    unbroken(|| Tokenizer::from_bytes(bytes))
}

/// The result of work by `tokenizers`, its panics as errors.
pub(super) fn unbroken<T>(work: impl FnOnce() -> tokenizers::Result<T>) -> Result<T, String> {
    match caught(work) {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(panic) => Err(format!("the tokenizer contradicts itself ({panic})")),
    }
}

/// Where in the file a value stands, and what was found so far.
struct Look<'a> {
    field: &'a str,
    depth: usize,
    /// How much longer all replacements make a text.
    growth: &'a mut f64,
}

/// What the object around a value wants to know of it.
#[derive(Clone, Copy)]
enum Seen {
    /// A text: its length, and whether it names a normalizer that adds text.
    Text {
        len: usize,
        adds: bool,
    },
    /// An object: the length of its field `String`.
    Pattern(Option<usize>),
    Other,
}

impl<'de> DeserializeSeed<'de> for Look<'_> {
    type Value = Seen;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Seen, D::Error> {
        match self.depth > MAX_NESTING {
            true => Err(self.error(format!("it nests deeper than {MAX_NESTING} levels"))),
            false => deserializer.deserialize_any(self),
        }
    }
}

impl<'de> Visitor<'de> for Look<'_> {
    type Value = Seen;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Seen, E> {
        Ok(Seen::Other)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Seen, E> {
        Ok(Seen::Other)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Seen, E> {
        Ok(Seen::Other)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Seen, E> {
        Ok(Seen::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Seen, E> {
        Ok(Seen::Other)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Seen, E> {
        match self.field {
            "precompiled_charsmap" => charsmap(text).map_err(|problem| self.error(problem))?,
            // A merge names two tokens.
            "merges" => {}
            _ if text.len() > MAX_TOKEN_BYTES => return Err(self.too_long(text)),
            _ => {}
        }
        Ok(Seen::Text { len: text.len(), adds: matches!(text, "Replace" | "Prepend") })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Seen, A::Error> {
        let Self { field, depth, growth } = self;
        while items.next_element_seed(Look { field, depth: depth + 1, growth })?.is_some() {}
        Ok(Seen::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Seen, A::Error> {
        let (mut adds, mut added, mut replaced, mut string) = (false, 0, None, None);
        while let Some(name) = fields.next_key::<Cow<'de, str>>()? {
            if name.len() > MAX_TOKEN_BYTES {
                return Err(self.too_long(&name));
            }
            let look = Look { field: &name, depth: self.depth + 1, growth: self.growth };
            match (&*name, fields.next_value_seed(look)?) {
                ("type", Seen::Text { adds: true, .. }) => adds = true,
                ("content" | "prepend", Seen::Text { len, .. }) => added = len,
                ("pattern", Seen::Pattern(len)) => replaced = len,
                ("String", Seen::Text { len, .. }) => string = Some(len),
                _ => {}
            }
        }
        if adds {
            *self.growth *= (added as f64 / replaced.unwrap_or(1).max(1) as f64).max(1.0);
        }
        match *self.growth > MAX_GROWTH {
            true => Err(self.error(format!("replacements make a text more than {MAX_GROWTH} times as long"))),
            false => Ok(Seen::Pattern(string)),
        }
    }
}

impl Look<'_> {
    fn error<E: Error>(&self, problem: String) -> E {
        E::custom(format!("field \"{}\": {problem}", self.field))
    }

    fn too_long<E: Error>(&self, text: &str) -> E {
        self.error(format!("a text of {} bytes, at most {MAX_TOKEN_BYTES} are read", text.len()))
    }
}

/// The first word of the map is the length of its table, which is made before it is read.
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
    // An error of the decoder's, or an empty map: both are found by it.
    let Some(start) = start else { return Ok(()) };
    let bits = start.iter().fold(0_u64, |bits, sextet| bits << 6 | u64::from(*sextet)) >> 4;
    // 36 bits without the last four are the four bytes of a little-endian number.
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
    fn replacements_multiply() {
        let replace =
            |content: &str| format!(r#"{{"type": "Replace", "pattern": {{"String": "a"}}, "content": "{content}"}}"#);
        let looked = |text: &str| {
            let (mut growth, mut json) = (1.0, serde_json::Deserializer::from_str(text));
            let look = Look { field: "", depth: 0, growth: &mut growth };
            look.deserialize(&mut json).map(|_| growth).map_err(|error| error.to_string())
        };
        assert_eq!(looked(&format!("[{0}, {0}]", replace("bbbb"))), Ok(4.0 * 4.0));
        assert_eq!(looked(&replace("")), Ok(1.0));
        assert!(looked(&format!("[{0}, {0}]", replace("123456789"))).is_err());
    }
}
