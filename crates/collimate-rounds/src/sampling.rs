//! Reads prompts with the other fields of their rows, and adds responses to them.

use std::ops::Range;
use std::path::{Path, PathBuf};

use collimate_data::{ChatInputs, DataError, JsonRow, JsonRows, Message, Prompt};
use collimate_files::ScratchFolder;
use collimate_model::GenerateOptions;
pub use collimate_text::encode_prompt;
use collimate_text::{EncodedPrompt, TextError, TextTokenizer};
use collimate_train::{Session, TrainError};
use serde_json::{Map, Value, json};

use crate::error::RoundsError;
use crate::stored_rows::StoredRows;

/// A row with a prompt.
#[derive(Debug, Clone)]
struct PromptRow {
    /// The file.
    path: PathBuf,
    /// Line of the file, counted from 1.
    line: usize,
    prompt: Prompt,
    /// What the chat template is given besides the prompt's messages.
    chat: ChatInputs,
    fields: Map<String, Value>,
}

/// A response that a model drew.
#[derive(Debug, Clone, PartialEq, Eq)]
struct SampledResponse {
    /// Its text, without the end of the turn and without special tokens.
    content: String,
    /// The tokens that were drawn, with those that ended it.
    token_ids: Vec<u32>,
    /// Whether they are a picture, which has no text.
    is_picture: bool,
}

impl PromptRow {
    /// The row with these responses after its other fields.
    fn with_responses(self, samples: Vec<SampledResponse>) -> Value {
        let mut fields = self.fields;
        if let Prompt::Messages(messages) = &self.prompt
            && messages.iter().any(Message::has_images)
        {
            // What is written may be in another folder, so paths say where the images are.
            let messages = messages.iter().map(|message| Value::Object(message.to_json())).collect();
            fields.insert("prompt".to_owned(), Value::Array(messages));
            ["images", "image"].iter().for_each(|name| {
                fields.shift_remove(*name);
            });
        }
        // Removed first, so that the responses come last even if the row had some.
        fields.shift_remove("responses");
        let response = |sample: SampledResponse| match sample.is_picture {
            true => json!({"tokens": sample.token_ids}),
            false => json!({"content": sample.content, "token_ids": sample.token_ids}),
        };
        let responses = samples.into_iter().map(response).collect();
        fields.insert("responses".to_owned(), Value::Array(responses));
        Value::Object(fields)
    }
}

/// The rows of files that have a prompt each, on disk: memory does not grow with them.
#[derive(Debug)]
pub struct PromptRows(StoredRows);

impl PromptRows {
    /// Reads all rows and tokenizes their prompts, so that one that cannot be used is named before anything is computed.
    /// They are kept in a file of `scratch`; messages refer to the files as `name`.
    ///
    /// # Errors
    /// A row that is not an object with a prompt, a prompt that the tokenizer rejects or that is empty, or no prompts at
    /// all; the disk is full.
    pub fn read(
        name: &Path,
        rows: JsonRows,
        tokenizer: &TextTokenizer,
        scratch: &ScratchFolder,
    ) -> Result<Self, RoundsError> {
        let check = |row| PromptRow::parse(row)?.encode(tokenizer).map(drop);
        let rows = StoredRows::read(rows, scratch, check)?;
        if rows.len() == 0 {
            return Err(DataError::File { path: name.to_owned(), problem: "holds no prompt".to_owned() }.into());
        }
        Ok(Self(rows))
    }

    /// Number of prompts.
    pub fn num_prompts(&self) -> usize {
        self.0.len()
    }
}

/// Bytes of rows to draw responses for at once.
const WINDOW_BYTES: u64 = 64 << 20;

/// Draws responses to a part of the prompts, a few at a time.
pub struct Draws<'a> {
    prompts: &'a PromptRows,
    tokenizer: &'a TextTokenizer,
    options: GenerateOptions,
    rows: Range<usize>,
    /// The next row.
    next: usize,
}

impl<'a> Draws<'a> {
    /// For the prompts of `rows`, which draws count from 0.
    pub fn new(
        prompts: &'a PromptRows,
        tokenizer: &'a TextTokenizer,
        options: GenerateOptions,
        rows: Range<usize>,
    ) -> Self {
        Self { prompts, tokenizer, options, next: rows.start, rows }
    }

    /// The next rows with their responses; `None` after the last. What is drawn does not depend on how many rows come at
    /// once.
    ///
    /// # Errors
    /// A row cannot be read back, the model cannot be run, its logits are not finite, or its tokens cannot be decoded.
    pub fn next(&mut self, session: &mut dyn Session) -> Result<Option<Vec<Value>>, RoundsError> {
        let first = self.next;
        let most = self.rows.end.min(first + self.options.prompts_at_once());
        let mut bytes = 0;
        while self.next < most && (self.next == first || bytes + self.prompts.0.bytes(self.next) <= WINDOW_BYTES) {
            bytes += self.prompts.0.bytes(self.next);
            self.next += 1;
        }
        if self.next == first {
            return Ok(None);
        }
        let rows = (first..self.next).map(|index| Ok(PromptRow::parse(self.prompts.0.get(index)?)?));
        let rows = rows.collect::<Result<Vec<_>, RoundsError>>()?;
        let ids = rows.iter().map(|row| row.encode(self.tokenizer)).collect::<Result<Vec<_>, _>>()?;
        let options = GenerateOptions { first_prompt: first - self.rows.start, ..self.options.clone() };
        let drawn = session.generate(&ids, &options, &mut |_| {});
        let drawn = drawn.map_err(|error| TrainError::from(error).at_prompt(|prompt| rows[prompt].location()))?;
        let rows =
            rows.into_iter().zip(drawn).map(|(row, samples)| Ok(row.with_responses(decode(samples, self.tokenizer)?)));
        rows.collect::<Result<_, _>>().map(Some)
    }
}

impl PromptRow {
    /// Its file and line.
    fn location(&self) -> String {
        format!("{}:{}", self.path.display(), self.line)
    }

    fn parse(row: JsonRow) -> Result<Self, DataError> {
        let (prompt, chat) = row.prompt()?;
        let JsonRow { path, line, value } = row;
        let Value::Object(fields) = value else {
            let problem = "expected an object with \"prompt\", text or messages".to_owned();
            return Err(DataError::Row { path, line, problem });
        };
        Ok(Self { path, line, prompt, chat, fields })
    }

    /// The prompt's token ids and images.
    fn encode(&self, tokenizer: &TextTokenizer) -> Result<EncodedPrompt, RoundsError> {
        let at_row = |problem| DataError::Row { path: self.path.clone(), line: self.line, problem };
        let encoded = encode_prompt(&self.prompt, &self.chat, tokenizer).map_err(|error| at_row(error.to_string()))?;
        match encoded.is_empty() {
            true => Err(at_row("the prompt is empty after tokenization".to_owned()).into()),
            false => Ok(encoded),
        }
    }
}

/// The texts of samples, with their tokens.
///
/// # Errors
/// Ids that the tokenizer cannot decode.
fn decode(samples: Vec<Vec<u32>>, tokenizer: &TextTokenizer) -> Result<Vec<SampledResponse>, TextError> {
    let is_picture = tokenizer.pictures().is_some();
    samples
        .into_iter()
        .map(|token_ids| Ok(SampledResponse { content: tokenizer.answer(&token_ids)?, token_ids, is_picture }))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_keeps_its_other_fields_and_gets_new_responses() {
        let text = "\n{\"id\": 7, \"responses\": [{\"content\": \"old\"}], \"prompt\": \"a\", \"answer\": [1, 2]}\n";
        let name = Path::new("prompts.jsonl");
        let mut rows = JsonRows::from_reader(text.as_bytes(), name).expect("rows");
        let row = PromptRow::parse(rows.next().expect("a row").expect("a row")).expect("a prompt");
        assert_eq!(row.line, 2);
        let sample =
            |content: &str, token_ids| SampledResponse { content: content.to_owned(), token_ids, is_picture: false };
        let written = row.with_responses(vec![sample("x", vec![8, 2]), sample("", vec![2])]).to_string();
        let responses = r#"[{"content":"x","token_ids":[8,2]},{"content":"","token_ids":[2]}]"#;
        assert_eq!(written, format!(r#"{{"id":7,"prompt":"a","answer":[1,2],"responses":{responses}}}"#));
    }
}
