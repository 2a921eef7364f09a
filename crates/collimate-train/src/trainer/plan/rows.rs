//! The groups of a plan: the data's, or else groups as long as the recipe allows.

use std::path::Path;

use collimate_data::{DataFiles, PromptGroup};
use collimate_recipe::Recipe;
use collimate_store::{Encoder, Preparation, StoreFolder, store_of};
use collimate_text::{TokenizedGroup, TokenizedResponse, has_tokenizer};

use super::{PlannedData, TokenBasis};
use crate::dataset::DataSet;
use crate::error::TrainError;
use crate::prepare::{encoder, store_folder, tokenizer_changes, training_request};
use crate::trainer::check::check_drop_last;
use collimate_progress::Observer;

/// Characters per token, without a tokenizer; about right for English.
const CHARACTERS_PER_TOKEN: usize = 4;

/// Most tokens of a step that is planned without data; a response takes 16 besides its own.
const MAX_TOKENS: u128 = 1 << 26;

/// Groups of known lengths; their token ids are placeholders unless a tokenizer made them.
pub(super) struct PlannedRows {
    pub(super) basis: TokenBasis,
    pub(super) data: DataSet,
}

/// The groups that a run of this recipe would have.
pub(super) fn read(
    recipe: &Recipe,
    model: &Path,
    min_responses: usize,
    num_responses: usize,
    observer: &mut dyn Observer,
) -> Result<PlannedRows, TrainError> {
    let Some(sources) = &recipe.data else {
        let group = longest(recipe, num_responses.max(min_responses))?;
        let groups = vec![group; recipe.groups_per_step()];
        let data = DataSet::new(store_of(&groups, &DataFiles::default())?, StoreFolder::new(None));
        return Ok(PlannedRows { basis: TokenBasis::Longest, data });
    };
    let request = training_request(recipe, sources, min_responses)?;
    let (store_folder, estimate) = (store_folder(recipe), |group: &PromptGroup| by_characters(recipe, group));
    let (basis, tokenizer) = match has_tokenizer(model) {
        true => (TokenBasis::Tokenizer, Some(tokenizer_changes(recipe).open(model)?)),
        false => (TokenBasis::Characters, None),
    };
    let encoder = match &tokenizer {
        Some(tokenizer) => encoder(recipe, tokenizer, min_responses),
        None => Encoder::Estimate(&estimate),
    };
    let prepared = Preparation::begin(request, encoder, &store_folder, false, observer)?.finish(observer)?;
    check_drop_last(recipe, prepared.training.len())?;
    let notes = prepared.training.notes().iter().filter(|note| note.starts_with("warning: "));
    notes.for_each(|note| observer.note(note));
    Ok(PlannedRows { basis, data: DataSet::new(prepared.training, store_folder) })
}

impl PlannedRows {
    /// Responses of the group that has most of them.
    pub(super) fn widest(&self) -> usize {
        self.data.totals().most_responses
    }

    pub(super) fn describe(&self) -> PlannedData {
        let totals = self.data.totals();
        PlannedData {
            basis: self.basis,
            num_groups: totals.num_groups,
            num_responses: totals.num_responses,
            prompt_tokens: totals.prompt_tokens,
            response_tokens: totals.response_tokens,
            cut_prompts: totals.cut_prompts,
            cut_responses: totals.cut_responses,
            longest: totals.longest,
        }
    }
}

/// A group as long as the recipe allows; half of it is the prompt unless prompts have a limit of their own.
fn longest(recipe: &Recipe, num_responses: usize) -> Result<TokenizedGroup, TrainError> {
    let Some(all) = recipe.max_length else {
        let message =
            "null sets no limit, and without data nothing says how long rows are: give one of the two".to_owned();
        return Err(TrainError::RecipeValue { key: "max_length", message });
    };
    let prompt = if recipe.max_prompt_length.is_some() { usize::MAX } else { all.div_ceil(2) };
    let step =
        recipe.groups_per_step() as u128 * (prompt.min(all) as u128 + num_responses as u128 * (all + 16) as u128);
    if step > MAX_TOKENS {
        let message = format!(
            "{all}, {} prompts a step and --num-responses {num_responses} are {step} tokens a step, more than {MAX_TOKENS}, \
             the most that are planned without data",
            recipe.groups_per_step()
        );
        return Err(TrainError::RecipeValue { key: "max_length", message });
    }
    Ok(with_lengths(recipe, 0, prompt, &vec![usize::MAX; num_responses]))
}

/// A group with lengths estimated from its text; each response has an end token in addition.
fn by_characters(recipe: &Recipe, group: &PromptGroup) -> TokenizedGroup {
    let tokens = |characters: usize| characters.div_ceil(CHARACTERS_PER_TOKEN).max(1);
    let responses = group.responses.iter().map(|response| tokens(response.content.chars().count()) + 1);
    let responses: Vec<usize> = responses.collect();
    let cut = with_lengths(recipe, group.index, tokens(group.prompt.num_chars()), &responses);
    TokenizedGroup { line: group.line, ..cut }
}

/// A group with these numbers of tokens, truncated as the recipe says.
fn with_lengths(recipe: &Recipe, index: usize, prompt: usize, responses: &[usize]) -> TokenizedGroup {
    let kept_prompt = prompt.min(recipe.max_prompt_length.unwrap_or(usize::MAX));
    let room = recipe.max_length.unwrap_or(usize::MAX).saturating_sub(kept_prompt);
    let room = room.min(recipe.max_completion_length.unwrap_or(usize::MAX));
    let response = |&length: &usize| {
        let kept = length.min(room);
        TokenizedResponse { ids: vec![0; kept], reward: 0.0, num_cut: length - kept }
    };
    TokenizedGroup {
        index,
        line: index + 1,
        prompt_ids: vec![0; kept_prompt],
        num_prompt_cut: prompt - kept_prompt,
        images: Vec::new(),
        responses: responses.iter().map(response).collect(),
    }
}

#[cfg(test)]
mod tests {
    use collimate_data::{Prompt, Response};

    use super::*;

    #[test]
    fn characters_stand_for_tokens_and_are_cut_as_tokens_are() {
        let response = |length: usize| Response { content: "x".repeat(length), ..Response::default() };
        let group = PromptGroup {
            index: 2,
            line: 5,
            prompt: Prompt::Text("p".repeat(41)),
            responses: vec![response(8), response(400)],
            ..PromptGroup::default()
        };
        let recipe = Recipe { max_length: Some(20), max_prompt_length: Some(10), ..Recipe::default() };
        let rows = PlannedRows {
            basis: TokenBasis::Characters,
            data: DataSet::new(
                store_of(&[by_characters(&recipe, &group)], &DataFiles::default()).expect("a store"),
                StoreFolder::new(None),
            ),
        };
        let found = rows.describe();
        // The prompt is 11 tokens, of which 10 stay; the responses are 2 + 1, and 100 + 1, of which 10 stay.
        assert_eq!((found.prompt_tokens, found.response_tokens, found.longest), (10, 3 + 10, 20));
        assert_eq!((found.cut_prompts, found.cut_responses), (1, 1));
    }
}
