//! Rewrites a template before it is compiled: every operation that can grow or walk a value becomes a filter.
//!
//! The engine bounds instructions but evaluates operators itself: repeating `{% set x = x ~ x %}` sixty times would
//! exhaust memory within a hundred instructions, and `'a' * 99999999 ~ …` does so during compilation. The engine has no
//! public hook for this. So `a + b` becomes `a | paid_add(b)`, which pays before it runs ([`crate::operators`]), and
//! literal text becomes `{{ "text" }}`: in captured blocks (`{% set x %}…`, macros), too, only printed values pass
//! through the engine's formatter, which counts them.
//!
//! The engine sees only tokens written here. Where this parser and the engine's disagree, the template fails to
//! compile; no operator can slip through.

mod atoms;
mod expressions;
mod statements;

use std::borrow::Cow;

use minijinja::{Error, ErrorKind};

use crate::lexer::{Kind, Part, Tag, Token, parts, syntax_error};

/// Size limit of a template, in bytes. Published ones have up to 30,000 or so.
const MAX_SOURCE_BYTES: usize = 1 << 20;
/// Limit on a template's `elif` branches: each nests in the one before.
const MAX_ELIFS: usize = 250;

/// Replaces a template's operators by those of [`crate::operators`]; line numbers stay the same.
///
/// # Errors
/// The template is not valid Jinja, nests too deeply, or has tags that load other templates.
pub(crate) fn paid_source(source: &str) -> Result<String, Error> {
    if source.len() > MAX_SOURCE_BYTES {
        let problem = format!("the template has {} bytes, at most {MAX_SOURCE_BYTES} are read", source.len());
        return Err(Error::new(ErrorKind::SyntaxError, problem));
    }
    let mut out = Writer { pieces: Vec::new(), line: 1 };
    let mut num_elifs = 0;
    for part in parts(source)? {
        match part {
            Part::Text { text, line } => out.literal(text, line),
            Part::Print(tag) => {
                out.push("{{");
                let mut reader = Reader::new(&tag, &mut out);
                reader.expression()?;
                reader.end()?;
                out.push("}}");
            }
            Part::Block(tag) => {
                num_elifs += usize::from(tag.tokens.first().is_some_and(|token| token.text == "elif"));
                if num_elifs > MAX_ELIFS {
                    return Err(syntax_error(format!("there are more than {MAX_ELIFS} elif"), tag.end_line));
                }
                out.push("{%");
                let mut reader = Reader::new(&tag, &mut out);
                reader.statement()?;
                reader.end()?;
                out.push("%}");
            }
        }
    }
    Ok(out.pieces.concat())
}

/// The rewritten template, in pieces, so that an operand can be wrapped after it has been written.
struct Writer<'a> {
    pieces: Vec<Cow<'a, str>>,
    /// Line of the original that the next piece belongs to.
    line: usize,
}

impl<'a> Writer<'a> {
    fn push(&mut self, piece: impl Into<Cow<'a, str>>) {
        self.pieces.push(piece.into());
    }

    /// Starts a line of the original, so that the engine's messages name it.
    fn go_to(&mut self, line: usize) {
        if line > self.line {
            self.push("\n".repeat(line - self.line));
            self.line = line;
        }
    }

    fn literal(&mut self, text: &'a str, line: usize) {
        self.push("{{");
        self.go_to(line);
        self.push("\"");
        self.push(match text.contains(['"', '\\']) {
            true => Cow::Owned(text.replace('\\', "\\\\").replace('"', "\\\"")),
            false => Cow::Borrowed(text),
        });
        self.push("\"}}");
        self.line += text.matches('\n').count();
    }

    fn token(&mut self, token: Token<'a>) {
        self.go_to(token.line);
        // A separator, so that no two tokens merge.
        self.push(" ");
        self.push(token.text);
        self.line += token.text.matches('\n').count();
    }
}

/// Reads a tag's tokens and writes them, rewritten.
struct Reader<'r, 'a> {
    tokens: &'r [Token<'a>],
    position: usize,
    end_line: usize,
    depth: usize,
    out: &'r mut Writer<'a>,
}

impl<'r, 'a> Reader<'r, 'a> {
    fn new(tag: &'r Tag<'a>, out: &'r mut Writer<'a>) -> Self {
        Self { tokens: &tag.tokens, position: 0, end_line: tag.end_line, depth: 0, out }
    }

    fn peek_at(&self, offset: usize) -> Option<Token<'a>> {
        self.tokens.get(self.position + offset).copied()
    }

    fn peek(&self) -> Option<Token<'a>> {
        self.peek_at(0)
    }

    /// Whether the next token is this operator, punctuation or keyword.
    fn is_next(&self, text: &str) -> bool {
        self.is_at(0, text)
    }

    fn is_at(&self, offset: usize, text: &str) -> bool {
        self.peek_at(offset).is_some_and(|token| token.kind != Kind::Text && token.text == text)
    }

    /// Skips the next token without writing it.
    fn skip(&mut self) {
        self.position += 1;
    }

    /// Writes the next token if it is this one; returns whether it was.
    fn copy_if(&mut self, text: &str) -> bool {
        let found = self.is_next(text);
        if found {
            self.copy();
        }
        found
    }

    /// Copies the next token unchanged.
    fn copy(&mut self) {
        if let Some(token) = self.peek() {
            self.out.token(token);
            self.position += 1;
        }
    }

    fn require(&mut self, text: &'static str) -> Result<(), Error> {
        if self.copy_if(text) { Ok(()) } else { Err(self.unexpected(text)) }
    }

    fn name(&mut self) -> Result<Token<'a>, Error> {
        let token = self.peek().filter(|token| token.kind == Kind::Name);
        let token = token.ok_or_else(|| self.unexpected("a name"))?;
        self.copy();
        Ok(token)
    }

    /// Requires the tag to end here.
    fn end(&mut self) -> Result<(), Error> {
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.unexpected("the end of the tag")),
        }
    }

    fn unexpected(&self, expected: &str) -> Error {
        match self.peek() {
            Some(token) => syntax_error(format!("unexpected {}, expected {expected}", token.text), token.line),
            None => syntax_error(format!("unexpected end of a tag, expected {expected}"), self.end_line),
        }
    }
}

#[cfg(test)]
mod tests;
