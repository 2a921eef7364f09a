//! Finds keys in a recipe's text, for errors that point at them.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use collimate_files::read_text;

use crate::error::{Location, Origin};
use crate::limits::MAX_RECIPE_BYTES;

impl Origin {
    /// Finds a key in a recipe file, or a `child` key below it.
    pub fn find(path: &Path, key: &str, child: Option<&str>) -> Option<Self> {
        let text: Arc<str> = read_text(path, MAX_RECIPE_BYTES).ok()?.into();
        let top = find_top_level(&text, key)?;
        let span = match child {
            Some(child) => find_child(&text, top.end, child)?,
            None => top,
        };
        Some(SourceText { path, text }.origin_at(span))
    }
}

/// The path and text of a recipe file.
#[derive(Debug, Clone)]
pub(crate) struct SourceText<'a> {
    pub(crate) path: &'a Path,
    pub(crate) text: Arc<str>,
}

impl SourceText<'_> {
    /// Where a key is set; the start of the file if it cannot be found, as with anchors or exotic quoting.
    pub(crate) fn origin_of(&self, key: &str, child: Option<&str>) -> Origin {
        let top = find_top_level(&self.text, key);
        let span = match (&top, child) {
            (Some(top), Some(child)) => find_child(&self.text, top.end, child).or_else(|| Some(top.clone())),
            _ => top,
        };
        self.origin_at(span.unwrap_or(0..0))
    }

    /// The origin of a range of bytes.
    pub(crate) fn origin_at(&self, span: Range<usize>) -> Origin {
        let before = &self.text[..span.start.min(self.text.len())];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Origin::File(Box::new(Location {
            path: self.path.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            span,
            text: Arc::clone(&self.text),
        }))
    }
}

/// Finds a key at the start of a line.
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

/// Finds a key inside the block or braces of another key, which end at the next line that is not indented.
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

/// Number of bytes that `key` takes, quotes included, if `text` starts with it and a colon follows.
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
        let Origin::File(found) = source.origin_of(key, child) else { panic!("a location in a file") };
        assert_eq!((found.line, found.column), at);
    }
}
