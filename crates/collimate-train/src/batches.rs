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

/// Groups in their order, so many together.
pub(crate) fn in_packs<'a>(groups: &[&'a TokenizedGroup], size: usize) -> Vec<Vec<&'a TokenizedGroup>> {
    groups.chunks(size.max(1)).map(<[_]>::to_vec).collect()
}

/// Log-probs of every response of every group, pack after pack, by group and response, in nats.
pub(crate) fn score_packs(
    session: &mut dyn Session,
    packs: &[Vec<&TokenizedGroup>],
    share_prompt: bool,
    adapters: bool,
    observer: &mut dyn Observer,
) -> Result<Vec<Vec<f64>>, TrainError> {
    let mut logps = Vec::new();
    for groups in packs {
        let tokens = session.score(&pack(groups, share_prompt), adapters)?;
        logps.extend(response_logps(&tokens));
        observer.advance(groups.len() as u64);
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
