//! Reads the elements of a JSON list one at a time into a reused buffer.

use std::io::{self, BufRead};

/// Why there is no next element.
#[derive(Debug)]
pub(crate) enum ListError {
    Io(io::Error),
    TooLong,
    /// The text is not a well-formed list.
    Broken(&'static str),
}

/// Splits a list into its elements without parsing them. Memory is one buffer, as long as the longest element so far.
pub(crate) struct ListItems {
    reader: Box<dyn BufRead + Send>,
    buffer: Vec<u8>,
    limit_bytes: usize,
    ended: bool,
    /// Number of the current element, from 1; 0 before the first.
    pub(crate) number: usize,
}

/// State of the scan through an element.
#[derive(Default)]
struct Scanner {
    depth: usize,
    is_in_string: bool,
    is_escaped: bool,
}

impl Scanner {
    /// Whether this byte, a comma or bracket, ends the element before it.
    fn ends(&mut self, byte: u8) -> bool {
        if self.is_in_string {
            match byte {
                _ if self.is_escaped => self.is_escaped = false,
                b'\\' => self.is_escaped = true,
                b'"' => self.is_in_string = false,
                _ => {}
            }
            return false;
        }
        match byte {
            b',' | b']' if self.depth == 0 => return true,
            b'"' => self.is_in_string = true,
            b'{' | b'[' => self.depth += 1,
            // Unbalanced brackets are left to the element's parser.
            b'}' | b']' => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
        false
    }
}

impl ListItems {
    /// Reads a list that begins with `[`, optionally after a byte order mark and white space.
    pub(crate) fn new(reader: Box<dyn BufRead + Send>, limit_bytes: usize) -> Self {
        Self { reader, buffer: Vec::new(), limit_bytes, ended: false, number: 0 }
    }

    pub(crate) fn limit_bytes(&self) -> usize {
        self.limit_bytes
    }

    /// The next element, trimmed; `None` after the last, or after an error.
    pub(crate) fn next(&mut self) -> Option<Result<&[u8], ListError>> {
        if self.ended {
            return None;
        }
        match self.read() {
            Ok(true) => Some(Ok(self.buffer.trim_ascii())),
            Ok(false) => {
                self.ended = true;
                None
            }
            Err(error) => {
                self.ended = true;
                Some(Err(error))
            }
        }
    }

    /// Fills the buffer with an element; returns false after the last.
    fn read(&mut self) -> Result<bool, ListError> {
        let is_first = self.number == 0;
        if is_first && self.byte_after_space()? != Some(b'[') {
            return Err(ListError::Broken("expected a list"));
        }
        self.number += 1;
        self.buffer.clear();
        let end = self.element()?;
        let is_empty = self.buffer.trim_ascii().is_empty();
        match (end, is_empty) {
            (b']', true) if is_first => self.check_end().map(|()| false),
            (_, true) => Err(ListError::Broken("an element is missing next to a comma")),
            (b']', false) => {
                self.check_end()?;
                self.ended = true;
                Ok(true)
            }
            (_, false) => Ok(true),
        }
    }

    /// Reads an element; returns the comma or bracket after it.
    fn element(&mut self) -> Result<u8, ListError> {
        let mut scanner = Scanner::default();
        loop {
            let available = fill(&mut self.reader)?;
            if available.is_empty() {
                return Err(ListError::Broken("the list is truncated"));
            }
            let end = available.iter().position(|byte| scanner.ends(*byte));
            let part = &available[..end.unwrap_or(available.len())];
            if self.buffer.len() + part.len() > self.limit_bytes {
                return Err(ListError::TooLong);
            }
            self.buffer.extend_from_slice(part);
            let (used, last) = end.map_or((available.len(), None), |end| (end + 1, Some(available[end])));
            self.reader.consume(used);
            if let Some(last) = last {
                return Ok(last);
            }
        }
    }

    /// The first byte that is neither white space nor part of a byte order mark.
    fn byte_after_space(&mut self) -> Result<Option<u8>, ListError> {
        loop {
            let available = fill(&mut self.reader)?;
            let Some(&byte) = available.first() else { return Ok(None) };
            self.reader.consume(1);
            if !byte.is_ascii_whitespace() && !b"\xef\xbb\xbf".contains(&byte) {
                return Ok(Some(byte));
            }
        }
    }

    fn check_end(&mut self) -> Result<(), ListError> {
        match self.byte_after_space()? {
            None => Ok(()),
            Some(_) => Err(ListError::Broken("there is text after the list")),
        }
    }
}

fn fill(reader: &mut Box<dyn BufRead + Send>) -> Result<&[u8], ListError> {
    // The borrow checker does not let a loop return what `fill_buf` lends, so it is called again after the loop.
    while let Err(error) = reader.fill_buf() {
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(ListError::Io(error));
        }
    }
    reader.fill_buf().map_err(ListError::Io)
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use rstest::rstest;

    use super::*;

    fn items(text: &'static str, limit_bytes: usize) -> ListItems {
        // A tiny buffer, so that elements span several reads.
        ListItems::new(Box::new(BufReader::with_capacity(3, text.as_bytes())), limit_bytes)
    }

    fn all(text: &'static str) -> Vec<String> {
        let mut items = items(text, 100);
        let mut found = Vec::new();
        while let Some(item) = items.next() {
            found.push(match item {
                Ok(bytes) => String::from_utf8(bytes.to_vec()).unwrap(),
                Err(ListError::Broken(what)) => format!("broken: {what}"),
                Err(other) => format!("{other:?}"),
            });
        }
        found
    }

    #[rstest]
    #[case("[]", &[])]
    #[case(" \u{feff}[ ]\n", &[])]
    #[case("[1]", &["1"])]
    #[case("[\n  {\"a\": [1, 2]},\n  {\"b\": \"],\\\"}\"}\n]\n", &["{\"a\": [1, 2]}", "{\"b\": \"],\\\"}\"}"])]
    #[case("[1, 2", &["1", "broken: the list is truncated"])]
    #[case("[1,,2]", &["1", "broken: an element is missing next to a comma"])]
    #[case("[1,]", &["1", "broken: an element is missing next to a comma"])]
    #[case("[1] 2", &["broken: there is text after the list"])]
    #[case("{}", &["broken: expected a list"])]
    fn elements_are_separated(#[case] text: &'static str, #[case] expected: &[&str]) {
        assert_eq!(all(text), expected);
    }

    #[test]
    fn an_element_at_the_limit_is_read_and_a_longer_one_is_not() {
        assert_eq!(items("[12345]", 5).next().unwrap().unwrap(), b"12345");
        assert!(matches!(items("[123456]", 5).next(), Some(Err(ListError::TooLong))));
    }
}
