//! Splits completions into prompt and response.

use serde_json::Value;

use super::node::{Node, RowError};
use super::raw::Reply;
use crate::{Message, Prompt};

/// A row's prompt and the assistant's reply in each of its completions.
pub(super) struct Conversation {
    pub(super) prompt: Prompt,
    pub(super) replies: Vec<Reply>,
}

/// Splits completions that are texts, assistant messages, or whole conversations.
///
/// What follows the prompt is the response, up to its end: also several turns, from the assistant's first to the last.
///
/// - Plain texts need an explicit `prompt`: where a prompt ends inside a text would be a guess.
/// - Without a `prompt`, the conversations' longest common prefix of messages is the prompt.
/// - With an explicit `prompt`, conversations may repeat it at their start or omit it.
pub(super) fn split(row: &Node, completions: &[Node]) -> Result<Conversation, RowError> {
    split_from(row.given("prompt").map(|node| node.prompt()).transpose()?, completions)
}

/// Splits completions whose prompt is already read.
pub(super) fn split_from(prompt: Option<Prompt>, completions: &[Node]) -> Result<Conversation, RowError> {
    if completions.iter().all(|node| node.value.is_string()) {
        let Some(prompt) = prompt else { return Err(text_without_prompt(completions)) };
        let reply = |node: &Node| Ok(Message::new("assistant", node.text()?).into());
        let replies = completions.iter().map(reply).collect::<Result<_, RowError>>()?;
        return Ok(Conversation { prompt, replies });
    }
    check_kinds(completions)?;
    let mut lists = Vec::with_capacity(completions.len());
    for node in completions {
        let messages = if node.value.is_object() { vec![node.message()?] } else { node.messages()? };
        if messages.is_empty() {
            return Err(node.error("at least one message"));
        }
        lists.push(messages);
    }
    split_messages(prompt, lists, completions)
}

/// Checks that all completions are messages. A value that is neither text nor messages is to blame, not its siblings.
fn check_kinds(completions: &[Node]) -> Result<(), RowError> {
    let is_messages = |node: &Node| match node.value {
        Value::Object(_) => true,
        Value::Array(items) => items.iter().all(Value::is_object),
        _ => false,
    };
    let text = completions.iter().find(|node| node.value.is_string());
    if let Some(odd) = completions.iter().find(|node| !node.value.is_string() && !is_messages(node)) {
        let expected = if text.is_some() { "a string" } else { "a string or a list of messages" };
        return Err(match odd.value.as_array() {
            Some(items) if items.iter().all(Value::is_string) => RowError::Field {
                field: odd.path.clone(),
                expected: expected.to_owned(),
                found: "a list of texts".to_owned(),
            },
            _ => odd.error(expected),
        });
    }
    text.map_or(Ok(()), |text| Err(text.error("messages, like its siblings")))
}

/// Splits whole conversations; `nodes` are their places in the row.
pub(super) fn split_messages(
    prompt: Option<Prompt>,
    lists: Vec<Vec<Message>>,
    nodes: &[Node],
) -> Result<Conversation, RowError> {
    let (prompt, num_shared) = shared_prompt(prompt, &lists, nodes)?;
    let replies = lists.into_iter().zip(nodes).map(|(messages, node)| reply(messages, num_shared, node));
    Ok(Conversation { prompt, replies: replies.collect::<Result<_, _>>()? })
}

/// The prompt, and how many leading messages of every list belong to it.
fn shared_prompt(
    explicit: Option<Prompt>,
    lists: &[Vec<Message>],
    nodes: &[Node],
) -> Result<(Prompt, usize), RowError> {
    match explicit {
        Some(Prompt::Messages(prompt)) => {
            let repeats = |messages: &Vec<Message>| messages.len() > prompt.len() && messages.starts_with(&prompt);
            let num_shared = if lists.iter().all(repeats) { prompt.len() } else { 0 };
            Ok((Prompt::Messages(prompt), num_shared))
        }
        Some(Prompt::Text(text)) if lists.iter().all(|messages| messages.len() == 1) => {
            Ok((Prompt::Messages(vec![Message::new("user", text)]), 0))
        }
        Some(Prompt::Text(text)) => {
            let num_shared = common_prefix(lists);
            let shared = &lists[0][..num_shared];
            if !shared.iter().any(|message| message.content.trim() == text.trim()) {
                return Err(RowError::Problem(format!(
                    "\"prompt\" is not among the messages that {} have in common; make it the list of messages before \
                     the response, or remove it",
                    paths(nodes)
                )));
            }
            Ok((Prompt::Messages(shared.to_vec()), num_shared))
        }
        None => match common_prefix(lists) {
            0 => Err(RowError::Problem(format!(
                "there is no \"prompt\" and {} begin with different messages; add the prompt as a field",
                paths(nodes)
            ))),
            num_shared => Ok((Prompt::Messages(lists[0][..num_shared].to_vec()), num_shared)),
        },
    }
}

/// Number of messages all lists have in common at their start, leaving each at least one.
fn common_prefix(lists: &[Vec<Message>]) -> usize {
    let shortest = lists.iter().map(Vec::len).min().unwrap_or(0);
    (0..shortest.saturating_sub(1)).take_while(|&i| lists.iter().all(|list| list[i] == lists[0][i])).count()
}

/// What follows the prompt, which the assistant begins and ends.
pub(super) fn reply(mut messages: Vec<Message>, num_shared: usize, node: &Node) -> Result<Reply, RowError> {
    let mut turns = messages.split_off(num_shared);
    let not_assistant = [0, turns.len().saturating_sub(1)].into_iter().find(|&turn| !is_assistant(&turns, turn));
    if let Some(turn) = not_assistant {
        let more = if turns.len() > 1 { ", who begins and ends what follows the prompt" } else { "" };
        return Err(RowError::Field {
            field: format!("{}[{}].role", node.path, num_shared + turn),
            expected: format!("\"assistant\"{more}"),
            found: turns.get(turn).map_or_else(|| "nothing".to_owned(), |message| format!("\"{}\"", message.role)),
        });
    }
    let last = turns.pop().unwrap_or_default();
    Ok(Reply { before: turns, last })
}

fn is_assistant(turns: &[Message], turn: usize) -> bool {
    turns.get(turn).is_some_and(|message| message.role == "assistant")
}

fn text_without_prompt(nodes: &[Node]) -> RowError {
    RowError::Problem(format!(
        "{} are text and there is no \"prompt\", so where the prompt ends would be a guess; add a \"prompt\" field and \
         keep only the responses, or give lists of messages",
        paths(nodes)
    ))
}

fn paths(nodes: &[Node]) -> String {
    let names: Vec<String> = nodes.iter().map(|node| format!("\"{}\"", node.path)).collect();
    names.join(", ")
}
