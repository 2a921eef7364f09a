//! Limits on the size of a recipe and its numbers. Recipes are shared, and a few bytes of YAML can expand to a lot.

use std::fmt;

use serde::de::{
    Deserialize, Deserializer, EnumAccess, Error, IgnoredAny, MapAccess, SeqAccess, VariantAccess, Visitor,
};

/// Maximum size of a recipe in bytes. A resolved one has some 2,000; the time to parse nested flow lists grows with the
/// square of their depth.
pub const MAX_RECIPE_BYTES: u64 = 64 << 10;
/// Maximum nesting of brackets; an objective's parameters nest three deep.
const MAX_BRACKETS: usize = 64;
/// Maximum number of values, with those repeated by aliases counted each time: aliases can multiply a list in a few bytes.
const MAX_VALUES: usize = 10_000;
/// A text counts as one value for each of this many bytes.
const TEXT_BYTES_PER_VALUE: usize = 16;
/// Maximum of counts of steps, epochs, prompts or tokens, so that the product of two fits into 64 bits.
pub(crate) const MAX_COUNT: usize = i32::MAX as usize;
/// Maximum number of threads.
pub(crate) const MAX_THREADS: usize = 4096;

/// Refuses text that would take too long to parse or too much memory to hold; other errors are left to the parser.
pub(crate) fn check_text(text: &str) -> Result<(), String> {
    if is_data(text) {
        return Err("this looks like data, not like a recipe: give it as --data FILE, or as `data: FILE` in a recipe"
            .to_owned());
    }
    let mut open = 0_usize;
    for byte in text.bytes() {
        match byte {
            b'[' | b'{' => open += 1,
            b']' | b'}' => open = open.saturating_sub(1),
            _ => {}
        }
        if open > MAX_BRACKETS {
            return Err(format!("more than {MAX_BRACKETS} brackets are open at once"));
        }
    }
    COUNTED.set(0);
    // Any other error is reported when the text is parsed for real.
    let _ = serde_yaml_ng::from_str::<Counted>(text);
    match COUNTED.get() > MAX_VALUES {
        true => Err(format!("more than {MAX_VALUES} values, those that aliases repeat counted each time")),
        false => Ok(()),
    }
}

/// Whether a text is rows of JSON, or a table, rather than a recipe. One object alone may be a recipe, since YAML includes
/// JSON.
fn is_data(text: &str) -> bool {
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let (first, second) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let row = |line: &str| match line.starts_with('{') && line.ends_with('}') {
        true => serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(line).ok(),
        false => None,
    };
    match row(first) {
        Some(_) if row(second).is_some() => true,
        Some(fields) => {
            const FIELDS: [&str; 7] =
                ["prompt", "responses", "chosen", "rejected", "messages", "conversations", "instruction"];
            second.is_empty() && fields.keys().any(|key| FIELDS.contains(&key.as_str()))
        }
        None => text.trim_start().starts_with("[{\""),
    }
}

thread_local! {
    /// Values counted so far. A thread-local, since `Deserialize` carries no state.
    static COUNTED: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// Any value; parsing it only counts.
struct Counted;

impl<'de> Deserialize<'de> for Counted {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        COUNTED.set(COUNTED.get() + 1);
        if COUNTED.get() > MAX_VALUES {
            return Err(D::Error::custom("too many values"));
        }
        deserializer.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for Counted {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E>(self, text: &str) -> Result<Self, E> {
        COUNTED.set(COUNTED.get() + text.len() / TEXT_BYTES_PER_VALUE);
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self, A::Error> {
        while items.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self, A::Error> {
        while entries.next_entry::<Self, Self>()?.is_some() {}
        Ok(self)
    }

    /// A tagged value is an enum to serde.
    fn visit_enum<A: EnumAccess<'de>>(self, tagged: A) -> Result<Self, A::Error> {
        let (IgnoredAny, value) = tagged.variant()?;
        value.newtype_variant()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aliases_count_each_time() {
        let list = format!("a: &a [{}]\n", "x,".repeat(200));
        assert_eq!(check_text(&format!("{list}b: [{}]\n", "*a,".repeat(20))), Ok(()));
        let problem = check_text(&format!("{list}b: [{}]\n", "*a,".repeat(200))).expect_err("40,000 values");
        assert!(problem.starts_with("more than 10000 values"), "{problem}");
        let long = format!("a: &a {}\n", "x".repeat(3000));
        assert!(check_text(&format!("{long}b: [{}]\n", "*a,".repeat(100))).is_err());
    }

    #[test]
    fn exponential_aliases_are_refused_early() {
        let mut text = "a0: &a0 [x, x]\n".to_owned();
        for level in 1..40 {
            text += &format!("a{level}: &a{level} [*a{0}, *a{0}]\n", level - 1);
        }
        assert!(check_text(&text).is_err());
    }

    #[test]
    fn the_nesting_of_brackets_is_bounded() {
        assert!(check_text(&"[".repeat(60_000)).is_err());
        assert_eq!(check_text("a: [[[1]]]\n"), Ok(()));
    }
}
