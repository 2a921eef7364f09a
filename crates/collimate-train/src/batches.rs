//! Scoring many groups and asking the objective about them.

use collimate_data::DataFiles;
use collimate_model::{DropoutKey, TokenLogps};
use collimate_objective::{Evaluation, GroupScores, Objective, evaluate};
use collimate_report::GroupOutcome;
use collimate_text::TokenizedGroup;

use crate::error::TrainError;
use crate::packs::MemoryPlan;
use crate::session::Session;

/// Sums of token log-probs, by group and response, in nats.
pub(crate) fn response_logps(tokens: &TokenLogps) -> Vec<Vec<f64>> {
    tokens.iter().map(|group| group.iter().map(|response| response.iter().sum()).collect()).collect()
}

/// Groups in their order, so many together.
pub(crate) fn in_packs<'a>(groups: &[&'a TokenizedGroup], size: usize) -> Vec<Vec<&'a TokenizedGroup>> {
    groups.chunks(size.max(1)).map(<[_]>::to_vec).collect()
}

/// Log-probs of every response of a batch, by group and response, in nats; `dropout` as in [`Session::score`].
pub(crate) fn score_batch(
    session: &mut dyn Session,
    memory: &MemoryPlan,
    groups: &[&TokenizedGroup],
    adapters: bool,
    dropout: Option<DropoutKey>,
) -> Result<Vec<Vec<f64>>, TrainError> {
    let mut logps = vec![Vec::new(); groups.len()];
    for pack in memory.packs(groups)? {
        let tokens = session.score(&memory.batch(groups, &pack), adapters, dropout)?;
        // The parts of a group come in the order of its responses.
        for ((place, _), scored) in pack.iter().zip(response_logps(&tokens)) {
            logps[*place].extend(scored);
        }
    }
    Ok(logps)
}

/// What the objective gets to see of some groups.
pub(crate) fn group_scores(
    groups: &[&TokenizedGroup],
    policy: &[Vec<f64>],
    reference: Option<&[Vec<f64>]>,
) -> Vec<GroupScores> {
    let scores = groups.iter().zip(policy).enumerate().map(|(i, (group, logps))| GroupScores {
        policy_logps: logps.clone(),
        reference_logps: reference.map(|r| r[i].clone()),
        rewards: group.responses.iter().map(|r| r.reward).collect(),
        lengths: group.responses.iter().map(|r| r.ids.len()).collect(),
    });
    scores.collect()
}

/// Asks the objective; errors name file and line.
pub(crate) fn ask(
    objective: &dyn Objective,
    files: &DataFiles,
    groups: &[&TokenizedGroup],
    scores: &[GroupScores],
) -> Result<Evaluation, TrainError> {
    evaluate(objective, scores).map_err(|source| match &source {
        collimate_objective::ObjectiveError::InvalidGroup { group, .. } => {
            let place = files.place(groups[*group].index, groups[*group].line);
            TrainError::ObjectiveOnGroup { place, source: Box::new(source) }
        }
        _ => source.into(),
    })
}

/// The figures of each group for the metrics.
pub(crate) fn outcomes(scores: &[GroupScores], implicit_rewards: &[Vec<f64>]) -> Vec<GroupOutcome> {
    let outcome = |(scores, implicit): (&GroupScores, &Vec<f64>)| GroupOutcome {
        implicit_rewards: implicit.clone(),
        rewards: scores.rewards.clone(),
        policy_logps: scores.policy_logps.clone(),
        reference_logps: scores.reference_logps.clone(),
        num_tokens: scores.lengths.clone(),
    };
    scores.iter().zip(implicit_rewards).map(outcome).collect()
}
