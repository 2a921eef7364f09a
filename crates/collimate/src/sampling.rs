//! Prompts of a file, with whatever else their rows hold, and responses to them.

use std::io::BufRead;
use std::path::Path;

use collimate_data::{DataError, Prompt, TextTokenizer};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::commands::model_options::encode_prompt;
use crate::error::CliError;

/// A row with a prompt.
#[derive(Debug, Clone)]
pub(crate) struct PromptRow {
    /// Line of the file, counted from 1.
    pub(crate) line: usize,
    pub(crate) prompt: Prompt,
    fields: Map<String, Value>,
}

impl PromptRow {
    /// The row with these responses, all its other fields before them.
    pub(crate) fn with_responses(&self, texts: &[String]) -> Value {
        let mut fields = self.fields.clone();
        // Taken out first, so that the responses stand last wherever the row had some.
        fields.shift_remove("responses");
        let responses = texts.iter().map(|text| json!({"content": text})).collect();
        fields.insert("responses".to_owned(), Value::Array(responses));
        Value::Object(fields)
    }
}

/// The prompts of a file; `path` is its name for errors.
///
/// # Errors
/// A line that is no object with a prompt; a file without prompts.
pub(crate) fn read_prompts(path: &Path, lines: impl BufRead) -> Result<Vec<PromptRow>, CliError> {
    let mut prompts = Vec::new();
    for (index, line) in lines.lines().enumerate() {
        let text = line.map_err(CliError::read(path))?;
        if text.trim().is_empty() {
            continue;
        }
        let row = parse(&text).map_err(|error| DataError::Row {
            path: path.to_owned(),
            line: index + 1,
            problem: format!("expected an object with \"prompt\", text or messages: {error}"),
        })?;
        prompts.push(PromptRow { line: index + 1, ..row });
    }
    if prompts.is_empty() {
        return Err(DataError::File { path: path.to_owned(), problem: "holds no prompt".to_owned() }.into());
    }
    Ok(prompts)
}

fn parse(text: &str) -> Result<PromptRow, serde_json::Error> {
    #[derive(Deserialize)]
    struct Row {
        prompt: Prompt,
    }
    let Row { prompt } = serde_json::from_str(text)?;
    Ok(PromptRow { line: 0, prompt, fields: serde_json::from_str(text)? })
}

/// Token ids of every prompt.
///
/// # Errors
/// A prompt that the tokenizer refuses, or that is empty; names the line.
pub(crate) fn encode_prompts(
    path: &Path,
    prompts: &[PromptRow],
    tokenizer: &TextTokenizer,
) -> Result<Vec<Vec<u32>>, CliError> {
    let encode = |row: &PromptRow| {
        let encoded = encode_prompt(&row.prompt, tokenizer)?;
        if encoded.is_empty() {
            let problem = "the prompt is empty after tokenization".to_owned();
            return Err(DataError::Row { path: path.to_owned(), line: row.line, problem }.into());
        }
        Ok(encoded)
    };
    prompts.iter().map(encode).collect()
}

/// The texts of samples, without special tokens.
///
/// # Errors
/// Ids that the tokenizer cannot decode.
pub(crate) fn decode(samples: &[Vec<u32>], tokenizer: &TextTokenizer) -> Result<Vec<String>, DataError> {
    samples.iter().map(|ids| tokenizer.decode(ids, true)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_keeps_its_other_fields_and_gets_new_responses() {
        let text = "\n{\"id\": 7, \"responses\": [{\"content\": \"old\"}], \"prompt\": \"a\", \"answer\": [1, 2]}\n";
        let rows = read_prompts(Path::new("prompts.jsonl"), text.as_bytes()).expect("a prompt");
        assert_eq!(rows[0].line, 2);
        let written = rows[0].with_responses(&["x".to_owned(), String::new()]).to_string();
        let expected = r#"{"id":7,"prompt":"a","answer":[1,2],"responses":[{"content":"x"},{"content":""}]}"#;
        assert_eq!(written, expected);
    }
}
