//! A row with its responses: requests to the program, and the row with rewards.

use collimate_data::{DataError, JsonRow};
use serde_json::{Map, Value, json};

use super::answer::Score;

/// A prompt with its responses and the other fields of its row.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct RewardRow {
    fields: Map<String, Value>,
    /// The responses, each an object with `content`, or with a whole `message`.
    responses: Vec<Map<String, Value>>,
}

impl RewardRow {
    pub(super) fn parse(row: JsonRow) -> Result<Self, DataError> {
        let JsonRow { path: file, line, value } = row;
        let path = || file.clone();
        let field = |field: String, expected: &str, found: Option<&Value>| DataError::Field {
            path: path(),
            line,
            field,
            expected: expected.to_owned(),
            found: found.map_or("nothing", kind).to_owned(),
        };
        let mut fields = match value {
            Value::Object(fields) => fields,
            other => {
                let problem = format!("expected an object with \"prompt\" and \"responses\", found {}", kind(&other));
                return Err(DataError::Row { path: path(), line, problem });
            }
        };
        match fields.get("prompt") {
            Some(Value::String(_) | Value::Array(_)) => {}
            other => return Err(field("prompt".to_owned(), "a string or a list of messages", other)),
        }
        let items = match fields.get_mut("responses").map(Value::take) {
            Some(Value::Array(items)) => items,
            other => return Err(field("responses".to_owned(), "a list of responses", other.as_ref())),
        };
        let mut responses = Vec::with_capacity(items.len());
        for (k, item) in items.into_iter().enumerate() {
            match item {
                Value::Object(response)
                    if response.get("content").is_some_and(Value::is_string)
                        || response.get("message").is_some_and(Value::is_object)
                        || response.get("messages").is_some_and(Value::is_array) =>
                {
                    responses.push(response);
                }
                other => return Err(field(format!("responses[{k}].content"), "a string", other.get("content"))),
            }
        }
        Ok(Self { fields, responses })
    }

    /// Number of responses, K.
    pub(super) fn num_responses(&self) -> usize {
        self.responses.len()
    }

    /// The text of a response.
    fn content(&self, response: usize) -> &str {
        let fields = &self.responses[response];
        let last = || fields.get("message").or_else(|| fields.get("messages")?.as_array()?.last());
        let content = fields.get("content").or_else(|| last()?.get("content"));
        content.and_then(Value::as_str).unwrap_or_default()
    }

    /// The request for a response: a line of JSON with its line break.
    pub(super) fn request(&self, index: usize, response: usize) -> String {
        let mut request = Map::new();
        request.insert("index".to_owned(), json!(index));
        request.insert("response_index".to_owned(), json!(response));
        request.insert("prompt".to_owned(), self.fields.get("prompt").cloned().unwrap_or_default());
        request.insert("response".to_owned(), json!(self.content(response)));
        for name in ["message", "messages"] {
            if let Some(turns) = self.responses[response].get(name) {
                request.insert(name.to_owned(), turns.clone());
            }
        }
        for (name, value) in self.fields.iter().filter(|(name, _)| *name != "responses") {
            request.entry(name.clone()).or_insert_with(|| value.clone());
        }
        Value::Object(request).to_string() + "\n"
    }

    pub(super) fn set_score(&mut self, response: usize, score: Score) {
        // A label that was there for want of a better score must not contradict the new one.
        self.fields.shift_remove("chosen");
        let fields = &mut self.responses[response];
        fields.insert("reward".to_owned(), json!(score.reward));
        if !score.scores.is_empty() {
            match fields.get_mut("scores").and_then(Value::as_object_mut) {
                Some(scores) => scores.extend(score.scores),
                None => {
                    fields.insert("scores".to_owned(), Value::Object(score.scores));
                }
            }
        }
    }

    /// The row with the responses that `keep` accepts by index and text; `None` if fewer than `fewest` remain.
    pub(super) fn with_responses(&self, fewest: usize, keep: impl Fn(usize, &str) -> bool) -> Option<Value> {
        let kept = (0..self.responses.len()).filter(|&k| keep(k, self.content(k)));
        let kept: Vec<Value> = kept.map(|k| Value::Object(self.responses[k].clone())).collect();
        if kept.len() < fewest {
            return None;
        }
        let mut fields = self.fields.clone();
        fields.insert("responses".to_owned(), Value::Array(kept));
        Some(Value::Object(fields))
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use collimate_data::JsonRows;
    use rstest::rstest;

    use super::*;

    fn rows(text: &str) -> Result<Vec<RewardRow>, DataError> {
        let rows = JsonRows::from_reader(std::io::Cursor::new(text.to_owned()), Path::new("rows.jsonl"))?;
        rows.map(|row| RewardRow::parse(row?)).collect()
    }

    const ROW: &str =
        r#"{"prompt": "a", "key": 7, "index": "own", "responses": [{"content": "x", "id": 1}, {"content": "y"}]}"#;

    #[test]
    fn a_request_has_the_rows_other_fields_and_our_indices() {
        let rows = rows(ROW).expect("rows");
        let expected = "{\"index\":4,\"response_index\":1,\"prompt\":\"a\",\"response\":\"y\",\"key\":7}\n";
        assert_eq!(rows[0].request(4, 1), expected);
    }

    #[test]
    fn a_response_with_a_call_is_sent_whole() {
        let rows = rows(
            r#"{"prompt": "a", "responses": [{"message": {"role": "assistant", "content": null, "tool_calls": [1]}}]}"#,
        );
        let expected = "{\"index\":0,\"response_index\":0,\"prompt\":\"a\",\"response\":\"\",\
                        \"message\":{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[1]}}\n";
        assert_eq!(rows.expect("rows")[0].request(0, 0), expected);
    }

    #[test]
    fn a_new_reward_takes_the_place_of_a_label() {
        let mut row = rows(r#"{"prompt": "a", "responses": [{"content": "x"}, {"content": "y"}], "chosen": 0}"#)
            .expect("rows")
            .remove(0);
        row.set_score(1, Score { reward: 1.0, scores: Map::new() });
        assert_eq!(row.with_responses(2, |_, _| true).expect("a row").get("chosen"), None);
    }

    #[test]
    fn scores_join_what_a_response_has() {
        let mut row = rows(ROW).expect("rows").remove(0);
        row.set_score(0, Score { reward: 0.5, scores: Map::from_iter([("form".to_owned(), json!(1))]) });
        let written = row.with_responses(1, |k, _| k == 0).expect("a row");
        let expected = r#"{"prompt":"a","key":7,"index":"own","responses":[{"content":"x","id":1,"reward":0.5,"scores":{"form":1}}]}"#;
        assert_eq!(written.to_string(), expected);
        assert_eq!(row.with_responses(2, |_, text| text == "x"), None);
    }

    #[rstest]
    #[case("[[]]", "rows.jsonl:1: expected an object with \"prompt\" and \"responses\", found a list")]
    #[case(
        "{\"responses\": []}",
        "rows.jsonl:1: field \"prompt\": expected a string or a list of messages, found nothing"
    )]
    #[case("{\"prompt\": \"a\"}", "rows.jsonl:1: field \"responses\": expected a list of responses, found nothing")]
    #[case(
        "{\"prompt\": \"a\", \"responses\": [{\"content\": \"x\"}, {\"content\": 1}]}",
        "rows.jsonl:1: field \"responses[1].content\": expected a string, found a number"
    )]
    fn broken_rows_are_named(#[case] text: &str, #[case] message: &str) {
        assert_eq!(rows(text).expect_err("no rows").to_string(), message);
    }
}
