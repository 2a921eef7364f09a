//! Scored groups: host numbers checked once, then tensors that cannot be wrong.

use burn::tensor::{Bool, Int, TensorData, activation};
use burn_flex::FlexDevice;

use crate::{FLOAT, Needs, ObjectiveBackend, ObjectiveError, Tensor};

/// Most pairs of responses of a batch, B · K², absent ones included. Some objectives hold a number for each, and all are as
/// wide as the widest group: without a limit a file of some kilobytes could ask for all of the memory. 2,000 responses of
/// one prompt fit, or 64 of a thousand.
const MAX_PAIRS: usize = 1 << 22;

/// The scores of one prompt's K responses, as plain numbers.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct GroupScores {
    /// Log-probability of each response under the policy, summed over its tokens, in nats, `[K]`.
    pub policy_logps: Vec<f64>,
    /// The same under the reference, `[K]`; `None` where there is no reference.
    pub reference_logps: Option<Vec<f64>>,
    /// Scalar rewards, higher is better, `[K]`.
    pub rewards: Vec<f64>,
    /// Tokens of each response, at least one, `[K]`.
    pub lengths: Vec<usize>,
}

impl GroupScores {
    /// Number of responses, K.
    pub fn num_responses(&self) -> usize {
        self.policy_logps.len()
    }

    /// Position of the best response: the first of those with the highest reward.
    pub fn best(&self) -> usize {
        (1..self.rewards.len()).fold(0, |best, k| if self.rewards[k] > self.rewards[best] { k } else { best })
    }

    /// Position of the worst response: the last of those with the lowest reward.
    pub fn worst(&self) -> usize {
        (1..self.rewards.len()).fold(0, |worst, k| if self.rewards[k] <= self.rewards[worst] { k } else { worst })
    }

    /// Positions from the best to the worst; among equal rewards the earlier is the better.
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
                return invalid(field, format!("expected {k} numbers, one a response, found {}", values.len()));
            }
            if let Some(at) = values.iter().position(|v| !v.is_finite()) {
                return invalid(&format!("{field}[{at}]"), format!("expected a finite number, found {}", values[at]));
            }
        }
        if self.lengths.len() != k {
            return invalid("lengths", format!("expected {k} numbers, one a response, found {}", self.lengths.len()));
        }
        if let Some(at) = self.lengths.iter().position(|&n| n == 0) {
            return invalid(&format!("lengths[{at}]"), "expected at least 1 token, found 0".to_owned());
        }
        Ok(())
    }
}

/// A batch of scored groups as float64 tensors, valid by construction.
///
/// Groups may have different K: the tensors are as wide as the widest group, and the entries beyond a group's own K
/// are absent. Absent entries hold 0 (lengths 1), and the helpers leave them out.
///
/// # Shapes
/// Everything is `[B, K]` unless said otherwise.
#[derive(Debug, Clone)]
pub struct ScoredGroups {
    counts: Vec<usize>,
    policy_logps: Tensor<ObjectiveBackend, 2>,
    reference_logps: Option<Tensor<ObjectiveBackend, 2>>,
    lengths: Tensor<ObjectiveBackend, 2>,
    rewards: Tensor<ObjectiveBackend, 2>,
    present: Tensor<ObjectiveBackend, 2, Bool>,
    num_present: Tensor<ObjectiveBackend, 1>,
    order: Tensor<ObjectiveBackend, 2, Int>,
    best: Tensor<ObjectiveBackend, 2, Int>,
    worst: Tensor<ObjectiveBackend, 2, Int>,
}

impl ScoredGroups {
    /// Checks the groups against what the objective needs and makes tensors of them.
    ///
    /// The reference is withheld from objectives that do not ask for it. Gradients are on for the policy's
    /// log-probabilities only.
    ///
    /// # Errors
    /// No group at all; a group with too few or too many responses, columns of unequal length, a number that is not
    /// finite, a response without tokens, or without the reference that is needed.
    pub fn new(groups: &[GroupScores], needs: &Needs) -> Result<Self, ObjectiveError> {
        Self::padded(groups, needs, 0)
    }

    /// Like [`ScoredGroups::new`], `extra` absent responses wider than the widest group.
    pub(crate) fn padded(groups: &[GroupScores], needs: &Needs, extra: usize) -> Result<Self, ObjectiveError> {
        if needs.mismatched_pairs {
            let reason = "the objective needs mismatched prompt and response pairs, which nothing scores yet";
            return Err(ObjectiveError::Unsupported(reason.to_owned()));
        }
        for (index, group) in groups.iter().enumerate() {
            group.check(index, needs)?;
        }
        let counts: Vec<usize> = groups.iter().map(GroupScores::num_responses).collect();
        let widest = counts.iter().max().ok_or(ObjectiveError::EmptyBatch)?;
        let width = widest + extra;
        let pairs = groups.len().saturating_mul(width).saturating_mul(width);
        if pairs > MAX_PAIRS {
            let reason = format!(
                "{} prompts with up to {widest} responses: their pairs are more than the {MAX_PAIRS} that are computed at \
                 once; make fewer rows of one call, or put prompts with many responses apart from the others",
                groups.len()
            );
            return Err(ObjectiveError::Unsupported(reason));
        }
        let rows = |pad: f64, of: &dyn Fn(&GroupScores) -> Vec<f64>| {
            let padded = groups.iter().flat_map(|g| {
                let mut row = of(g);
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
            counts,
        })
    }

    /// Number of prompts, B.
    pub fn num_groups(&self) -> usize {
        self.counts.len()
    }

    /// Number of responses of each prompt, `[B]`.
    pub fn counts(&self) -> &[usize] {
        &self.counts
    }

    /// Log-probabilities under the policy, in nats; the only tensor with gradients.
    pub fn policy_logps(&self) -> Tensor<ObjectiveBackend, 2> {
        self.policy_logps.clone()
    }

    /// Log-probabilities under the reference, where [`Needs::reference`] asked for them.
    pub fn reference_logps(&self) -> Option<Tensor<ObjectiveBackend, 2>> {
        self.reference_logps.clone()
    }

    /// Tokens of each response.
    pub fn lengths(&self) -> Tensor<ObjectiveBackend, 2> {
        self.lengths.clone()
    }

    /// Scalar rewards, higher is better.
    pub fn rewards(&self) -> Tensor<ObjectiveBackend, 2> {
        self.rewards.clone()
    }

    /// Which responses are there; true = real.
    pub fn present(&self) -> Tensor<ObjectiveBackend, 2, Bool> {
        self.present.clone()
    }

    /// Number of responses of each prompt as floats, `[B]`.
    pub fn num_present(&self) -> Tensor<ObjectiveBackend, 1> {
        self.num_present.clone()
    }

    /// Δ = log π − log π_ref of each response, in nats; 0 where absent.
    ///
    /// # Panics
    /// If the objective's [`Needs`] deny a reference: a bug of the objective.
    pub fn log_ratios(&self) -> Tensor<ObjectiveBackend, 2> {
        match self.reference_logps() {
            Some(reference) => self.policy_logps() - reference,
            None => panic!("an objective used log_ratios() although its needs() say that it has no reference"),
        }
    }

    /// Mean log-probability of a token of each response: log π / n.
    pub fn token_logps(&self) -> Tensor<ObjectiveBackend, 2> {
        self.policy_logps() / self.lengths()
    }

    /// softmax(reward / `alpha`) over the present responses; 0 where absent.
    ///
    /// The best reward is subtracted first, so that any α > 0 is safe.
    pub fn reward_weights(&self, alpha: f64) -> Tensor<ObjectiveBackend, 2> {
        let rewards = self.rewards().mask_fill(self.absent(), f64::NEG_INFINITY);
        let best = rewards.clone().max_dim(1);
        activation::softmax((rewards - best) / alpha, 1)
    }

    /// Softmax over the present responses; 0 where absent.
    pub fn softmax(&self, values: Tensor<ObjectiveBackend, 2>) -> Tensor<ObjectiveBackend, 2> {
        activation::softmax(values.mask_fill(self.absent(), f64::NEG_INFINITY), 1)
    }

    /// Log-softmax over the present responses; 0 where absent.
    pub fn log_softmax(&self, values: Tensor<ObjectiveBackend, 2>) -> Tensor<ObjectiveBackend, 2> {
        // The −∞ of an absent response would turn into NaN when multiplied by its weight 0.
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

    /// The value of each prompt's best response, `[B]`; among equal rewards the first.
    pub fn best(&self, values: Tensor<ObjectiveBackend, 2>) -> Tensor<ObjectiveBackend, 1> {
        values.gather(1, self.best.clone()).squeeze_dim(1)
    }

    /// The value of each prompt's worst response, `[B]`; among equal rewards the last.
    pub fn worst(&self, values: Tensor<ObjectiveBackend, 2>) -> Tensor<ObjectiveBackend, 1> {
        values.gather(1, self.worst.clone()).squeeze_dim(1)
    }

    /// Values from the best to the worst response of each prompt, absent ones last.
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
