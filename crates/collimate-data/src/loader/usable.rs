//! What of a row is used: fields that are not ignored, and groups that are not empty.

use serde_json::Value;

use crate::layout::RawGroup;
use crate::layout::node::RowError;
use crate::message::is_blank;
use crate::{Message, Prompt, SkipReason};

/// Removes a field from a row, and from the messages and responses in its lists.
pub(super) fn forget(row: &mut Value, name: &str) {
    let Some(fields) = row.as_object_mut() else { return };
    fields.shift_remove(name);
    for item in fields.values_mut().filter_map(Value::as_array_mut).flatten() {
        item.as_object_mut().map(|item| item.shift_remove(name));
    }
}

/// Refuses a group with an empty prompt or response, or with too few responses.
pub(super) fn check_usable(raw: &RawGroup, min_responses: usize) -> Result<(), RowError> {
    let empty_prompt = match &raw.prompt {
        Prompt::Text(text) => text.trim().is_empty(),
        Prompt::Messages(messages) => messages.iter().all(Message::is_blank),
    };
    if empty_prompt {
        return Err(RowError::Unusable(SkipReason::EmptyPrompt, "the prompt is empty".to_owned()));
    }
    if let Some(response) = raw.responses.iter().find(|response| is_blank(&response.content, &response.fields)) {
        return Err(RowError::Unusable(
            SkipReason::EmptyResponse,
            format!("the response \"{}\" is empty", response.field),
        ));
    }
    let num_responses = raw.responses.len();
    if num_responses < min_responses.max(1) {
        let problem = format!("the group has {num_responses} responses, expected at least {}", min_responses.max(1));
        return Err(RowError::Unusable(SkipReason::TooFewResponses, problem));
    }
    Ok(())
}
