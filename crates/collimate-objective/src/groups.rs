//! Scores of a batch of groups: plain numbers, validated once, then tensors.

use burn::tensor::{Bool, Int, TensorData, activation};
use burn_flex::FlexDevice;
use collimate_rewards::reward_weights;

use crate::needs::MAX_NUMBERS;
use crate::{FLOAT, Needs, ObjectiveBackend, ObjectiveError, Tensor};

/// Scores of one prompt's K responses.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct GroupScores {
    /// Log-probability of each response under the policy, summed over its tokens, in nats, `[K]`.
    pub policy_logps: Vec<f64>,
    /// The same under the reference, `[K]`; `None` without a reference.
    pub reference_logps: Option<Vec<f64>>,
    /// Rewards, higher is better, `[K]`.
    pub rewards: Vec<f64>,
    /// Number of tokens of each response, at least 1, `[K]`.
    pub lengths: Vec<usize>,
}

impl GroupScores {
    /// Number of responses, K.
    pub fn num_responses(&self) -> usize {
        self.policy_logps.len()
    }

    /// Index of the best response; among ties the first.
    pub fn best(&self) -> usize {
        (1..self.rewards.len()).fold(0, |best, k| if self.rewards[k] > self.rewards[best] { k } else { best })
    }

    /// Index of the worst response; among ties the last.
    pub fn worst(&self) -> usize {
        (1..self.rewards.len()).fold(0, |worst, k| if self.rewards[k] <= self.rewards[worst] { k } else { worst })
    }

    /// Indices from best to worst; ties keep their order.
    pub fn order(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.rewards.len()).collect();
        order.sort_by(|&a, &b| self.rewards[b].total_cmp(&self.rewards[a]));
        order
    }

    fn check(&self, group: usize, needs: &Needs) -> Result<(), ObjectiveError> {
        let invalid =
            |field: &str, reason: String| Err(ObjectiveError::InvalidGroup { group, field: field.to_owned(), reason });
        let k = self.num_responses();
        if k < needs.min_responses.max(1) {
            let reason = format!("expected at least {} responses, found {k}", needs.min_responses.max(1));
            return invalid("policy_logps", reason);
        }
        if let Some(max) = needs.max_responses.filter(|&max| k > max) {
            return invalid("policy_logps", format!("expected at most {max} responses, found {k}"));
        }
        let reference = match &self.reference_logps {
            None if needs.reference => {
                return invalid("reference_logps", "this objective needs a reference, found none".to_owned());
            }
            reference => reference.as_deref().filter(|_| needs.reference),
        };
        let columns = [("policy_logps", Some(&self.policy_logps[..])), ("reference_logps", reference)];
        for (field, values) in columns.into_iter().chain([("rewards", Some(&self.rewards[..]))]) {
            let Some(values) = values else { continue };
            if values.len() != k {
                return invalid(field, format!("expected {k} numbers, one per response, found {}", values.len()));
            }
            if let Some(i) = values.iter().position(|v| !v.is_finite()) {
                return invalid(&format!("{field}[{i}]"), format!("expected a finite number, found {}", values[i]));
            }
        }
        if self.lengths.len() != k {
            return invalid("lengths", format!("expected {k} numbers, one per response, found {}", self.lengths.len()));
        }
        if let Some(i) = self.lengths.iter().position(|&n| n == 0) {
            return invalid(&format!("lengths[{i}]"), "expected at least 1 token, found 0".to_owned());
        }
        Ok(())
    }
}

/// A batch of scored groups as float64 tensors, valid by construction.
///
/// K may differ between groups. The tensors are as wide as the widest group; entries beyond a group's own K are absent.
/// Absent entries hold 0 (lengths: 1), and all helpers ignore them.
///
/// # Shapes
/// `[B, K]` unless stated otherwise.
#[derive(Debug, Clone)]
pub struct ScoredGroups {
    counts: Vec<usize>,
    host_rewards: Vec<Vec<f64>>,
    policy_logps: Tensor<ObjectiveBackend, 2>,
    reference_logps: Option<Tensor<ObjectiveBackend, 2>>,
    lengths: Tensor<ObjectiveBackend, 2>,
    rewards: Tensor<ObjectiveBackend, 2>,
    present: Tensor<ObjectiveBackend, 2, Bool>,
    num_present: Tensor<ObjectiveBackend, 1>,
    order: Tensor<ObjectiveBackend, 2, Int>,
    best: Tensor<ObjectiveBackend, 2, Int>,
    worst: Tensor<ObjectiveBackend, 2, Int>,
    mismatched_log_ratios: Vec<f64>,
}

impl ScoredGroups {
    /// Checks the groups against the objective's needs and converts them to tensors.
    ///
    /// Objectives that do not need a reference do not get one. Only the policy's log-probabilities track gradients.
    ///
    /// # Errors
    /// There is no group; or a group has too few or too many responses, fields of unequal length, a number that is not
    /// finite, a response without tokens, or lacks a needed reference.
    pub fn new(groups: &[GroupScores], needs: &Needs) -> Result<Self, ObjectiveError> {
        Self::padded(groups, needs, 0)
    }

    /// [`ScoredGroups::new`] with `extra` more columns than the widest group needs.
    pub(crate) fn padded(groups: &[GroupScores], needs: &Needs, extra: usize) -> Result<Self, ObjectiveError> {
        for (index, group) in groups.iter().enumerate() {
            group.check(index, needs)?;
        }
        let mismatched_log_ratios: Vec<f64> = groups.iter().flat_map(|group| group.mismatched(needs)).collect();
        let own: Vec<GroupScores>;
        let groups = match mismatched_log_ratios.is_empty() {
            true => groups,
            false => {
                own = groups.iter().map(|group| group.own(needs)).collect();
                &own
            }
        };
        let counts: Vec<usize> = groups.iter().map(GroupScores::num_responses).collect();
        let widest = counts.iter().max().ok_or(ObjectiveError::EmptyBatch)?;
        let width = widest + extra;
        if needs.numbers(groups.len(), width) > MAX_NUMBERS {
            let reason = format!(
                "{} prompts with up to {widest} responses have more than {MAX_NUMBERS} {}, the limit of one batch; use \
                 smaller batches, or separate prompts with many responses from the others",
                groups.len(),
                if needs.pairs { "pairs" } else { "responses" }
            );
            return Err(ObjectiveError::Unsupported(reason));
        }
        let rows = |pad: f64, values: &dyn Fn(&GroupScores) -> Vec<f64>| {
            let padded = groups.iter().flat_map(|g| {
                let mut row = values(g);
                row.resize(width, pad);
                row
            });
            floats(padded.collect(), [groups.len(), width])
        };
        let reference = |g: &GroupScores| g.reference_logps.clone().unwrap_or_default();
        let present = counts.iter().flat_map(|&k| (0..width).map(move |i| i < k)).collect::<Vec<bool>>();
        let order = groups.iter().flat_map(|g| g.order().into_iter().chain(g.num_responses()..width));
        Ok(Self {
            policy_logps: rows(0.0, &|g| g.policy_logps.clone()).require_grad(),
            reference_logps: needs.reference.then(|| rows(0.0, &reference)),
            lengths: rows(1.0, &|g| g.lengths.iter().map(|&n| n as f64).collect()),
            rewards: rows(0.0, &|g| g.rewards.clone()),
            present: Tensor::from_data(TensorData::new(present, [groups.len(), width]), &FlexDevice),
            num_present: Tensor::from_data(
                TensorData::new(counts.iter().map(|&k| k as f64).collect::<Vec<f64>>(), [counts.len()]),
                (&FlexDevice, FLOAT),
            ),
            order: indices(order.collect(), [groups.len(), width]),
            best: indices(groups.iter().map(GroupScores::best).collect(), [groups.len(), 1]),
            worst: indices(groups.iter().map(GroupScores::worst).collect(), [groups.len(), 1]),
            host_rewards: groups.iter().map(|group| group.rewards.clone()).collect(),
            counts,
            mismatched_log_ratios,
        })
    }

    /// Number of prompts, B.
    pub fn num_groups(&self) -> usize {
        self.counts.len()
    }

    /// Number of responses per prompt, `[B]`.
    pub fn counts(&self) -> &[usize] {
        &self.counts
    }

    /// Log-probabilities under the policy, in nats; the only tensor that tracks gradients.
    pub fn policy_logps(&self) -> Tensor<ObjectiveBackend, 2> {
        self.policy_logps.clone()
    }

    /// Log-probabilities under the reference; `None` unless [`Needs::reference`] is set.
    pub fn reference_logps(&self) -> Option<Tensor<ObjectiveBackend, 2>> {
        self.reference_logps.clone()
    }

    /// Number of tokens per response.
    pub fn lengths(&self) -> Tensor<ObjectiveBackend, 2> {
        self.lengths.clone()
    }

    /// Rewards, higher is better.
    pub fn rewards(&self) -> Tensor<ObjectiveBackend, 2> {
        self.rewards.clone()
    }

    /// Mask of responses; true = real, false = padding.
    pub fn present(&self) -> Tensor<ObjectiveBackend, 2, Bool> {
        self.present.clone()
    }

    /// Number of responses per prompt as floats, `[B]`.
    pub fn num_present(&self) -> Tensor<ObjectiveBackend, 1> {
        self.num_present.clone()
    }

    /// Δ = log π − log π_ref of each response, in nats; 0 where absent.
    ///
    /// # Panics
    /// If the objective's [`Needs::reference`] is false: a bug in the objective.
    pub fn log_ratios(&self) -> Tensor<ObjectiveBackend, 2> {
        match self.reference_logps() {
            Some(reference) => self.policy_logps() - reference,
            None => panic!("an objective called log_ratios(), but its needs() do not include a reference"),
        }
    }

    /// Δ of each response under another row's prompt, of all groups one after the other, in nats; plain numbers, since no
    /// gradient flows through them. Empty unless [`Needs::mismatched_apart`] is set.
    pub fn mismatched_log_ratios(&self) -> &[f64] {
        &self.mismatched_log_ratios
    }

    /// Mean log-probability per token of each response: log π / n.
    pub fn token_logps(&self) -> Tensor<ObjectiveBackend, 2> {
        self.policy_logps() / self.lengths()
    }

    /// softmax(reward / `alpha`) over the present responses, by [`collimate_rewards::reward_weights`]; 0 where absent.
    pub fn reward_weights(&self, alpha: f64) -> Tensor<ObjectiveBackend, 2> {
        let [num_groups, width] = self.rewards.dims();
        let weights = self.host_rewards.iter().flat_map(|rewards| {
            let mut row = reward_weights(rewards, alpha);
            row.resize(width, 0.0);
            row
        });
        floats(weights.collect(), [num_groups, width])
    }

    /// Softmax over the present responses; 0 where absent.
    pub fn softmax(&self, values: Tensor<ObjectiveBackend, 2>) -> Tensor<ObjectiveBackend, 2> {
        activation::softmax(values.mask_fill(self.absent(), f64::NEG_INFINITY), 1)
    }

    /// Log-softmax over the present responses; 0 where absent.
    pub fn log_softmax(&self, values: Tensor<ObjectiveBackend, 2>) -> Tensor<ObjectiveBackend, 2> {
        // The −∞ of an absent response times its weight 0 would be NaN.
        activation::log_softmax(values.mask_fill(self.absent(), f64::NEG_INFINITY), 1).mask_fill(self.absent(), 0.0)
    }

    /// Sum over the present responses of each prompt, `[B]`.
    pub fn sum(&self, values: Tensor<ObjectiveBackend, 2>) -> Tensor<ObjectiveBackend, 1> {
        values.mask_fill(self.absent(), 0.0).sum_dim(1).squeeze_dim(1)
    }

    /// Mean over the present responses of each prompt, `[B]`.
    pub fn mean(&self, values: Tensor<ObjectiveBackend, 2>) -> Tensor<ObjectiveBackend, 1> {
        self.sum(values) / self.num_present()
    }

    /// The value of each prompt's best response, `[B]`; among ties the first.
    pub fn best(&self, values: Tensor<ObjectiveBackend, 2>) -> Tensor<ObjectiveBackend, 1> {
        values.gather(1, self.best.clone()).squeeze_dim(1)
    }

    /// The value of each prompt's worst response, `[B]`; among ties the last.
    pub fn worst(&self, values: Tensor<ObjectiveBackend, 2>) -> Tensor<ObjectiveBackend, 1> {
        values.gather(1, self.worst.clone()).squeeze_dim(1)
    }

    /// Each prompt's values from best to worst response, absent ones last.
    pub fn sorted_by_reward(&self, values: Tensor<ObjectiveBackend, 2>) -> Tensor<ObjectiveBackend, 2> {
        values.gather(1, self.order.clone())
    }

    fn absent(&self) -> Tensor<ObjectiveBackend, 2, Bool> {
        self.present.clone().bool_not()
    }
}

fn floats(values: Vec<f64>, shape: [usize; 2]) -> Tensor<ObjectiveBackend, 2> {
    Tensor::from_data(TensorData::new(values, shape), (&FlexDevice, FLOAT))
}

fn indices(values: Vec<usize>, shape: [usize; 2]) -> Tensor<ObjectiveBackend, 2, Int> {
    let values: Vec<i64> = values.into_iter().map(|v| v as i64).collect();
    Tensor::from_data(TensorData::new(values, shape), &FlexDevice)
}
