//! Models of pictures, whose tokens are numbers: a prompt is a condition, a response the tokens of a picture.
//!
//! As text, a condition is `class 5` and a picture its tokens, `91 95 90`. There is no other text, and nothing ends a response
//! but its length.

use std::path::Path;

use collimate_data::{Prompt, PromptGroup, Response, condition_of};
use serde_json::{Map, Value, json};

use crate::model_files::read_json;
use crate::{TextError, TokenizedGroup, TokenizedResponse, UnusableReason};

/// Most tokens and conditions of a model together. A larger number is a typing error, and its table would exhaust memory.
const MOST_TOKENS: u64 = 1 << 22;

/// The tokens of a model of pictures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PictureTokens {
    /// Tokens of pictures: 0 up to this.
    pub vocab_size: usize,
    /// Conditions, whose tokens come next; the last one is the null condition.
    pub conditions: usize,
    /// Tokens of a picture.
    pub length: usize,
}

impl PictureTokens {
    /// Reads a model's folder; `None` if it is no model of pictures.
    pub(crate) fn from_model_dir(dir: &Path) -> Result<Option<Self>, TextError> {
        let path = dir.join("config.json");
        let Some(config) = read_json(&path)? else { return Ok(None) };
        let size = |key: &str, default: u64| match config.get(key) {
            None | Some(Value::Null) => Some(default),
            Some(value) => value.as_u64().filter(|size| (1..=MOST_TOKENS).contains(size)),
        };
        let (vocab_size, length) = match config.get("model_type").and_then(Value::as_str) {
            Some("llamagen") => (size("vocab_size", 16_384), size("block_size", 256)),
            Some("var") => (size("vocab_size", 4096), length_of_scales(config.get("patch_nums"))),
            _ => return Ok(None),
        };
        let all = vocab_size.zip(length).zip(size("num_classes", 1000));
        let ((vocab_size, length), classes) = all.ok_or_else(|| TextError::File {
            path,
            problem: format!("sizes of tokens, pictures or classes are no numbers from 1 to {MOST_TOKENS}"),
        })?;
        let [vocab_size, length, conditions] = [vocab_size, length, classes + 1].map(|size| size as usize);
        Ok(Some(Self { vocab_size, conditions, length }))
    }

    /// The contents of a `tokenizer.json` with these tokens.
    pub(crate) fn tokenizer_json(&self) -> Value {
        let pictures = (0..self.vocab_size).map(|token| (token.to_string(), json!(token)));
        let conditions = (0..self.conditions).map(|number| (condition_of(number), json!(self.vocab_size + number)));
        let vocab: Map<String, Value> = pictures.chain(conditions).collect();
        json!({ "version": "1.0", "added_tokens": [], "model": { "type": "WordLevel", "vocab": vocab, "unk_token": "?" } })
    }

    /// The token of a condition, given its number.
    pub fn condition(&self, number: usize) -> Option<u32> {
        (number < self.conditions).then(|| (self.vocab_size + number) as u32)
    }

    /// The token of the null condition.
    pub fn null_condition(&self) -> u32 {
        (self.vocab_size + self.conditions - 1) as u32
    }

    /// The token of a prompt.
    ///
    /// # Errors
    /// It is no condition of the model.
    pub fn prompt(&self, prompt: &Prompt) -> Result<u32, UnusableReason> {
        let last = self.conditions - 1;
        let wrong = |found: String| UnusableReason::Picture {
            field: "condition".to_owned(),
            problem: format!(
                "expected a class from 0 to {}, or {last} for none, found {found}",
                last.saturating_sub(1)
            ),
        };
        let Prompt::Text(text) = prompt else { return Err(wrong("messages".to_owned())) };
        let number = text.strip_prefix("class ").and_then(|number| number.parse::<usize>().ok());
        let token = number.and_then(|number| self.condition(number));
        token.ok_or_else(|| wrong(number.map_or_else(|| format!("{text:?}"), |number| number.to_string())))
    }

    /// Checks the tokens of a picture; `field` is where they are in the row.
    fn picture(&self, response: &Response, field: &str) -> Result<Vec<u32>, UnusableReason> {
        let wrong = |field: String, problem: String| Err(UnusableReason::Picture { field, problem });
        let ids = match &response.token_ids {
            Some(ids) => ids.clone(),
            None => match response.content.split_whitespace().map(str::parse).collect() {
                Ok(ids) => ids,
                Err(_) => return wrong(field.to_owned(), "expected the numbers of a picture's tokens".to_owned()),
            },
        };
        if ids.len() != self.length {
            let problem = format!("expected the {} tokens of a picture, found {}", self.length, ids.len());
            return wrong(field.to_owned(), problem);
        }
        match ids.iter().position(|id| *id as usize >= self.vocab_size) {
            Some(at) => {
                let problem = format!("expected a token from 0 to {}, found {}", self.vocab_size - 1, ids[at]);
                wrong(format!("{field}[{at}]"), problem)
            }
            None => Ok(ids),
        }
    }

    /// The tokens of a group. Nothing is cut: a part of a picture is none.
    pub(crate) fn tokenize(&self, group: &PromptGroup) -> Result<TokenizedGroup, UnusableReason> {
        let prompt_ids = vec![self.prompt(&group.prompt)?];
        let is_single = group.responses.len() == 1;
        let responses = group.responses.iter().enumerate().map(|(k, response)| {
            let field = if is_single { "tokens".to_owned() } else { format!("responses[{k}].tokens") };
            Ok(TokenizedResponse { ids: self.picture(response, &field)?, reward: response.reward, num_cut: 0 })
        });
        let responses = responses.collect::<Result<Vec<_>, UnusableReason>>()?;
        let (index, line) = (group.index, group.line);
        Ok(TokenizedGroup { index, line, prompt_ids, responses, ..TokenizedGroup::default() })
    }
}

/// Whether a model's folder says what its tokens are: in a file of their own, or because they are those of pictures.
pub fn has_tokenizer(dir: &Path) -> bool {
    dir.join("tokenizer.json").is_file() || matches!(PictureTokens::from_model_dir(dir), Ok(Some(_)))
}

/// Tokens of a picture in several scales: the squares of their sides.
fn length_of_scales(sides: Option<&Value>) -> Option<u64> {
    let published = || [1, 2, 3, 4, 5, 6, 8, 10, 13, 16].iter().map(|side| side * side).sum();
    let Some(sides) = sides.filter(|sides| !sides.is_null()) else { return Some(published()) };
    let squares = sides.as_array()?.iter().map(|side| side.as_u64().filter(|side| (1..=1024).contains(side)));
    let total: u64 = squares.map(|side| side.map(|side| side * side)).sum::<Option<u64>>()?;
    (1..=MOST_TOKENS).contains(&total).then_some(total)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::{TextTokenizer, TokenizeOptions, tokenize_group};

    fn tokenizer(config: Value) -> TextTokenizer {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::write(dir.path().join("config.json"), config.to_string()).expect("written");
        TextTokenizer::from_model_dir(dir.path()).expect("a tokenizer without a file of its own")
    }

    fn llamagen() -> TextTokenizer {
        tokenizer(json!({"model_type": "llamagen", "vocab_size": 16, "num_classes": 3, "block_size": 4}))
    }

    fn group(condition: usize, pictures: &[&[u32]]) -> PromptGroup {
        let response = |ids: &&[u32]| Response { token_ids: Some(ids.to_vec()), ..Response::default() };
        let prompt = Prompt::Text(condition_of(condition));
        PromptGroup { line: 7, prompt, responses: pictures.iter().map(response).collect(), ..PromptGroup::default() }
    }

    #[test]
    fn a_condition_is_a_token_behind_the_pictures_and_nothing_ends_a_picture() {
        let tokenizer = llamagen();
        let options = TokenizeOptions { max_length: Some(3), min_responses: 1, ..TokenizeOptions::default() };
        let found = tokenize_group(&group(2, &[&[3, 15, 0, 1]]), &tokenizer, &options).expect("usable");
        assert_eq!((found.prompt_ids, found.responses[0].ids.clone()), (vec![16 + 2], vec![3, 15, 0, 1]));
        assert_eq!(tokenizer.answer(&[3, 15, 0, 1]).expect("text"), "3 15 0 1");
        assert_eq!(tokenizer.decode(&[18], false).expect("text"), "class 2");
        let tokenizer = tokenizer.with_chat_defaults(collimate_chat::ChatDefaults::default());
        assert_eq!(tokenizer.turn_ends().ids(), [0_u32; 0]);
        assert_eq!(tokenizer.pictures().map(PictureTokens::null_condition), Some(19));
    }

    #[test]
    fn scales_add_up() {
        let var = tokenizer(json!({"model_type": "var", "vocab_size": 16, "num_classes": 3, "patch_nums": [1, 2, 3]}));
        assert_eq!(var.pictures().map(|pictures| pictures.length), Some(1 + 4 + 9));
        let published = tokenizer(json!({"model_type": "var"}));
        assert_eq!(published.pictures().map(|pictures| pictures.length), Some(680));
    }

    #[rstest]
    #[case(group(4, &[&[1, 2, 3, 4]]), "condition", "expected a class from 0 to 2, or 3 for none, found 4")]
    #[case(group(0, &[&[1, 2, 3]]), "tokens", "expected the 4 tokens of a picture, found 3")]
    #[case(group(0, &[&[1, 2, 3, 4], &[1, 2, 16, 4]]), "responses[1].tokens[2]", "from 0 to 15, found 16")]
    fn what_is_no_picture_of_the_model_is_named(
        #[case] group: PromptGroup,
        #[case] field: &str,
        #[case] problem: &str,
    ) {
        let options = TokenizeOptions { min_responses: 1, ..TokenizeOptions::default() };
        let error = tokenize_group(&group, &llamagen(), &options).expect_err("unusable").to_string();
        assert!(error.contains(&format!("field \"{field}\"")) && error.contains(problem), "{error}");
    }
}
