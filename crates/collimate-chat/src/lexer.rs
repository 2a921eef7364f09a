//! Splits a template into literal text and tags, and applies Jinja's whitespace control.

use std::borrow::Cow;

use minijinja::{Error, ErrorKind};

/// Most tokens in one tag. Its operators nest in the engine's syntax tree, which is walked and dropped by recursion.
const MAX_TAG_TOKENS: usize = 1000;

/// A piece of a template.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Part<'a> {
    /// Text that is printed verbatim.
    Text { text: &'a str, line: usize },
    /// `{{ … }}`
    Print(Tag<'a>),
    /// `{% … %}`
    Block(Tag<'a>),
}

/// The content of a tag, between its delimiters.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Tag<'a> {
    pub(crate) tokens: Vec<Token<'a>>,
    /// Line of the closing delimiter, counted from 1.
    pub(crate) end_line: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Name,
    Number,
    /// A string literal, with its quotes and escapes.
    Text,
    /// An operator or punctuation.
    Mark,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token<'a> {
    pub(crate) kind: Kind,
    pub(crate) text: &'a str,
    /// Line of its first character, counted from 1.
    pub(crate) line: usize,
}

/// Splits a template as transformers configures Jinja2: `trim_blocks`, `lstrip_blocks`, one trailing newline dropped.
///
/// # Errors
/// A tag or comment is unterminated, a tag has an invalid character, or a tag has too many tokens.
pub(crate) fn parts(source: &str) -> Result<Vec<Part<'_>>, Error> {
    let source = source.strip_suffix('\n').unwrap_or(source);
    let mut lexer = Lexer { source, position: 0, line: 1, parts: Vec::new() };
    while lexer.part()? {}
    Ok(lexer.parts)
}

/// A template syntax error, with its line.
pub(crate) fn syntax_error(problem: impl Into<Cow<'static, str>>, line: usize) -> Error {
    Error::new(ErrorKind::SyntaxError, format!("{} (line {line} of the template)", problem.into()))
}

struct Lexer<'a> {
    source: &'a str,
    position: usize,
    line: usize,
    parts: Vec<Part<'a>>,
}

/// How a delimiter trims the whitespace next to it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Trim {
    /// `-`: remove all of it.
    All,
    /// `+`: keep all of it.
    Nothing,
    /// No mark: as `trim_blocks` and `lstrip_blocks` say.
    Block,
}

impl Trim {
    fn from_mark(mark: Option<u8>) -> Self {
        match mark {
            Some(b'-') => Self::All,
            Some(b'+') => Self::Nothing,
            _ => Self::Block,
        }
    }

    fn mark_len(self) -> usize {
        usize::from(self != Self::Block)
    }
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        &self.source[self.position..]
    }

    fn byte(&self, offset: usize) -> Option<u8> {
        self.source.as_bytes().get(self.position + offset).copied()
    }

    fn advance(&mut self, len: usize) -> &'a str {
        let passed = &self.rest()[..len];
        self.line += passed.matches('\n').count();
        self.position += len;
        passed
    }

    /// Reads literal text and the tag after it; returns whether there was a tag.
    fn part(&mut self) -> Result<bool, Error> {
        let rest = self.rest();
        let is_start = |index: &usize| matches!(rest.as_bytes().get(index + 1), Some(b'{' | b'%' | b'#'));
        let Some(start) = rest.match_indices('{').map(|(index, _)| index).find(is_start) else {
            self.text(rest, rest.len());
            return Ok(false);
        };
        let (kind, trim) = (rest.as_bytes()[start + 1], Trim::from_mark(rest.as_bytes().get(start + 2).copied()));
        let before = &rest[..start];
        let kept = match trim {
            Trim::All => before.trim_end(),
            Trim::Block if kind != b'{' => self.without_indentation(before),
            _ => before,
        };
        self.text(kept, start);
        self.advance(2 + trim.mark_len());
        match kind {
            b'{' => {
                let tag = self.tag("}}")?;
                self.parts.push(Part::Print(tag));
            }
            b'#' => self.comment()?,
            _ => match basic_tag(self.rest(), "raw") {
                Some((len, trim)) => self.raw(len, trim)?,
                None => {
                    let tag = self.tag("%}")?;
                    self.parts.push(Part::Block(tag));
                }
            },
        }
        Ok(true)
    }

    /// Advances by `len` bytes and emits `kept`, the part of them that survives trimming.
    fn text(&mut self, kept: &'a str, len: usize) {
        if !kept.is_empty() {
            self.parts.push(Part::Text { text: kept, line: self.line });
        }
        self.advance(len);
    }

    /// `lstrip_blocks`: drops a block's indentation from the text before it, if nothing else is on its line.
    fn without_indentation(&self, text: &'a str) -> &'a str {
        let line_start = self.source[..self.position + text.len()].rfind('\n').map_or(0, |index| index + 1);
        let is_indentation = self.source[line_start..self.position + text.len()].chars().all(char::is_whitespace);
        match is_indentation {
            true => &text[..line_start.saturating_sub(self.position)],
            false => text,
        }
    }

    /// Skips the whitespace after a tag, as its closing delimiter says.
    fn after(&mut self, trim: Trim, is_block: bool) {
        let rest = self.rest();
        let dropped = match trim {
            Trim::All => rest.len() - rest.trim_start().len(),
            Trim::Block if is_block => usize::from(rest.starts_with('\n')),
            _ => 0,
        };
        self.advance(dropped);
    }

    fn comment(&mut self) -> Result<(), Error> {
        let end = self.rest().find("#}").ok_or_else(|| syntax_error("a comment does not end", self.line))?;
        let trim = Trim::from_mark(self.rest()[..end].bytes().last());
        self.advance(end + 2);
        self.after(trim, true);
        Ok(())
    }

    /// Reads the text of `{% raw %}`; the position is after the opening delimiter's mark.
    fn raw(&mut self, len: usize, trim: Trim) -> Result<(), Error> {
        let unended = syntax_error("a raw block does not end", self.line);
        self.advance(len);
        self.after(trim, true);
        let text = self.rest();
        for (index, _) in text.match_indices("{%") {
            let inner = &text[index + 2..];
            let mark = Trim::from_mark(inner.bytes().next());
            let Some((end, trim)) = basic_tag(&inner[mark.mark_len()..], "endraw") else { continue };
            let kept = match mark {
                Trim::All => text[..index].trim_end(),
                Trim::Block => self.without_indentation(&text[..index]),
                Trim::Nothing => &text[..index],
            };
            self.text(kept, index);
            self.advance(2 + mark.mark_len() + end);
            self.after(trim, true);
            return Ok(());
        }
        Err(unended)
    }

    /// Reads the tokens of a tag up to `end`, which only counts outside brackets.
    fn tag(&mut self, end: &str) -> Result<Tag<'a>, Error> {
        let (mut tokens, mut open, line) = (Vec::new(), 0_isize, self.line);
        loop {
            let rest = self.rest();
            self.advance(rest.bytes().take_while(u8::is_ascii_whitespace).count());
            let trim = Trim::from_mark(self.byte(0));
            if open == 0 && self.rest()[trim.mark_len()..].starts_with(end) {
                let end_line = self.line;
                self.advance(trim.mark_len() + 2);
                self.after(trim, end == "%}");
                return Ok(Tag { tokens, end_line });
            }
            let token = self.token()?;
            open += match token.text {
                "(" | "[" | "{" => 1,
                ")" | "]" | "}" => -1,
                _ => 0,
            };
            tokens.push(token);
            if tokens.len() > MAX_TAG_TOKENS {
                return Err(syntax_error(format!("a tag has more than {MAX_TAG_TOKENS} tokens"), line));
            }
        }
    }

    fn token(&mut self) -> Result<Token<'a>, Error> {
        let (rest, line) = (self.rest(), self.line);
        let (kind, len) = match rest.as_bytes() {
            [] => return Err(syntax_error("a tag does not end", line)),
            [b'\'' | b'"', ..] => (Kind::Text, quoted(rest).ok_or_else(|| syntax_error("a text does not end", line))?),
            [b'0'..=b'9', ..] => (Kind::Number, number(rest)),
            [b'a'..=b'z' | b'A'..=b'Z' | b'_', ..] => (Kind::Name, name(rest)),
            [b'/', b'/', ..] | [b'*', b'*', ..] | [b'=' | b'!' | b'<' | b'>', b'=', ..] => (Kind::Mark, 2),
            [first, ..] if b"+-*/%.,:~|=<>()[]{}".contains(first) => (Kind::Mark, 1),
            _ => {
                let found = rest.chars().next().unwrap_or_default();
                return Err(syntax_error(format!("unexpected character {found:?}"), line));
            }
        };
        Ok(Token { kind, text: self.advance(len), line })
    }
}

/// Length of the rest of a tag that holds only `word`, and how it trims the whitespace after it.
fn basic_tag(rest: &str, word: &str) -> Option<(usize, Trim)> {
    let inner = rest.trim_ascii_start().strip_prefix(word)?.trim_ascii_start();
    let trim = Trim::from_mark(inner.bytes().next());
    let after = inner[trim.mark_len()..].strip_prefix("%}")?;
    Some((rest.len() - after.len(), trim))
}

/// Length of the string literal at the start of `rest`; `None` if it is unterminated.
fn quoted(rest: &str) -> Option<usize> {
    let (quote, mut escaped) = (rest.bytes().next()?, false);
    let end = rest.bytes().skip(1).position(|byte| {
        let ends = byte == quote && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    })?;
    Some(end + 2)
}

fn name(rest: &str) -> usize {
    rest.bytes().take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'_').count()
}

/// Length of a number: digits in any base, a fraction, an exponent. The engine parses and validates it.
fn number(rest: &str) -> usize {
    let digits = |from: usize| rest[from..].bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b'_').count();
    if rest.len() > 1 && rest.starts_with('0') && b"xXoObB".contains(&rest.as_bytes()[1]) {
        return name(rest);
    }
    let mut len = digits(0);
    let bytes = rest.as_bytes();
    let exponent = |at: usize| matches!(bytes.get(at), Some(b'e' | b'E'));
    let is_exponent = |at: usize| exponent(at) && matches!(bytes.get(at + 1), Some(b'+' | b'-' | b'0'..=b'9'));
    // `1.x` is an attribute of a number, `1.5` and `1.e5` are fractions.
    let is_attribute = matches!(bytes.get(len + 1), Some(b'a'..=b'z' | b'A'..=b'Z' | b'_'));
    if bytes.get(len) == Some(&b'.') && (is_exponent(len + 1) || !is_attribute) {
        len += 1 + digits(len + 1);
    }
    if exponent(len) {
        len += 1 + usize::from(matches!(bytes.get(len + 1), Some(b'+' | b'-')));
        len += digits(len);
    }
    len
}

#[cfg(test)]
mod tests;
