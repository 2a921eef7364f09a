//! Which responses and groups can be used.

use collimate_rewards::RewardFrom;

use super::row_rewards::number;
use super::{LoadOptions, MostResponses};
use crate::layout::node::RowError;
use crate::layout::raw::{RawGroup, RawResponse, RowKind};
use crate::{Layout, Message, Prompt, SkipReason, counted};
use collimate_messages::is_blank;

/// Checks a group, or leaves out the responses that cannot be used if the options allow it; returns why each was left out.
///
/// # Errors
/// The group cannot be used as it is, or too little would remain of it.
pub(super) fn keep_usable(
    raw: &mut RawGroup,
    options: &LoadOptions,
    layout: Layout,
    from: &RewardFrom,
) -> Result<Vec<SkipReason>, RowError> {
    let empty_prompt = match &raw.prompt {
        Prompt::Text(text) => text.trim().is_empty(),
        Prompt::Messages(messages) => messages.iter().all(Message::is_blank),
    };
    if empty_prompt {
        return Err(RowError::Unusable(SkipReason::EmptyPrompt, "the prompt is empty".to_owned()));
    }
    let expected = raw.expected();
    let fault = |response: &RawResponse| empty(response).or_else(|| number(response, from, expected).err());
    let faults: Vec<Option<RowError>> = raw.responses.iter().map(fault).collect();
    let mut left_out = Vec::new();
    for fault in faults.iter().flatten() {
        match fault.reason() {
            Some(reason) if options.skip_unusable => left_out.push(reason),
            _ => return Err(fault.clone()),
        }
    }
    let least = options.min_responses.max(1);
    let num_kept = faults.len() - left_out.len();
    if num_kept < least {
        let first = faults.into_iter().flatten().next();
        return Err(first.unwrap_or_else(|| too_few(raw, least)));
    }
    if !left_out.is_empty() {
        let is_kept = |k: usize| faults.get(k).is_none_or(Option::is_none);
        raw.chosen =
            raw.chosen.filter(|chosen| is_kept(*chosen)).map(|chosen| (0..chosen).filter(|k| is_kept(*k)).count());
        let mut kept = (0..).map(is_kept);
        raw.responses.retain(|_| kept.next().unwrap_or(true));
        if layout.has_ranks() {
            close_gaps(raw);
        }
    }
    if let Some(most) = options.most_responses.as_ref().filter(|most| raw.responses.len() > most.count) {
        let (found, MostResponses { count, of }) = (raw.responses.len(), most);
        return Err(RowError::Problem(format!("{}, but {of} takes at most {count}", counted(found, "response"))));
    }
    let is_bad = |response: &RawResponse| response.signal == Ok(0.0);
    if options.needs_good_response && raw.is_labeled && raw.responses.iter().all(is_bad) {
        let problem = "no response to this prompt is labeled true, so there is none to imitate".to_owned();
        return Err(RowError::Unusable(SkipReason::NoGoodResponse, problem));
    }
    Ok(left_out)
}

fn empty(response: &RawResponse) -> Option<RowError> {
    let problem = || format!("the response \"{}\" is empty", response.field);
    is_blank(&response.content, &response.fields).then(|| RowError::Unusable(SkipReason::EmptyResponse, problem()))
}

fn too_few(raw: &RawGroup, least: usize) -> RowError {
    let count = raw.responses.len();
    let why = match raw.kind {
        RowKind::Group => String::new(),
        RowKind::OneOfMany => "; all rows with its prompt are counted".to_owned(),
        RowKind::Demonstration => {
            "; rows of one response without a reward are for objectives that compare nothing, such as \
                                   sft"
            .to_owned()
        }
    };
    let problem = format!("the group has {}, expected at least {least}{why}", counted(count, "response"));
    RowError::Unusable(SkipReason::TooFewResponses, problem)
}

/// Renumbers ranks of which some were left out, from 1; ties stay ties.
fn close_gaps(raw: &mut RawGroup) {
    let mut ranks: Vec<f64> = raw.responses.iter().filter_map(|response| response.signal.ok()).collect();
    ranks.sort_by(f64::total_cmp);
    for response in &mut raw.responses {
        response.signal = response.signal.map(|rank| 1.0 + ranks.partition_point(|other| *other < rank) as f64);
    }
}
