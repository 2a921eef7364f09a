//! Responses under two prompts.

use crate::{GroupScores, Needs};

/// Joins the responses of each group under its own prompt with the same under another one, for objectives with
/// [`Needs::mismatched_pairs`](crate::Needs::mismatched_pairs). `scores` has all groups under their own prompts, then all under
/// the others; `is_same` says of a row whether both prompts are the same.
///
/// Responses under their own prompts come first. Their reward is 1, and 0 under another prompt, 1 if that is the same; or, if
/// the groups keep their rewards, what the data says.
pub fn under_both_prompts(
    mut scores: Vec<GroupScores>,
    is_same: impl Fn(usize) -> bool,
    keeps_rewards: bool,
) -> Vec<GroupScores> {
    let others = scores.split_off(scores.len() / 2);
    for (row, (own, other)) in scores.iter_mut().zip(others).enumerate() {
        let reward = if is_same(row) { 1.0 } else { 0.0 };
        own.rewards = match keeps_rewards {
            true => [own.rewards.as_slice(), &other.rewards].concat(),
            false => [1.0, reward].into_iter().flat_map(|reward| vec![reward; other.rewards.len()]).collect(),
        };
        own.policy_logps.extend(other.policy_logps);
        own.lengths.extend(other.lengths);
        if let (Some(logps), Some(others)) = (&mut own.reference_logps, other.reference_logps) {
            logps.extend(others);
        }
    }
    scores
}

impl GroupScores {
    /// The responses that the loss is of: the first half, if those under other prompts are given apart.
    pub(crate) fn own(&self, needs: &Needs) -> Self {
        let count = needs.num_own(self.num_responses());
        Self {
            policy_logps: self.policy_logps[..count].to_vec(),
            reference_logps: self.reference_logps.as_ref().map(|logps| logps[..count].to_vec()),
            rewards: self.rewards[..count].to_vec(),
            lengths: self.lengths[..count].to_vec(),
        }
    }

    /// Log-ratios of the others.
    pub(crate) fn mismatched(&self, needs: &Needs) -> Vec<f64> {
        let start = needs.num_own(self.num_responses());
        let reference = self.reference_logps.iter().flatten().skip(start);
        self.policy_logps.iter().skip(start).zip(reference).map(|(policy, reference)| policy - reference).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_prompts_come_first_and_the_same_one_counts_twice() {
        let group = |logp: f64| GroupScores {
            policy_logps: vec![logp, logp - 1.0],
            reference_logps: Some(vec![logp; 2]),
            rewards: vec![0.5, 0.25],
            lengths: vec![1, 2],
        };
        let all = || [-1.0, -2.0, -3.0, -4.0].map(group).to_vec();
        let joined = under_both_prompts(all(), |row| row == 1, false);
        assert_eq!(joined[0].policy_logps, [-1.0, -2.0, -3.0, -4.0]);
        assert_eq!(joined[1].reference_logps.as_deref(), Some(&[-2.0, -2.0, -4.0, -4.0][..]));
        assert_eq!(
            (joined[0].rewards.as_slice(), joined[1].rewards.as_slice()),
            (&[1.0, 1.0, 0.0, 0.0][..], &[1.0; 4][..])
        );
        let kept = under_both_prompts(all(), |_| false, true);
        assert_eq!((kept[0].rewards.as_slice(), kept.len()), (&[0.5, 0.25, 0.5, 0.25][..], 2));
    }
}
