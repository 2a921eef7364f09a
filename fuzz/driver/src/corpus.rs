//! The inputs that mutation starts from, and a dictionary of words that parsers know.

use std::fs;
use std::io;
use std::path::Path;

use crate::target::Target;

/// A target's committed inputs, sorted by name, and its dictionary.
#[derive(Debug, Clone)]
pub struct Corpus {
    /// Name and bytes.
    pub inputs: Vec<(String, Vec<u8>)>,
    /// Words to insert into inputs.
    pub words: Vec<Vec<u8>>,
}

impl Corpus {
    /// Reads `corpus/TARGET` and `dictionaries/TARGET.dict` of the folder `fuzz`.
    ///
    /// # Errors
    /// The corpus cannot be read, or is empty.
    pub fn read(fuzz: &Path, target: Target) -> io::Result<Self> {
        let folder = fuzz.join("corpus").join(target.name());
        let mut inputs = Vec::new();
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            inputs.push((entry.file_name().to_string_lossy().into_owned(), fs::read(entry.path())?));
        }
        if inputs.is_empty() {
            return Err(io::Error::other(format!("{}: no inputs", folder.display())));
        }
        inputs.sort();
        let dictionary = fuzz.join("dictionaries").join(format!("{target}.dict"));
        let words = match fs::read_to_string(&dictionary) {
            Ok(text) => text.lines().filter_map(word).collect(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        Ok(Self { inputs, words })
    }
}

/// A line of a libFuzzer dictionary: `"word"`, with `\"`, `\\` and `\xNN`.
fn word(line: &str) -> Option<Vec<u8>> {
    let line = line.trim();
    let quoted = line.get(line.find('"')? + 1..line.rfind('"')?)?;
    let (mut bytes, mut rest) = (Vec::new(), quoted.as_bytes());
    while let Some((first, after)) = rest.split_first() {
        let hex = |digits: &[u8]| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok();
        (rest, _) = match (first, after) {
            (b'\\', [b'x', high, low, after @ ..]) => (after, bytes.push(hex(&[*high, *low])?)),
            (b'\\', [escaped, after @ ..]) => (after, bytes.push(*escaped)),
            (plain, after) => (after, bytes.push(*plain)),
        };
    }
    (!line.starts_with('#')).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dictionary_lines_are_read_as_libfuzzer_reads_them() {
        assert_eq!(word(r#"name="a\"\\\x00""#).expect("a word"), b"a\"\\\0");
        assert_eq!(word(r#""{%""#).expect("a word"), b"{%");
        assert_eq!(word("# \"comment\""), None);
        assert_eq!(word(""), None);
    }
}
