//! Breaks lines between words, so that a terminal does not break them within one.

use console::{Term, measure_text_width};

/// What a continued line is indented by, beyond its first line.
const INDENT: usize = 2;

/// Columns of the terminal that standard error goes to.
pub fn terminal_width() -> usize {
    usize::from(Term::stderr().size().1)
}

/// The text with line breaks between words where it would be wider than `width` columns. A word that is wider than that
/// stays whole.
pub fn wrap(text: &str, width: usize) -> String {
    text.split('\n').map(|line| wrap_line(line, width)).collect::<Vec<_>>().join("\n")
}

fn wrap_line(line: &str, width: usize) -> String {
    if measure_text_width(line) <= width {
        return line.to_owned();
    }
    let indent = line.len() - line.trim_start_matches(' ').len();
    let continued = " ".repeat((indent + INDENT).min(width / 2));
    let (mut text, mut used) = (line[..indent].to_owned(), indent);
    let mut is_first = true;
    for word in line[indent..].split(' ') {
        let columns = measure_text_width(word);
        if is_first {
            is_first = false;
        } else if used + 1 + columns > width {
            text.push('\n');
            text.push_str(&continued);
            used = continued.len();
        } else {
            text.push(' ');
            used += 1;
        }
        text.push_str(word);
        used += columns;
    }
    text
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("short", 10, "short")]
    #[case("one two three four", 9, "one two\n  three\n  four")]
    #[case("  one two three", 9, "  one two\n    three")]
    #[case("a /a/path/that/is/longer b", 10, "a\n  /a/path/that/is/longer\n  b")]
    #[case("first line\nsecond line", 8, "first\n  line\nsecond\n  line")]
    #[case("日本 日本", 6, "日本\n  日本")]
    fn lines_break_between_words(#[case] text: &str, #[case] width: usize, #[case] expected: &str) {
        assert_eq!(wrap(text, width), expected);
    }

    #[test]
    fn nothing_is_lost_at_any_width() {
        let text = "training, first to last: loss 1.3863 -> 1.3770, accuracy 0.0 -> 100.0 %, margin 0.0000 -> 0.0327";
        let words: Vec<&str> = text.split_whitespace().collect();
        for width in [20, 60, 80, 120] {
            let wrapped = wrap(text, width);
            assert_eq!(wrapped.split_whitespace().collect::<Vec<_>>(), words);
            assert!(wrapped.lines().all(|line| line.len() <= width), "{wrapped}");
        }
    }
}
