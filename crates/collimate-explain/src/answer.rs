//! Which answer is explained.

use std::fmt;
use std::str::FromStr;

/// A response to a held-out prompt: `7` is that with the highest reward of prompt 7, `7:2` its response 2, both counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AnswerChoice {
    /// Index of the prompt in the held-out data, from 0.
    pub row: usize,
    /// Index of the response in its row, from 0; `None` for the one with the highest reward, the first of equals.
    pub response: Option<usize>,
}

impl FromStr for AnswerChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (row, response) = match text.split_once(':') {
            Some((row, response)) => (row, Some(response)),
            None => (text, None),
        };
        let number = |text: &str| {
            text.parse()
                .map_err(|_| format!("\"{text}\" is no index: expected ROW or ROW:RESPONSE, each counted from 0"))
        };
        Ok(Self { row: number(row)?, response: response.map(number).transpose()? })
    }
}

impl fmt::Display for AnswerChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.response {
            Some(response) => write!(f, "{}:{response}", self.row),
            None => write!(f, "{}", self.row),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_a_row_with_or_without_a_response() {
        let choice = |row, response| AnswerChoice { row, response };
        assert_eq!("7".parse(), Ok(choice(7, None)));
        assert_eq!("7:0".parse(), Ok(choice(7, Some(0))));
        assert_eq!(choice(7, Some(2)).to_string(), "7:2");
        for text in ["", "-1", "7:", ":2", "7:x", "7:1:2"] {
            assert!(text.parse::<AnswerChoice>().is_err_and(|error| error.contains("ROW:RESPONSE")), "{text}");
        }
    }
}
