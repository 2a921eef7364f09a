//! How large a recipe and its numbers may be. Recipes are shared, and YAML can say much in few bytes.

use std::fmt;

use serde::de::{
    Deserialize, Deserializer, EnumAccess, Error, IgnoredAny, MapAccess, SeqAccess, VariantAccess, Visitor,
};

/// The largest recipe, in bytes. A resolved one has some 2,000, and the time to read flow lists in each other grows with
/// the square of their depth.
pub(crate) const MAX_RECIPE_BYTES: u64 = 64 << 10;
/// Open brackets, the deepest: an objective's parameters nest three deep.
const MAX_BRACKETS: usize = 64;
/// Values of a recipe, those that aliases repeat counted each time: a list may stand in few bytes very many times.
const MAX_VALUES: usize = 10_000;
/// A long text counts as so many values as it has this many bytes.
const TEXT_BYTES_PER_VALUE: usize = 16;
/// The largest count of steps, epochs, prompts or tokens: products of two fit 64 bits.
pub(super) const MAX_COUNT: usize = i32::MAX as usize;
/// Most threads.
pub(super) const MAX_THREADS: usize = 4096;

/// Refuses what would take too long to read or too much memory to hold; the parser reports what it cannot read.
pub(super) fn check_text(text: &str) -> Result<(), String> {
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
    // What is wrong otherwise is said by who reads it next.
    let _ = serde_yaml_ng::from_str::<Counted>(text);
    match COUNTED.get() > MAX_VALUES {
        true => Err(format!("more than {MAX_VALUES} values, those that aliases repeat counted each time")),
        false => Ok(()),
    }
}

thread_local! {
    /// Values of the recipe that this thread is reading: `Deserialize` has no place for it.
    static COUNTED: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// Any value, only counted.
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

    /// A tagged value.
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
    fn a_billion_laughs_are_not_counted_out() {
        let mut text = "a0: &a0 [x, x]\n".to_owned();
        for level in 1..40 {
            text += &format!("a{level}: &a{level} [*a{0}, *a{0}]\n", level - 1);
        }
        assert!(check_text(&text).is_err());
    }

    #[test]
    fn brackets_nest_only_so_deep() {
        assert!(check_text(&"[".repeat(60_000)).is_err());
        assert_eq!(check_text("a: [[[1]]]\n"), Ok(()));
    }
}
