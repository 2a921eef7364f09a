//! Between which characters a text may be cut without changing a token, read from the patterns that divide it into words.
//!
//! A pattern is followed character by character (its follow sets, as in Glushkov's construction), without regard for what comes
//! later: if no part of it that takes a character c₁ can be followed by one that takes c₂, no word holds c₁ before c₂, and no
//! attempt at one looks beyond c₁. So the words before such a place do not depend on the text after it. Those after it do not
//! depend on the text before, since the patterns look only ahead and every character belongs to a word.

use regex_syntax::hir::{Class, ClassUnicode, ClassUnicodeRange, Hir, HirKind};
use tokenizers::pre_tokenizers::split::SplitPattern;
use tokenizers::{PreTokenizerWrapper, SplitDelimiterBehavior};

/// What GPT-2's tokenizer divides a text by, and `ByteLevel` with `use_regex`.
const GPT_2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
/// White space that a word does not follow: the only look ahead that is understood. After other characters, it is not asked.
const TRAILING_SPACE: &str = r"|\s+(?!\S)";
/// Characters beyond ASCII that are no white space, as one.
const OTHER: usize = 128;
/// Most characters and classes of a pattern.
const MOST_PLACES: usize = 512;

/// Characters of ASCII, by bit, and whether there are others that are no white space.
#[derive(Debug, Clone, Copy, Default)]
struct Characters {
    ascii: u128,
    other: bool,
}

/// Which characters may be neighbors within a word.
#[derive(Debug, Clone)]
pub(super) struct Cuts {
    /// The characters of ASCII that may follow each one within a word; the last row is for [`OTHER`].
    joined: Box<[u128; OTHER + 1]>,
}

impl Cuts {
    /// Those of a pre-tokenizer; `None` if it is not understood.
    pub(super) fn of(pre_tokenizer: &PreTokenizerWrapper) -> Option<Self> {
        let mut cuts = Self { joined: Box::new([0; OTHER + 1]) };
        // One pattern at least divides every text at these places; the others do not see what is beyond them.
        cuts.add(pre_tokenizer)?.then_some(cuts)
    }

    /// Adds what a step joins; returns whether it leaves nothing between its words. `None` if it is not understood.
    fn add(&mut self, step: &PreTokenizerWrapper) -> Option<bool> {
        match step {
            PreTokenizerWrapper::ByteLevel(bytes) if bytes.add_prefix_space => None,
            PreTokenizerWrapper::ByteLevel(bytes) if bytes.use_regex => self.add_pattern(GPT_2),
            // Both look at one character at a time.
            PreTokenizerWrapper::ByteLevel(_) | PreTokenizerWrapper::Digits(_) => Some(false),
            PreTokenizerWrapper::Split(split) => {
                let SplitPattern::Regex(pattern) = &split.pattern else { return None };
                match (split.behavior, split.invert) {
                    (SplitDelimiterBehavior::Isolated, false) | (SplitDelimiterBehavior::Removed, true) => {
                        self.add_pattern(pattern)
                    }
                    _ => None,
                }
            }
            PreTokenizerWrapper::Sequence(steps) => {
                let steps: &[PreTokenizerWrapper] = steps.as_ref();
                steps.iter().try_fold(false, |covers, step| Some(self.add(step)? || covers))
            }
            _ => None,
        }
    }

    fn add_pattern(&mut self, pattern: &str) -> Option<bool> {
        let shorter = pattern.replacen(TRAILING_SPACE, "", 1);
        let hir = regex_syntax::parse(&shorter).ok()?;
        let mut reading = Reading { places: Vec::new(), joined: &mut self.joined };
        let part = reading.read(&hir)?;
        if part.may_be_empty {
            return None;
        }
        let alone = part.alone.iter().flat_map(|place| reading.places[*place].1.iter().copied());
        let mut rest = ClassUnicode::new(alone);
        rest.negate();
        if shorter.len() < pattern.len() {
            // White space looks at what follows it.
            let spaces = (0..128_u8).filter(|byte| char::from(*byte).is_whitespace());
            spaces.for_each(|space| self.joined[usize::from(space)] = u128::MAX);
        }
        Some(rest.ranges().is_empty())
    }

    /// For texts that are brought into Unicode's form C first, where `e` and an accent become one character, and some
    /// characters one of ASCII.
    pub(super) fn with_composition(mut self) -> Self {
        let graphic = (0..128_u8).filter(u8::is_ascii_graphic);
        self.joined[OTHER] |= graphic.fold(0, |joined, byte| joined | self.joined[usize::from(byte)]);
        self
    }

    /// Whether a text may be cut between two characters.
    pub(super) fn between(&self, before: char, after: char) -> bool {
        let row = match before {
            '\0'..='\x7f' => before as usize,
            _ if before.is_whitespace() => return false,
            _ => OTHER,
        };
        after.is_ascii() && self.joined[row] >> (after as u32) & 1 == 0
    }
}

/// A part of a pattern: where it may begin and end.
#[derive(Debug, Default)]
struct Part {
    may_be_empty: bool,
    first: Vec<usize>,
    last: Vec<usize>,
    /// Places whose characters it takes without any other.
    alone: Vec<usize>,
}

struct Reading<'a> {
    /// The characters that each place takes.
    places: Vec<(Characters, Vec<ClassUnicodeRange>)>,
    joined: &'a mut [u128; OTHER + 1],
}

impl Reading<'_> {
    fn read(&mut self, hir: &Hir) -> Option<Part> {
        match hir.kind() {
            HirKind::Empty => Some(Part { may_be_empty: true, ..Part::default() }),
            HirKind::Look(_) | HirKind::Class(Class::Bytes(_)) => None,
            HirKind::Class(Class::Unicode(class)) => self.place(class.ranges().to_vec()),
            HirKind::Literal(literal) => {
                let text = std::str::from_utf8(&literal.0).ok()?;
                let mut whole = Part { may_be_empty: true, ..Part::default() };
                for character in text.chars() {
                    let part = self.place(vec![ClassUnicodeRange::new(character, character)])?;
                    whole = self.then(whole, part);
                }
                Some(whole)
            }
            HirKind::Capture(capture) => self.read(&capture.sub),
            HirKind::Repetition(repetition) => {
                let part = self.read(&repetition.sub)?;
                if repetition.max != Some(1) {
                    self.join(&part.last, &part.first);
                }
                let alone = if repetition.min <= 1 || part.may_be_empty { part.alone } else { Vec::new() };
                Some(Part { may_be_empty: part.may_be_empty || repetition.min == 0, alone, ..part })
            }
            HirKind::Concat(parts) => {
                let empty = Part { may_be_empty: true, ..Part::default() };
                parts.iter().try_fold(empty, |whole, part| {
                    let part = self.read(part)?;
                    Some(self.then(whole, part))
                })
            }
            HirKind::Alternation(parts) => parts.iter().try_fold(Part::default(), |mut whole, part| {
                let part = self.read(part)?;
                whole.may_be_empty |= part.may_be_empty;
                whole.first.extend(part.first);
                whole.last.extend(part.last);
                whole.alone.extend(part.alone);
                Some(whole)
            }),
        }
    }

    fn place(&mut self, ranges: Vec<ClassUnicodeRange>) -> Option<Part> {
        let mut characters = Characters::default();
        for range in &ranges {
            let ascii = range.start()..=range.end().min('\x7f');
            characters.ascii |= ascii.fold(0, |set, character| set | 1 << (character as u32));
            characters.other |= (range.start().max('\u{80}')..=range.end()).any(|other| !other.is_whitespace());
        }
        let place = self.places.len();
        self.places.push((characters, ranges));
        let at = || vec![place];
        (place < MOST_PLACES).then(|| Part { may_be_empty: false, first: at(), last: at(), alone: at() })
    }

    /// One part after another.
    fn then(&mut self, before: Part, after: Part) -> Part {
        self.join(&before.last, &after.first);
        let mut alone = Vec::new();
        alone.extend(before.alone.iter().copied().filter(|_| after.may_be_empty));
        alone.extend(after.alone.iter().copied().filter(|_| before.may_be_empty));
        let first = [before.first, if before.may_be_empty { after.first } else { Vec::new() }].concat();
        let last = [after.last, if after.may_be_empty { before.last } else { Vec::new() }].concat();
        Part { may_be_empty: before.may_be_empty && after.may_be_empty, first, last, alone }
    }

    fn join(&mut self, before: &[usize], after: &[usize]) {
        let after = after.iter().fold(0, |set, place| set | self.places[*place].0.ascii);
        for place in before {
            let before = self.places[*place].0;
            (0..OTHER).filter(|row| before.ascii >> row & 1 == 1).for_each(|row| self.joined[row] |= after);
            if before.other {
                self.joined[OTHER] |= after;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn cuts(steps: serde_json::Value) -> Option<Cuts> {
        Cuts::of(&serde_json::from_value(steps).unwrap())
    }

    fn split(pattern: &str) -> serde_json::Value {
        json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false})
    }

    const LLAMA_3: &str = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+\
                           [\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

    /// Each pair is two characters and whether a text may be cut between them.
    #[test]
    fn published_patterns_are_cut_between_words() {
        let byte_level =
            json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
        let digits = json!({"type": "Sequence", "pretokenizers": [
            {"type": "Digits", "individual_digits": true}, byte_level.clone()]});
        for (steps, ends_lines) in [(byte_level, true), (digits, true), (split(LLAMA_3), false)] {
            let cuts = cuts(steps).unwrap();
            let yes = ["a ", "é ", ". ", "1 ", "a\n", "1\n", "1+", "+1", "a1", "1a"];
            let no = ["ab", " a", "  ", "\n ", " \n", "\u{a0} ", "++", "'s", "aé", "a\u{301}"];
            for (pairs, expected) in [(&yes[..], true), (&no[..], false), (&[".\n"], ends_lines)] {
                for pair in pairs {
                    let (before, after) = (pair.chars().next().unwrap(), pair.chars().nth(1).unwrap());
                    assert_eq!(cuts.between(before, after), expected, "{pair:?}");
                }
            }
        }
    }

    /// What is between words may reach across any place.
    #[test]
    fn a_pattern_must_take_every_character() {
        assert!(cuts(split(r"\p{L}+|\p{N}")).is_none());
        assert!(cuts(split(r"\p{L}+|[^\p{L}]+")).is_some());
        assert!(cuts(split(r"\p{L}+|[^\p{L}]{2,}")).is_none());
        // Another step takes them.
        let steps = json!({"type": "Sequence", "pretokenizers": [split(r"\p{N}{1,3}"), split(r"\p{L}+|[^\p{L}]+")]});
        let cuts = cuts(steps).unwrap();
        assert!(cuts.between('a', ' ') && !cuts.between('1', '2') && !cuts.between('.', ' '));
    }

    #[test]
    fn what_is_not_understood_is_not_cut() {
        for pattern in [r"\bfoo|.", r"(?<=a)b|(?s:.)", r"a*", r"a(?!b)|(?s:.)", r"(?s:.)+$"] {
            assert!(cuts(split(pattern)).is_none(), "{pattern}");
        }
        assert!(
            cuts(json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true}))
                .is_none()
        );
        assert!(
            cuts(json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true})).is_none()
        );
        assert!(
            cuts(
                json!({"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": false})
            )
            .is_none()
        );
    }
}
