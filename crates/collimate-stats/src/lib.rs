//! Statistics of a data set, gathered group by group in constant memory.
//!
//! Read [`DataStats`] first. The crate must not know files, layouts, tokenizers or models.

mod correlation;
mod images;
mod lengths;
mod table;

use std::collections::BTreeMap;

use serde::Serialize;

use collimate_data::PromptGroup;
use collimate_rewards::{entropy, reward_weights};
pub use correlation::Correlation;
pub use lengths::LengthSummary;
use lengths::Lengths;

use images::ImageSizes;
pub use images::ImageSummary;

/// Gathers statistics over groups; [`Self::summary`] returns them.
///
/// The caller knows about truncated and unusable rows, and sets [`Self::num_prompts_cut`] and the fields next to it.
#[derive(Debug, Clone, Default)]
pub struct DataStats {
    /// Prompts that truncation shortened.
    pub num_prompts_cut: usize,
    /// Responses that truncation shortened.
    pub num_responses_cut: usize,
    /// Unusable groups, by the reasons the loader and the tokenizer give.
    pub unusable: BTreeMap<String, usize>,
    alpha: Option<f64>,
    num_groups: usize,
    num_responses: BTreeMap<usize, usize>,
    num_all_tied: usize,
    num_best_tied: usize,
    best_index: BTreeMap<usize, usize>,
    rewards: Correlation,
    prompt_chars: Lengths,
    response_chars: Lengths,
    prompt_tokens: Lengths,
    response_tokens: Lengths,
    images: ImageSizes,
    overall: Correlation,
    within: Correlation,
    entropy_sum: f64,
    effective_sum: f64,
}

impl DataStats {
    /// With a reward temperature `alpha` above 0, also gathers statistics of the weights softmax(reward/α).
    pub fn new(alpha: Option<f64>) -> Self {
        Self { alpha, ..Self::default() }
    }

    /// Adds a group; lengths are in characters.
    pub fn add(&mut self, group: &PromptGroup) {
        let lengths: Vec<usize> = group.responses.iter().map(|response| response.num_chars()).collect();
        self.response_chars.extend(&lengths);
        self.prompt_chars.extend(&[group.prompt.num_chars()]);
        self.add_rewards(group, &lengths);
    }

    /// Adds a group whose prompt and responses have these numbers of tokens, P and \[K\].
    ///
    /// Lengths then correlate in tokens, so use either this or [`Self::add`] for all groups.
    pub fn add_with_tokens(&mut self, group: &PromptGroup, prompt_tokens: usize, response_tokens: &[usize]) {
        let chars: Vec<usize> = group.responses.iter().map(|response| response.num_chars()).collect();
        self.response_chars.extend(&chars);
        self.prompt_chars.extend(&[group.prompt.num_chars()]);
        self.prompt_tokens.extend(&[prompt_tokens]);
        self.response_tokens.extend(response_tokens);
        self.add_rewards(group, response_tokens);
    }

    /// Adds an image of this height and width; `tokens` if the model is known.
    pub fn add_image(&mut self, size: [usize; 2], tokens: Option<usize>) {
        self.images.add(size, tokens);
    }

    fn add_rewards(&mut self, group: &PromptGroup, lengths: &[usize]) {
        let rewards: Vec<f64> = group.responses.iter().map(|response| response.reward).collect();
        self.num_groups += 1;
        *self.num_responses.entry(rewards.len()).or_default() += 1;
        self.count_ties(&rewards);
        let mut here = Correlation::default();
        for (&length, &reward) in lengths.iter().zip(&rewards) {
            here.add(length as f64, reward);
            self.overall.add(length as f64, reward);
            self.rewards.add(reward, reward);
        }
        self.within.pool(&here);
        if let Some(alpha) = self.alpha {
            let entropy = entropy(&reward_weights(&rewards, alpha));
            self.entropy_sum += entropy;
            self.effective_sum += entropy.exp();
        }
    }

    fn count_ties(&mut self, rewards: &[f64]) {
        let best = rewards.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let num_best = rewards.iter().filter(|reward| **reward == best).count();
        self.num_all_tied += usize::from(rewards.len() > 1 && num_best == rewards.len());
        self.num_best_tied += usize::from(num_best > 1);
        if let Some(index) = rewards.iter().position(|reward| *reward == best) {
            *self.best_index.entry(index).or_default() += 1;
        }
    }

    /// Statistics of the groups added so far.
    pub fn summary(&self) -> StatsSummary {
        let num_responses = self.num_responses.iter().map(|(k, groups)| k * groups).sum();
        let mean = |sum: f64| (self.alpha.is_some() && self.num_groups > 0).then(|| sum / self.num_groups as f64);
        StatsSummary {
            num_groups: self.num_groups,
            num_responses,
            groups_by_num_responses: self.num_responses.clone(),
            num_all_tied: self.num_all_tied,
            num_best_tied: self.num_best_tied,
            best_index: self.best_index.clone(),
            reward_mean: self.rewards.mean_x(),
            reward_deviation: self.rewards.deviation_x(),
            prompt_chars: self.prompt_chars.summary(),
            response_chars: self.response_chars.summary(),
            prompt_tokens: self.prompt_tokens.summary(),
            response_tokens: self.response_tokens.summary(),
            images: self.images.summary(),
            length_reward_correlation: self.overall.pearson(),
            length_reward_correlation_within_prompts: self.within.pearson(),
            alpha: self.alpha,
            mean_entropy: mean(self.entropy_sum),
            mean_effective_responses: mean(self.effective_sum),
            num_prompts_cut: self.num_prompts_cut,
            num_responses_cut: self.num_responses_cut,
            unusable: self.unusable.clone(),
        }
    }
}

/// Statistics of a data set; `Display` formats them as a table.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StatsSummary {
    /// Number of groups, B.
    pub num_groups: usize,
    /// Number of responses in all groups.
    pub num_responses: usize,
    /// Number of groups by K.
    pub groups_by_num_responses: BTreeMap<usize, usize>,
    /// Groups of several responses whose rewards are all equal, so there is nothing to prefer.
    pub num_all_tied: usize,
    /// Groups in which several responses share the highest reward, including those with all rewards equal.
    pub num_best_tied: usize,
    /// Number of groups by the index of their best response; among ties the first.
    pub best_index: BTreeMap<usize, usize>,
    /// Mean of all rewards.
    pub reward_mean: Option<f64>,
    /// Standard deviation of all rewards.
    pub reward_deviation: Option<f64>,
    /// Prompt lengths in characters, summed over messages.
    pub prompt_chars: Option<LengthSummary>,
    /// Response lengths in characters.
    pub response_chars: Option<LengthSummary>,
    /// Prompt lengths in tokens, if known.
    pub prompt_tokens: Option<LengthSummary>,
    /// Response lengths in tokens, if known.
    pub response_tokens: Option<LengthSummary>,
    /// Sizes of the images; `None` if there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub images: Option<ImageSummary>,
    /// Pearson correlation of length and reward over all responses; `None` if either is constant.
    pub length_reward_correlation: Option<f64>,
    /// The same within prompts, of deviations from each prompt's mean: do longer responses to a prompt score higher?
    pub length_reward_correlation_within_prompts: Option<f64>,
    /// Reward temperature of the next two numbers.
    pub alpha: Option<f64>,
    /// Mean entropy of softmax(reward/α), in nats.
    pub mean_entropy: Option<f64>,
    /// Mean effective number of responses, exp(entropy).
    pub mean_effective_responses: Option<f64>,
    /// Prompts that truncation shortened.
    pub num_prompts_cut: usize,
    /// Responses that truncation shortened.
    pub num_responses_cut: usize,
    /// Unusable groups, by reason.
    pub unusable: BTreeMap<String, usize>,
}
