//! Reads prompts with the other fields of their rows, and adds responses to them.

use std::path::{Path, PathBuf};

use collimate_data::{ChatInputs, DataError, JsonRow, JsonRows, Prompt};
pub use collimate_text::encode_prompt;
use collimate_text::{TextError, TextTokenizer};
use serde_json::{Map, Value, json};

use crate::error::RoundsError;

/// A row with a prompt.
#[derive(Debug, Clone)]
pub struct PromptRow {
    /// The file.
    pub path: PathBuf,
    /// Line of the file, counted from 1.
    pub line: usize,
    /// The prompt.
    pub prompt: Prompt,
    /// What the chat template is given besides the prompt's messages.
    pub chat: ChatInputs,
    fields: Map<String, Value>,
}

/// A response that a model drew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SampledResponse {
    /// Its text, without the end of the turn and without special tokens.
    pub content: String,
    /// The tokens that were drawn, with those that ended it.
    pub token_ids: Vec<u32>,
}

impl PromptRow {
    /// The row with these responses after its other fields.
    pub fn with_responses(&self, samples: Vec<SampledResponse>) -> Value {
        let mut fields = self.fields.clone();
        // Removed first, so that the responses come last even if the row had some.
        fields.shift_remove("responses");
        let response = |sample: SampledResponse| json!({"content": sample.content, "token_ids": sample.token_ids});
        let responses = samples.into_iter().map(response).collect();
        fields.insert("responses".to_owned(), Value::Array(responses));
        Value::Object(fields)
    }
}

/// Reads the prompts of files; messages refer to the files as `name`.
///
/// # Errors
/// A row that is not an object with a prompt, or no prompts at all.
pub fn read_prompts(name: &Path, rows: JsonRows) -> Result<Vec<PromptRow>, DataError> {
    let prompts: Vec<PromptRow> = rows.map(|row| PromptRow::of(row?)).collect::<Result<_, DataError>>()?;
    if prompts.is_empty() {
        return Err(DataError::File { path: name.to_owned(), problem: "holds no prompt".to_owned() });
    }
    Ok(prompts)
}

impl PromptRow {
    fn of(row: JsonRow) -> Result<Self, DataError> {
        let (prompt, chat) = row.prompt()?;
        let JsonRow { path, line, value } = row;
        let Value::Object(fields) = value else {
            let problem = "expected an object with \"prompt\", text or messages".to_owned();
            return Err(DataError::Row { path, line, problem });
        };
        Ok(Self { path, line, prompt, chat, fields })
    }
}

/// Token ids of every prompt.
///
/// # Errors
/// A prompt that the tokenizer rejects or that is empty; the error names its line.
pub fn encode_prompts(prompts: &[PromptRow], tokenizer: &TextTokenizer) -> Result<Vec<Vec<u32>>, RoundsError> {
    let encode = |row: &PromptRow| {
        let encoded = encode_prompt(&row.prompt, &row.chat, tokenizer)?;
        if encoded.is_empty() {
            let problem = "the prompt is empty after tokenization".to_owned();
            return Err(DataError::Row { path: row.path.clone(), line: row.line, problem }.into());
        }
        Ok(encoded)
    };
    prompts.iter().map(encode).collect()
}

/// The texts of samples, with their tokens.
///
/// # Errors
/// Ids that the tokenizer cannot decode.
pub fn decode(samples: Vec<Vec<u32>>, tokenizer: &TextTokenizer) -> Result<Vec<SampledResponse>, TextError> {
    samples
        .into_iter()
        .map(|token_ids| Ok(SampledResponse { content: tokenizer.answer(&token_ids)?, token_ids }))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_keeps_its_other_fields_and_gets_new_responses() {
        let text = "\n{\"id\": 7, \"responses\": [{\"content\": \"old\"}], \"prompt\": \"a\", \"answer\": [1, 2]}\n";
        let name = Path::new("prompts.jsonl");
        let rows = JsonRows::from_reader(text.as_bytes(), name).expect("rows");
        let rows = read_prompts(name, rows).expect("a prompt");
        assert_eq!(rows[0].line, 2);
        let sample = |content: &str, token_ids| SampledResponse { content: content.to_owned(), token_ids };
        let written = rows[0].with_responses(vec![sample("x", vec![8, 2]), sample("", vec![2])]).to_string();
        let responses = r#"[{"content":"x","token_ids":[8,2]},{"content":"","token_ids":[2]}]"#;
        assert_eq!(written, format!(r#"{{"id":7,"prompt":"a","answer":[1,2],"responses":{responses}}}"#));
    }
}
