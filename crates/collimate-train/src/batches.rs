//! Scoring many groups and asking the objective about them.

use collimate_data::{GroupBatch, TokenizedGroup};
use collimate_model::TokenLogps;
use collimate_objective::{Evaluation, GroupScores, Objective, evaluate};

use crate::error::TrainError;
use crate::metrics::GroupOutcome;
use crate::progress::Observer;
use crate::session::Session;

/// Packs groups as the recipe says: the prompt once, or each response with its own copy.
pub(crate) fn pack(groups: &[&TokenizedGroup], share_prompt: bool) -> GroupBatch {
    let groups = groups.iter().copied();
    if share_prompt { GroupBatch::shared(groups) } else { GroupBatch::separate(groups) }
}

/// Sums of token log-probs, by group and response, in nats.
pub(crate) fn response_logps(tokens: &TokenLogps) -> Vec<Vec<f64>> {
    tokens.iter().map(|group| group.iter().map(|response| response.iter().sum()).collect()).collect()
}

/// Log-probs of every response of every group, by group and response, in nats.
pub(crate) fn score_groups(
    session: &mut dyn Session,
    groups: &[&TokenizedGroup],
    batch_size: usize,
    share_prompt: bool,
    adapters: bool,
    observer: &mut dyn Observer,
) -> Result<Vec<Vec<f64>>, TrainError> {
    let mut logps = Vec::with_capacity(groups.len());
    for chunk in groups.chunks(batch_size.max(1)) {
        let tokens = session.score(&pack(chunk, share_prompt), adapters)?;
        logps.extend(response_logps(&tokens));
        observer.advance(chunk.len() as u64);
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

/// Asks the objective; errors name the file's line.
pub(crate) fn ask(
    objective: &dyn Objective,
    groups: &[&TokenizedGroup],
    scores: &[GroupScores],
) -> Result<Evaluation, TrainError> {
    evaluate(objective, scores).map_err(|source| match &source {
        collimate_objective::ObjectiveError::InvalidGroup { group, .. } => {
            TrainError::ObjectiveOnGroup { line: groups[*group].line, source }
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
        num_tokens: scores.lengths.clone(),
    };
    scores.iter().zip(implicit_rewards).map(outcome).collect()
}
