//! Finding the place of a key in a recipe's text, for errors that point at it.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::{Origin, Place};
use crate::plain_file::read_text;

impl Origin {
    /// The place of a key in a recipe's file, or of a key within it; `None` where it is not there.
    pub fn find(path: &Path, key: &str, child: Option<&str>) -> Option<Self> {
        let text: Arc<str> = read_text(path, super::MAX_RECIPE_BYTES).ok()?.into();
        let top = find_top_level(&text, key)?;
        let span = match child {
            Some(child) => find_child(&text, top.end, child)?,
            None => top,
        };
        Some(SourceText { path, text }.origin_at(span))
    }
}

/// A recipe's file name and text.
#[derive(Debug, Clone)]
pub(super) struct SourceText<'a> {
    pub(super) path: &'a Path,
    pub(super) text: Arc<str>,
}

impl SourceText<'_> {
    /// The place of a key; of the whole file where the key cannot be found (anchors, exotic quoting).
    pub(super) fn origin_of(&self, key: &str, child: Option<&str>) -> Origin {
        let top = find_top_level(&self.text, key);
        let span = match (&top, child) {
            (Some(top), Some(child)) => find_child(&self.text, top.end, child).or_else(|| Some(top.clone())),
            _ => top,
        };
        self.origin_at(span.unwrap_or(0..0))
    }

    /// The place of a range of bytes.
    pub(super) fn origin_at(&self, span: Range<usize>) -> Origin {
        let before = &self.text[..span.start.min(self.text.len())];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Origin::File(Box::new(Place {
            path: self.path.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            span,
            text: Arc::clone(&self.text),
        }))
    }
}

/// The bytes of a key that starts a line.
fn find_top_level(text: &str, key: &str) -> Option<Range<usize>> {
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        if let Some(width) = key_width(line, key) {
            return Some(start..start + width);
        }
        start += line.len();
    }
    None
}

/// The bytes of a key inside the block or the braces of another, which ends where the next line is not indented.
fn find_child(text: &str, from: usize, child: &str) -> Option<Range<usize>> {
    let end = text[from..]
        .match_indices('\n')
        .map(|(newline, _)| from + newline + 1)
        .find(|&line| text[line..].starts_with(|c: char| !c.is_whitespace() && c != '#' && c != '-' && c != '}'))
        .unwrap_or(text.len());
    (from..end).filter(|&at| text.is_char_boundary(at) && starts_word(text, at)).find_map(|at| {
        let width = key_width(&text[at..end], child)?;
        Some(at..at + width)
    })
}

fn starts_word(text: &str, at: usize) -> bool {
    text[..at].chars().next_back().is_none_or(|c| c.is_whitespace() || matches!(c, '{' | ','))
}

/// How many bytes `key` takes at the start of `text` where a colon follows it, quotes included.
fn key_width(text: &str, key: &str) -> Option<usize> {
    [key.to_owned(), format!("\"{key}\""), format!("'{key}'")].iter().find_map(|spelled| {
        let rest = text.strip_prefix(spelled.as_str())?;
        rest.trim_start_matches(' ').starts_with(':').then_some(spelled.len())
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("seed: 1\nlr: 2\n", "lr", None, (2, 1))]
    #[case("a: 1\n'lr' : 2\n", "lr", None, (2, 1))]
    #[case("objective:\n  name: nca\n  bta: 1\nbta: 2\n", "objective", Some("bta"), (3, 3))]
    #[case("objective: {name: nca, bta: 1}\n", "objective", Some("bta"), (1, 24))]
    #[case("seed: 1\n", "other", None, (1, 1))]
    fn keys_are_found(#[case] text: &str, #[case] key: &str, #[case] child: Option<&str>, #[case] at: (usize, usize)) {
        let source = SourceText { path: Path::new("r.yaml"), text: text.into() };
        let Origin::File(place) = source.origin_of(key, child) else { panic!("a place in a file") };
        assert_eq!((place.line, place.column), at);
    }
}
