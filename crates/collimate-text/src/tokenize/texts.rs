//! The texts that a group's ids are made of.

use std::borrow::Cow;

use collimate_data::{Prompt, PromptGroup};

use super::sampled::Sampled;
use super::size::Size;
use super::turn::Turns;
use crate::{TextError, TextTokenizer};

/// The texts that a group's ids are made of.
pub(super) struct Texts<'a> {
    pub(super) prompt: Cow<'a, str>,
    /// Whether the tokenizer puts its special tokens before the prompt.
    pub(super) adds_special: bool,
    /// What continues the prompt, and whether its last token is the response's end.
    pub(super) responses: Vec<(Cow<'a, str>, bool)>,
}

pub(super) fn texts<'a>(
    group: &'a PromptGroup,
    sampled: &[Sampled<'_>],
    tokenizer: &TextTokenizer,
    size: &mut Size,
) -> Result<Texts<'a>, TextError> {
    let mut add = |response, text: &str| {
        let too_long = |reason| TextError::Unusable { index: group.index, line: group.line, reason };
        size.add(response, text).map_err(too_long)
    };
    let contents = group.responses.iter().map(|response| response.content.as_str());
    match &group.prompt {
        Prompt::Text(text) => {
            add(None, text)?;
            contents.clone().enumerate().try_for_each(|(k, content)| add(Some(k), content))?;
            let responses = contents.map(|content| (Cow::Borrowed(content), false)).collect();
            Ok(Texts { prompt: Cow::Borrowed(text), adds_special: true, responses })
        }
        Prompt::Messages(messages) => {
            let template = tokenizer.chat_template().ok_or_else(|| TextError::NoTemplate {
                problem: "the prompt is a list of messages, but the model's folder has no chat_template.jinja and no \
                          \"chat_template\" in tokenizer_config.json"
                    .to_owned(),
            })?;
            let turns = Turns::new(template, messages, &group.chat)?;
            add(None, turns.prompt())?;
            let mut responses = Vec::with_capacity(group.responses.len());
            for (k, (response, sampled)) in group.responses.iter().zip(sampled).enumerate() {
                // A template may refuse what was sampled, or write it differently.
                let turn = match sampled {
                    Sampled::Own(_) => (Cow::Borrowed(response.content.as_str()), true),
                    _ => turns.response(response, tokenizer).map(|(turn, ended)| (Cow::Owned(turn), ended))?,
                };
                add(Some(k), &turn.0)?;
                responses.push(turn);
            }
            Ok(Texts { prompt: Cow::Owned(turns.prompt().to_owned()), adds_special: false, responses })
        }
    }
}
