//! Dialogues in text: `\n\nHuman: …\n\nAssistant: …`.

use crate::Message;

/// The turns of `"\n\nHuman: …\n\nAssistant: …\n\nHuman: …\n\nAssistant: "`; `None` if the text is not such a dialogue.
///
/// An empty last assistant turn awaits the answer and is dropped. A paragraph within a turn that begins with a speaker's
/// name counts as a new turn, since the format is ambiguous.
pub(super) fn dialogue(text: &str) -> Option<Vec<Message>> {
    let mut messages = turns(text)?;
    if messages.last().is_some_and(|last| last.role == "assistant" && last.content.is_empty()) {
        messages.pop();
    }
    Some(messages)
}

/// The turns of a dialogue, the last one even if it is empty.
pub(super) fn turns(text: &str) -> Option<Vec<Message>> {
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
