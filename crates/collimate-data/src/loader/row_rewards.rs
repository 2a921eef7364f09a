//! Computes a row's rewards from the numbers its layout found.

use std::collections::BTreeMap;

use crate::layout::node::{Absent, RowError};
use crate::layout::raw::{RawGroup, RawResponse};
use crate::{Layout, ScoreDirection, SkipReason};
use collimate_rewards::{
    RewardFrom, aspect_mean, aspect_weighted_sum, bradley_terry, elo, linear_rank, mean_ranks, ndcg_gain,
    pairwise_wins, plackett_luce,
};

/// Limit on the responses of a prompt whose rewards are fitted to comparisons, which takes O(K³) time.
const MAX_COMPARED_RESPONSES: usize = 128;

/// How rewards are computed unless something else is asked for, by the first row.
pub(super) fn usual(layout: Layout, raw: &RawGroup) -> RewardFrom {
    let only_aspects = raw.responses.iter().all(|r| r.signal.is_err() && !r.aspects.is_empty());
    match layout {
        layout if layout.has_ranks() => RewardFrom::Rank,
        Layout::UltraFeedback if only_aspects => RewardFrom::Aspects { weights: BTreeMap::new() },
        _ => RewardFrom::Field { name: None },
    }
}

/// The rewards of a row, [K]; finite, higher is better.
pub(super) fn rewards(
    raw: &RawGroup,
    layout: Layout,
    direction: ScoreDirection,
    from: &RewardFrom,
) -> Result<Vec<f64>, RowError> {
    let row = Row { raw, layout, direction };
    let compares =
        matches!(from, RewardFrom::BradleyTerry { .. } | RewardFrom::PlackettLuce { .. } | RewardFrom::Elo(_));
    if compares && raw.responses.len() > MAX_COMPARED_RESPONSES {
        return Err(RowError::Problem(format!(
            "rewards by {from} compare every pair of responses, so a prompt may have at most {MAX_COMPARED_RESPONSES}; \
             found {}",
            raw.responses.len()
        )));
    }
    let rewards = match from {
        RewardFrom::Field { name: None } => row.scores()?,
        RewardFrom::Field { name: Some(_) } | RewardFrom::Aspects { .. } => row.each(from)?,
        RewardFrom::Rank => linear_rank(&row.ranks()?),
        RewardFrom::Ndcg => row.relevances()?.into_iter().map(ndcg_gain).collect(),
        RewardFrom::BradleyTerry { prior_precision } => bradley_terry(&pairwise_wins(&row.scores()?), *prior_precision),
        RewardFrom::PlackettLuce { prior_precision } => plackett_luce(&row.ranks()?, *prior_precision),
        RewardFrom::Elo(options) => elo(&row.scores()?, options),
    };
    match rewards.iter().position(|reward| !reward.is_finite()) {
        Some(k) => Err(RowError::Problem(format!(
            "the reward computed by {from} from \"{}\" is not finite; the number is too large",
            raw.responses[k].signal_field
        ))),
        None => Ok(rewards),
    }
}

struct Row<'a> {
    raw: &'a RawGroup,
    layout: Layout,
    direction: ScoreDirection,
}

impl Row<'_> {
    /// One number per response, negated if lower is better.
    fn each(&self, from: &RewardFrom) -> Result<Vec<f64>, RowError> {
        let oriented = |response| {
            let number = number(response, from, self.raw.expected())?;
            Ok(if self.direction == ScoreDirection::LowerIsBetter { -number } else { number })
        };
        self.raw.responses.iter().map(oriented).collect()
    }

    /// The layout's own numbers, higher is better.
    fn scores(&self) -> Result<Vec<f64>, RowError> {
        self.each(&RewardFrom::Field { name: None })
    }

    /// Ranks, 1 being the best.
    fn ranks(&self) -> Result<Vec<f64>, RowError> {
        let scores = self.scores()?;
        if !self.layout.has_ranks() {
            return Ok(mean_ranks(&scores));
        }
        let last = scores.len() as f64;
        Ok(match self.direction {
            ScoreDirection::LowerIsBetter => scores.iter().map(|score| -score).collect(),
            ScoreDirection::HigherIsBetter => scores.iter().map(|score| last + 1.0 - score).collect(),
        })
    }

    /// Relevance grades: the scores, or `K − rank`.
    fn relevances(&self) -> Result<Vec<f64>, RowError> {
        if !self.layout.has_ranks() {
            return self.scores();
        }
        let last = self.raw.responses.len() as f64;
        Ok(self.ranks()?.iter().map(|rank| last - rank).collect())
    }
}

/// The number of a response that a rule starts from; `expected` says what the layout's own number should be.
///
/// # Errors
/// The response lacks it.
pub(super) fn number(response: &RawResponse, from: &RewardFrom, expected: &str) -> Result<f64, RowError> {
    let missing = |field: &str, expected: &str, absent: Absent| RowError::NoReward {
        field: field.to_owned(),
        expected: expected.to_owned(),
        found: absent.found(),
    };
    let unrated = |problem: String| RowError::Unusable(SkipReason::NoRating, problem);
    match from {
        RewardFrom::Field { name: Some(name) } => {
            let number = response.others.get(name).or_else(|| response.aspects.get(name));
            let field = || missing(&format!("{}.{name}", response.field), "a finite number", Absent::Nothing);
            number.copied().ok_or_else(field)
        }
        RewardFrom::Aspects { weights } if weights.is_empty() => {
            aspect_mean(&response.aspects).ok_or_else(|| unrated(format!("\"{}\" has no rated aspect", response.field)))
        }
        RewardFrom::Aspects { weights } => aspect_weighted_sum(&response.aspects, weights)
            .map_err(|aspect| unrated(format!("\"{}\" has no rating of the aspect \"{aspect}\"", response.field))),
        _ => response.signal.map_err(|absent| missing(&response.signal_field, expected, absent)),
    }
}
