//! Reads lines one at a time into a reused buffer.

use std::io::{self, BufRead};

/// Length limit of a row, in bytes.
pub const MAX_LINE_BYTES: usize = 64 << 20;

/// Why there is no next line.
#[derive(Debug)]
pub(crate) enum LineError {
    Io(io::Error),
    TooLong,
}

/// Reads lines that are not blank. Memory is one buffer, as long as the longest line so far.
pub(crate) struct Lines {
    reader: Box<dyn BufRead + Send>,
    buffer: Vec<u8>,
    limit_bytes: usize,
    /// Number of the current line, from 1; 0 before the first.
    pub(crate) number: usize,
}

impl Lines {
    pub(crate) fn new(reader: Box<dyn BufRead + Send>, limit_bytes: usize) -> Self {
        Self { reader, buffer: Vec::new(), limit_bytes, number: 0 }
    }

    pub(crate) fn limit_bytes(&self) -> usize {
        self.limit_bytes
    }

    /// The next line that is not blank, without line ending and byte order mark; `None` at the end of the file.
    pub(crate) fn next(&mut self) -> Option<Result<&[u8], LineError>> {
        loop {
            match self.read() {
                Ok(false) => return None,
                Ok(true) if self.text().is_empty() => {}
                Ok(true) => return Some(Ok(self.text())),
                Err(error) => return Some(Err(error)),
            }
        }
    }

    fn text(&self) -> &[u8] {
        let line = self.buffer.as_slice();
        let line = if self.number == 1 { line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line) } else { line };
        line.trim_ascii()
    }

    /// Fills the buffer with a line; returns false at the end of the file.
    fn read(&mut self) -> Result<bool, LineError> {
        self.buffer.clear();
        self.number += 1;
        loop {
            let available = match self.reader.fill_buf() {
                Ok(available) => available,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(LineError::Io(error)),
            };
            if available.is_empty() {
                return Ok(!self.buffer.is_empty());
            }
            let end = available.iter().position(|byte| *byte == b'\n');
            let part = &available[..end.unwrap_or(available.len())];
            if self.buffer.len() + part.len() > self.limit_bytes {
                return Err(LineError::TooLong);
            }
            self.buffer.extend_from_slice(part);
            let used = end.map_or(available.len(), |end| end + 1);
            self.reader.consume(used);
            if end.is_some() {
                return Ok(true);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufReader, Read};

    use super::*;

    fn lines(text: &'static [u8], limit_bytes: usize) -> Lines {
        // A tiny buffer, so that lines span several reads.
        Lines::new(Box::new(BufReader::with_capacity(3, text)), limit_bytes)
    }

    #[test]
    fn blank_lines_byte_order_mark_and_carriage_returns_are_ignored() {
        let mut lines = lines(b"\xef\xbb\xbf{1}\r\n\r\n  \n{22} \n{333}", 100);
        let mut found = Vec::new();
        while let Some(line) = lines.next() {
            let line = String::from_utf8(line.unwrap().to_vec()).unwrap();
            found.push((line, lines.number));
        }
        assert_eq!(found, [("{1}".to_owned(), 1), ("{22}".to_owned(), 4), ("{333}".to_owned(), 5)]);
    }

    #[test]
    fn a_line_at_the_limit_is_read_and_a_longer_one_is_not() {
        assert_eq!(lines(b"12345\n", 5).next().unwrap().unwrap(), b"12345");
        assert!(matches!(lines(b"123456\n", 5).next(), Some(Err(LineError::TooLong))));
    }

    /// Generates lines of 1,000 bytes as they are read.
    struct Generated {
        left: usize,
    }

    impl Read for Generated {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let num = into.len().min(self.left);
            for byte in &mut into[..num] {
                *byte = if self.left % 1000 == 1 { b'\n' } else { b'x' };
                self.left -= 1;
            }
            Ok(num)
        }
    }

    #[test]
    fn memory_is_one_line_however_large_the_file() {
        let source = Generated { left: 50_000_000 };
        let mut lines = Lines::new(Box::new(BufReader::new(source)), MAX_LINE_BYTES);
        let mut num_lines = 0;
        while let Some(line) = lines.next() {
            assert_eq!(line.unwrap().len(), 999);
            num_lines += 1;
        }
        assert_eq!(num_lines, 50_000);
        assert!(lines.buffer.capacity() < 4_000, "{}", lines.buffer.capacity());
    }
}
