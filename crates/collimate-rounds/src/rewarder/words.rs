//! Splits a command line into words, without a shell.

use std::fmt;
use std::path::Path;
use std::process::Command;

use super::error::RewardError;

/// POSIX's ENOENT, to say the same as the system does when it cannot start a program.
const NO_SUCH_FILE: i32 = 2;

/// A program and its arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgramCommand {
    /// The text as given.
    text: String,
    /// The program, then its arguments.
    words: Vec<String>,
}

impl ProgramCommand {
    /// Parses a command line; with `shell`, the text is passed to the system's shell unchanged.
    ///
    /// # Errors
    /// An unclosed quote, or no program: a message for the user.
    pub fn new(text: &str, shell: bool) -> Result<Self, String> {
        let words = match shell {
            true if cfg!(windows) => vec!["cmd".to_owned(), "/C".to_owned(), text.to_owned()],
            true => vec!["sh".to_owned(), "-c".to_owned(), text.to_owned()],
            // On Windows a backslash separates folders.
            false => split(text, !cfg!(windows))?,
        };
        if text.trim().is_empty() || words.is_empty() {
            return Err("names no program".to_owned());
        }
        Ok(Self { text: text.to_owned(), words })
    }

    /// Checks that the program is there, before anything is read for it.
    ///
    /// # Errors
    /// [`RewardError::Start`] if no such file is there or on the path.
    pub fn check(&self) -> Result<(), RewardError> {
        let program = Path::new(&self.words[0]);
        let is_there = match program.components().count() {
            // Windows adds extensions of its own.
            _ if cfg!(windows) => true,
            1 => std::env::var_os("PATH")
                .is_none_or(|path| std::env::split_paths(&path).any(|folder| folder.join(program).is_file())),
            _ => program.is_file(),
        };
        match is_there {
            true => Ok(()),
            false => Err(RewardError::Start {
                program: self.text.clone(),
                source: std::io::Error::from_raw_os_error(NO_SUCH_FILE),
            }),
        }
    }

    /// The command to spawn.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.words[0]);
        command.args(&self.words[1..]);
        command
    }
}

impl fmt::Display for ProgramCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Splits at whitespace. Single quotes keep everything between them verbatim; between double quotes, and with `escapes`
/// outside quotes, a backslash escapes the next character.
fn split(text: &str, escapes: bool) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    // `None` between words. Quotes can make an empty word.
    let mut word: Option<String> = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\'' => {
                let quoted = word.get_or_insert_default();
                loop {
                    match chars.next() {
                        Some('\'') => break,
                        Some(c) => quoted.push(c),
                        None => return Err("has a single quote that is not closed".to_owned()),
                    }
                }
            }
            '"' => double_quoted(&mut chars, word.get_or_insert_default())?,
            '\\' if escapes => match chars.next() {
                Some(c) => word.get_or_insert_default().push(c),
                None => return Err("ends in a backslash".to_owned()),
            },
            c if c.is_whitespace() => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

fn double_quoted(chars: &mut std::str::Chars<'_>, word: &mut String) -> Result<(), String> {
    loop {
        match chars.next() {
            Some('"') => return Ok(()),
            Some('\\') => match chars.next() {
                Some(c @ ('"' | '\\')) => word.push(c),
                Some(c) => word.extend(['\\', c]),
                None => break,
            },
            Some(c) => word.push(c),
            None => break,
        }
    }
    Err("has a double quote that is not closed".to_owned())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("python3 verify.py --strict", &["python3", "verify.py", "--strict"])]
    #[case("  a\t b ", &["a", "b"])]
    #[case("'my program' \"its argument\"", &["my program", "its argument"])]
    #[case("--name='two words'", &["--name=two words"])]
    #[case(r"a\ b", &["a b"])]
    #[case(r#""a \"b\" \n" 'c \d'"#, &["a \"b\" \\n", r"c \d"])]
    #[case("a '' \"\"", &["a", "", ""])]
    // Characters that are special to a shell are plain text.
    #[case("a | b > $HOME *.py", &["a", "|", "b", ">", "$HOME", "*.py"])]
    #[case("", &[])]
    fn words_are_divided_as_a_shell_divides_them(#[case] text: &str, #[case] words: &[&str]) {
        assert_eq!(split(text, true).expect("words"), words);
    }

    #[test]
    fn paths_with_backslashes_stay_where_they_divide_folders() {
        assert_eq!(split(r"C:\tools\verify.exe 'a b'", false).expect("words"), [r"C:\tools\verify.exe", "a b"]);
    }

    #[rstest]
    #[case("'a", "single quote")]
    #[case("a \"b", "double quote")]
    #[case("a\\", "backslash")]
    #[case("  ", "no program")]
    fn what_is_not_closed_is_refused(#[case] text: &str, #[case] problem: &str) {
        let error = ProgramCommand::new(text, false).expect_err("no command");
        assert!(error.contains(problem), "{error}");
    }
}
