//! A parsed row, before its rewards are computed.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::node::{Node, Signal};
use crate::{ChatInputs, Message, Prompt};

/// A parsed row.
#[derive(Debug, Clone, Default)]
pub(crate) struct RawGroup {
    pub(crate) prompt: Prompt,
    pub(crate) responses: Vec<RawResponse>,
    /// Where the numbers come from, such as `responses[].reward`; must be the same for every row of a file.
    pub(crate) signal_name: &'static str,
    /// What is expected where a number is missing; by default a finite number.
    pub(crate) signal_expected: Option<&'static str>,
    pub(crate) kind: RowKind,
    /// Whether the numbers follow from a label or from the responses' places, so that they have no direction.
    pub(crate) is_labeled: bool,
    /// Index of the response that the row labels the best, if it does.
    pub(crate) chosen: Option<usize>,
    /// What the chat template is given besides the messages; read for every layout alike.
    pub(crate) chat: ChatInputs,
}

/// What a row is to its group.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum RowKind {
    /// It holds the whole group.
    #[default]
    Group,
    /// It holds one rated response; all rows with its prompt are a group.
    OneOfMany,
    /// It holds one response without a reward, to be imitated.
    Demonstration,
}

/// Where the rewards of [`RowKind::Demonstration`] come from.
pub(crate) const DEMONSTRATED: &str = "the only response 1";

/// Where the rewards of responses labeled good or bad come from.
pub(crate) const LABELED: &str = "label true 1, false 0";

impl RawGroup {
    pub(super) fn new(prompt: Prompt, responses: Vec<RawResponse>, signal_name: &'static str) -> Self {
        Self { prompt, responses, signal_name, ..Self::default() }
    }

    /// What is expected where a number is missing.
    pub(crate) fn expected(&self) -> &'static str {
        self.signal_expected.unwrap_or("a finite number")
    }

    /// A chosen and a rejected response, which have rewards 1 and 0.
    pub(super) fn pair<R: Into<Reply>>(
        prompt: Prompt,
        [(chosen, chosen_node), (rejected, rejected_node)]: [(R, &Node); 2],
        signal_name: &'static str,
    ) -> Self {
        let responses = [(chosen, chosen_node, 1.0), (rejected, rejected_node, 0.0)];
        let responses = responses.map(|(reply, node, reward)| RawResponse::labeled(reply, node, reward));
        Self { chosen: Some(0), is_labeled: true, ..Self::new(prompt, responses.into(), signal_name) }
    }

    /// One response to imitate.
    pub(super) fn demonstration(prompt: Prompt, reply: Reply, node: &Node) -> Self {
        let response = RawResponse::labeled(reply, node, 1.0);
        Self { kind: RowKind::Demonstration, ..Self::new(prompt, vec![response], DEMONSTRATED) }
    }

    /// One rated response of several to its prompt.
    pub(super) fn one_of_many(prompt: Prompt, response: RawResponse, signal_name: &'static str) -> Self {
        Self { kind: RowKind::OneOfMany, ..Self::new(prompt, vec![response], signal_name) }
    }
}

/// The assistant's part of a conversation: one turn, or several with what was said between them.
#[derive(Debug, Clone, Default)]
pub(super) struct Reply {
    /// The turns before the last one.
    pub(super) before: Vec<Message>,
    pub(super) last: Message,
}

impl From<Message> for Reply {
    fn from(last: Message) -> Self {
        Self { before: Vec::new(), last }
    }
}

/// A response of a parsed row.
#[derive(Debug, Clone)]
pub(crate) struct RawResponse {
    /// The turns before the last one, as [`Response::before`](crate::Response::before).
    pub(crate) before: Vec<Message>,
    pub(crate) content: String,
    /// What else the assistant's turn has, as [`Message::fields`].
    pub(crate) fields: Map<String, Value>,
    /// Path of the response in its row, for messages.
    pub(crate) field: String,
    /// The layout's own number: a score, or a rank if [`Layout::has_ranks`](super::Layout::has_ranks).
    pub(crate) signal: Signal,
    /// Path of that number, whether it exists or not.
    pub(crate) signal_field: String,
    /// Ratings of aspects, by name.
    pub(crate) aspects: BTreeMap<String, f64>,
    /// The response's other numbers, by name.
    pub(crate) others: BTreeMap<String, f64>,
    /// The tokens that were sampled, if the row has them.
    pub(crate) token_ids: Option<Vec<u32>>,
}

impl RawResponse {
    pub(super) fn new(reply: impl Into<Reply>, field: &str, signal: Signal, signal_field: String) -> Self {
        let Reply { before, last } = reply.into();
        Self {
            before,
            content: last.content,
            fields: last.fields,
            field: field.to_owned(),
            signal,
            signal_field,
            aspects: BTreeMap::new(),
            others: BTreeMap::new(),
            token_ids: None,
        }
    }

    /// A response whose reward follows from its place in the row.
    pub(super) fn labeled(reply: impl Into<Reply>, node: &Node, reward: f64) -> Self {
        Self::new(reply, &node.path, Ok(reward), node.path.clone())
    }
}
