//! What a row says besides prompt and responses, in any layout: inputs of the chat template, a system prompt, a label.
//!
//! Columns without a meaning here (ids, sources) pass. Those that would change the meaning of a row are used or refused,
//! never passed over.

use serde_json::{Map, Value, json};

use super::Layout;
use super::node::{Node, RowError};
use super::raw::RawGroup;
use crate::{Message, Prompt};
use collimate_messages::{is_something, put_into_prompt};

/// A column's name, and what to do about it.
type Refused = (&'static str, &'static str);

/// Columns that would change the meaning of a prompt. A layout that reads one says so in [`LayoutSpec::reads`](super::spec::LayoutSpec).
const REFUSED_OF_PROMPTS: &[Refused] = &[
    ("functions", "name the column \"tools\", as JSON schemas"),
    ("history", "make the prompt a list of messages that begins with those turns"),
    ("video", ONLY_TEXT),
    ("videos", ONLY_TEXT),
    ("audio", ONLY_TEXT),
    ("audios", ONLY_TEXT),
];

/// Columns that would change the meaning of a row to train on. In a row of a prompt alone they may be a reward program's.
const REFUSED_OF_ROWS: &[Refused] = &[
    ("function_call", CALLS),
    ("tool_calls", CALLS),
    ("reasoning_content", CALLS),
    ("input", "make it a part of the prompt"),
    ("documents", "give them in \"chat_template_kwargs\""),
    ("chat_template", "give it in the recipe"),
    ("margin", "pairs have no margin; rewards are read from score_chosen and score_rejected"),
    ("weight", WEIGHTS),
    ("sample_weight", WEIGHTS),
    ("loss_weight", WEIGHTS),
];
const CALLS: &str = "it belongs to a message";
const WEIGHTS: &str = "rows have no weights";
const ONLY_TEXT: &str = "only text and images are read";

/// Columns with the images of a conversation, which stand beside it as TRL's rows have them.
const IMAGES: [&str; 2] = ["images", "image"];

/// Columns with a system prompt, for conversations that begin without one.
const SYSTEM: [&str; 2] = ["system", "system_prompt"];

/// Columns that name the best response of a row whose layout has no such label of its own.
const LABELS: [&str; 4] = ["chosen", "chosen_index", "chosen_idx", "best_index"];

/// Names that `apply_chat_template` takes for itself, so that a template cannot be given them.
const RESERVED: [&str; 14] = [
    "messages",
    "conversation",
    "chat_template",
    "add_generation_prompt",
    "continue_final_message",
    "tokenize",
    "padding",
    "truncation",
    "max_length",
    "return_tensors",
    "return_dict",
    "return_assistant_tokens_mask",
    "sanitize_control_tokens",
    "tokenizer_kwargs",
];

/// Adds what the row says besides prompt and responses.
///
/// # Errors
/// A column that would change the row's meaning cannot be used.
pub(super) fn add(raw: &mut RawGroup, row: &Node, layout: Layout) -> Result<(), RowError> {
    refuse(row, layout, REFUSED_OF_ROWS)?;
    add_inputs(raw, row, layout)?;
    if raw.chosen.is_none() && layout != Layout::Preference {
        let label = LABELS.into_iter().filter_map(|name| row.get(name)).find(|node| !node.value.is_null());
        // Beside `rejected`, `chosen` belongs to a pair, which need not be among the responses.
        let is_pair = row.get("rejected").is_some();
        raw.chosen = label.map(|node| labeled(raw, &node)).transpose().or_else(|error| match is_pair {
            true => Ok(None),
            false => Err(error),
        })?;
    }
    Ok(())
}

/// Adds what the row says besides its prompt, for rows that need no responses.
pub(super) fn add_inputs(raw: &mut RawGroup, row: &Node, layout: Layout) -> Result<(), RowError> {
    refuse(row, layout, REFUSED_OF_PROMPTS)?;
    raw.chat.tools = tools(row, layout)?;
    raw.chat.kwargs = kwargs(row)?;
    for name in SYSTEM.into_iter().filter(|name| !layout.reads(name)) {
        if let Some(node) = row.get(name).filter(|node| is_something(node.value)) {
            add_system(&mut raw.prompt, &node)?;
        }
    }
    for name in IMAGES.into_iter().filter(|name| !layout.reads(name)) {
        if let Some(node) = row.get(name).filter(|node| is_something(node.value)) {
            add_images(&mut raw.prompt, &node)?;
        }
    }
    if let Prompt::Text(_) = raw.prompt {
        refuse_for_text(raw, row)?;
    }
    Ok(())
}

/// Refuses columns that ask for something.
fn refuse(row: &Node, layout: Layout, columns: &[Refused]) -> Result<(), RowError> {
    for (name, remedy) in columns.iter().filter(|(name, _)| !layout.reads(name)) {
        let neutral = if name.ends_with("weight") { 1.0 } else { 0.0 };
        let asks = |value: &Value| is_something(value) && value.as_f64() != Some(neutral);
        if let Some(node) = row.get(name).filter(|node| asks(node.value)) {
            return Err(node.error(&format!("nothing: {remedy}, or leave it out with --ignore-field (ignore_fields)")));
        }
    }
    Ok(())
}

/// `tools`: a list of JSON schemas, or that as text.
fn tools(row: &Node, layout: Layout) -> Result<Option<Vec<Value>>, RowError> {
    const EXPECTED: &str = "a list of tools, each a JSON schema";
    let Some(node) = row.get("tools").filter(|node| !node.value.is_null()) else { return Ok(None) };
    let parsed = match node.value.as_str() {
        Some("") => return Ok(None),
        Some(text) => serde_json::from_str(text).map_err(|_| node.error(EXPECTED))?,
        None => node.value.clone(),
    };
    let parsed = Node { value: &parsed, path: node.path };
    let tools = parsed.items(EXPECTED)?;
    tools
        .iter()
        .map(|tool| {
            let schema = tool.object()?;
            // LLaMA-Factory's rows have bare functions, which it wraps for the template.
            let is_bare = layout == Layout::ShareGpt && schema.contains_key("name") && !schema.contains_key("function");
            Ok(if is_bare { json!({"type": "function", "function": schema}) } else { Value::Object(schema.clone()) })
        })
        .collect::<Result<_, _>>()
        .map(Some)
}

/// `chat_template_kwargs`: further variables of the template.
fn kwargs(row: &Node) -> Result<Map<String, Value>, RowError> {
    let Some(node) = row.get("chat_template_kwargs").filter(|node| !node.value.is_null()) else {
        return Ok(Map::new());
    };
    let kwargs = node.object()?;
    match RESERVED.into_iter().find_map(|name| node.get(name)) {
        Some(reserved) => Err(reserved.error("a variable of the chat template, not an argument of its function")),
        None => Ok(kwargs.clone()),
    }
}

/// Puts a system prompt before a conversation.
fn add_system(prompt: &mut Prompt, node: &Node) -> Result<(), RowError> {
    let text = node.text()?;
    let Prompt::Messages(messages) = prompt else {
        return Err(node.error("nothing, since the prompt is text; make it a list of messages"));
    };
    match messages.first().filter(|message| message.role == "system") {
        Some(first) if first.content.trim() == text.trim() => {}
        Some(_) => return Err(node.error("nothing, since the prompt begins with another system prompt")),
        None => messages.insert(0, Message::new("system", text)),
    }
    Ok(())
}

/// Puts images into the parts of a conversation that name none.
fn add_images(prompt: &mut Prompt, node: &Node) -> Result<(), RowError> {
    let Prompt::Messages(messages) = prompt else {
        return Err(node.error("nothing, since the prompt is text; make it a list of messages"));
    };
    let images = node.value.as_array().cloned().unwrap_or_else(|| vec![node.value.clone()]);
    put_into_prompt(messages, &images).map_err(|(number, expected)| {
        match number.and_then(|number| images.get(number)) {
            Some(value) if node.value.is_array() => {
                Node { value, path: format!("{}[{}]", node.path, number.unwrap_or_default()) }.error(&expected)
            }
            _ => node.error(&expected),
        }
    })
}

/// Refuses what only a chat template could use.
fn refuse_for_text(raw: &RawGroup, row: &Node) -> Result<(), RowError> {
    const EXPECTED: &str = "nothing, since the prompt is text, which no chat template renders";
    let node = |name: &str| row.get(name).filter(|node| is_something(node.value));
    let tools = node("tools").filter(|_| raw.chat.tools.as_ref().is_some_and(|tools| !tools.is_empty()));
    if let Some(node) = tools.or_else(|| node("chat_template_kwargs")) {
        return Err(node.error(EXPECTED));
    }
    let field = raw.responses.iter().find_map(|response| Some((response, response.fields.iter().next()?)));
    match field {
        Some((response, (name, value))) => {
            let path = format!("{}.{name}", response.field);
            Err(Node { value, path }.error(EXPECTED))
        }
        None => Ok(()),
    }
}

/// The response that a label names: by its index, its text, or its column's name.
fn labeled(raw: &RawGroup, node: &Node) -> Result<usize, RowError> {
    let last_message = |value: &Value| value.as_array().and_then(|messages| messages.last()?.get("content").cloned());
    let value = last_message(node.value).unwrap_or_else(|| node.value.clone());
    let found = match (value.as_u64(), value.as_str()) {
        (Some(index), _) => usize::try_from(index).ok().filter(|index| *index < raw.responses.len()),
        (_, Some(text)) => raw.responses.iter().position(|response| response.content == text || response.field == text),
        _ => None,
    };
    found.ok_or_else(|| {
        node.error(&format!(
            "the best response: its index from 0 to {}, or its text",
            raw.responses.len().saturating_sub(1)
        ))
    })
}
