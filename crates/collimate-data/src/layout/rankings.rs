//! Rankings: Nectar's `answers[].answer/.rank`, and the generic `completions[].completion/.rank`; rank 1 is best.

use std::collections::BTreeMap;

use super::node::{Node, RowError};
use super::spec::{LayoutSpec, Numbers, has, has_any};
use super::{RawGroup, RawResponse};
use crate::{Message, Prompt};

const TEXT_KEYS: [&str; 4] = ["completion", "response", "content", "text"];

pub(super) static NECTAR: LayoutSpec = LayoutSpec {
    name: "nectar",
    fields: "prompt, answers[].answer, answers[].rank",
    prompt: "`prompt`; `\\n\\nHuman: …` becomes messages",
    responses: "`answers[].answer`",
    rewards: "`answers[].rank`, 1 being the best",
    numbers: Numbers::Ranks,
    matches: |row| has(row, &["prompt", "answers"]),
    parse: parse_nectar,
};

pub(super) static RANKING: LayoutSpec = LayoutSpec {
    name: "ranking",
    fields: "context or prompt, completions[].completion, completions[].rank",
    prompt: "`context` or `prompt`",
    responses: "`completions[].completion`, `.response`, `.content` or `.text`",
    rewards: "`completions[].rank`, 1 being the best",
    numbers: Numbers::Ranks,
    matches: |row| has_any(row, &["prompt", "context"]) && has(row, &["completions"]),
    parse: parse_ranking,
};

fn parse_nectar(row: &Node) -> Result<RawGroup, RowError> {
    let prompt = match row.require("prompt", "a string or a list of messages")?.prompt()? {
        Prompt::Text(text) => dialogue(&text).map_or(Prompt::Text(text), Prompt::Messages),
        messages => messages,
    };
    let answers = row.require("answers", "a list of answers")?.items("a list of answers")?;
    let num_answers = answers.len();
    let responses = answers.iter().map(|node| ranked(node, &["answer"], num_answers)).collect::<Result<_, _>>()?;
    Ok(RawGroup { prompt, responses, signal_name: "answers[].rank", ..RawGroup::default() })
}

fn parse_ranking(row: &Node) -> Result<RawGroup, RowError> {
    let prompt = match row.get("context") {
        Some(context) => context.prompt()?,
        None => row.require("prompt", "a string or a list of messages (or \"context\")")?.prompt()?,
    };
    let items = row.require("completions", "a list of completions")?.items("a list of completions")?;
    let num_items = items.len();
    let responses = items.iter().map(|node| ranked(node, &TEXT_KEYS, num_items)).collect::<Result<_, _>>()?;
    Ok(RawGroup { prompt, responses, signal_name: "completions[].rank", ..RawGroup::default() })
}

fn ranked(node: &Node, text_keys: &[&str], num_responses: usize) -> Result<RawResponse, RowError> {
    let reply = node.reply(text_keys)?;
    let rank_node = node.require("rank", "a rank")?;
    let rank = rank_node.number()?;
    if !(1.0..=num_responses as f64).contains(&rank) {
        return Err(rank_node.error(&format!("a rank from 1 to {num_responses}, the number of responses")));
    }
    Ok(RawResponse {
        content: reply.content,
        fields: reply.fields,
        field: node.path.clone(),
        signal: Some(rank),
        signal_field: rank_node.path,
        others: BTreeMap::from([("rank".to_owned(), rank)]),
        ..RawResponse::default()
    })
}

/// The turns of `"\n\nHuman: …\n\nAssistant: …\n\nHuman: …\n\nAssistant: "`; `None` if the text is not such a dialogue.
///
/// An empty last assistant turn awaits the answer and is dropped. A paragraph within a turn that begins with a speaker's
/// name counts as a new turn, since the format is ambiguous.
fn dialogue(text: &str) -> Option<Vec<Message>> {
    const SPEAKERS: [(&str, &str); 2] = [("Human:", "user"), ("Assistant:", "assistant")];
    const PARAGRAPH: &str = "\n\n";
    let speaker = |paragraph: &str| SPEAKERS.into_iter().find(|(name, _)| paragraph.starts_with(name));
    let text = text.trim_start();
    let (mut name, mut role) = speaker(text).filter(|(name, _)| *name == SPEAKERS[0].0)?;
    let (mut messages, mut start) = (Vec::new(), 0);
    // Paragraph breaks may overlap, as in three newlines. A single pass, since a dialogue may have very many turns.
    let breaks = text.match_indices('\n').map(|(offset, _)| offset).filter(|&i| text[i..].starts_with(PARAGRAPH));
    for end in breaks.chain([text.len()]) {
        let next = text.get(end + PARAGRAPH.len()..).and_then(speaker);
        if next.is_none() && end < text.len() {
            continue;
        }
        let content = text[start + name.len()..end].trim().to_owned();
        messages.push(Message::new(role, content));
        if let Some(next) = next {
            (name, role) = next;
            start = end + PARAGRAPH.len();
        }
    }
    if messages.last().is_some_and(|last| last.role == "assistant" && last.content.is_empty()) {
        messages.pop();
    }
    Some(messages)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::one_turn("\n\nHuman: Hi there\n\nAssistant: ", &[("user", "Hi there")])]
    #[case::three_turns(
        "\n\nHuman: a\n\nb\n\nAssistant: c\n\nHuman: d\n\nAssistant:",
        &[("user", "a\n\nb"), ("assistant", "c"), ("user", "d")],
    )]
    #[case::without_an_open_turn("Human: a", &[("user", "a")])]
    #[case::three_newlines("Human: a\n\n\nAssistant: b\n\n\n\nHuman: c", &[("user", "a"), ("assistant", "b"), ("user", "c")])]
    #[case::a_speaker_within_a_line("Human: a Human: b\nAssistant: c", &[("user", "a Human: b\nAssistant: c")])]
    #[case::empty_turns("Human:\n\nHuman:\n\nAssistant:", &[("user", ""), ("user", "")])]
    fn a_dialogue_becomes_messages(#[case] text: &str, #[case] expected: &[(&str, &str)]) {
        let messages = dialogue(text).unwrap();
        let turns: Vec<(&str, &str)> = messages.iter().map(|m| (m.role.as_str(), m.content.as_str())).collect();
        assert_eq!(turns, expected);
    }

    #[test]
    fn plain_text_stays_text() {
        assert_eq!(dialogue("What did the Human: say?"), None);
    }
}
