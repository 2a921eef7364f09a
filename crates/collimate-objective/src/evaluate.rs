//! Evaluates an objective: from scores to losses, implicit rewards and the coefficients c_k of the model's backward pass.

use burn::tensor::TensorData;

use crate::needs::PART_NUMBERS;
use crate::{FLOAT, GroupScores, Needs, Objective, ObjectiveError, ScoredGroups};

/// An objective's values on a batch, as plain numbers, ragged like the input.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluation {
    /// Loss of each prompt in nats, `[B]`.
    pub losses: Vec<f64>,
    /// Implicit reward of each response, B lists of K; without pairs that are given apart
    /// ([`Needs::mismatched_apart`]), whose coefficients are 0.
    pub implicit_rewards: Vec<Vec<f64>>,
    /// c_k = ∂(mean loss)/∂(policy log-probability of response k), B lists of K.
    pub coefficients: Vec<Vec<f64>>,
}

impl Evaluation {
    /// That of the groups `start..start + len` alone.
    #[must_use]
    pub fn slice(&self, start: usize, len: usize) -> Self {
        let range = start..start + len;
        Self {
            losses: self.losses[range.clone()].to_vec(),
            implicit_rewards: self.implicit_rewards[range.clone()].to_vec(),
            coefficients: self.coefficients[range].to_vec(),
        }
    }

    /// Mean loss over the prompts, whose gradient the coefficients are.
    pub fn mean_loss(&self) -> f64 {
        self.losses.iter().sum::<f64>() / self.losses.len() as f64
    }
}

/// Numbers up to which a batch is evaluated at once however unequal its groups are.
const SMALL: usize = 1 << 16;

/// Evaluates an objective on a batch: losses, implicit rewards and the gradient of the mean loss.
///
/// Groups that do not depend on each other are evaluated in parts if all of them together, as wide as the widest, would take
/// much more memory than they need; what is held at most is [`Needs::working_bytes`].
///
/// # Errors
/// A group is malformed or lacks what the objective needs (the error names its index and field), or the objective
/// returns a tensor of the wrong shape or dtype.
pub fn evaluate(objective: &dyn Objective, groups: &[GroupScores]) -> Result<Evaluation, ObjectiveError> {
    let needs = objective.needs();
    let mut all = Evaluation { losses: Vec::new(), implicit_rewards: Vec::new(), coefficients: Vec::new() };
    let mut rest = groups;
    loop {
        let done = groups.len() - rest.len();
        let (part, others) = rest.split_at(part_size(&needs, rest));
        let found = evaluate_part(objective, part).map_err(|error| error.after_groups(done))?;
        // The gradient is that of the mean over all groups.
        let share = part.len() as f64 / groups.len() as f64;
        all.losses.extend(found.losses);
        all.implicit_rewards.extend(found.implicit_rewards);
        all.coefficients.extend(found.coefficients.into_iter().map(|mut row| {
            // A factor of 1 changes no number.
            row.iter_mut().for_each(|coefficient| *coefficient *= share);
            row
        }));
        rest = others;
        if rest.is_empty() {
            return Ok(all);
        }
    }
}

/// How many of the groups to evaluate at once.
fn part_size(needs: &Needs, groups: &[GroupScores]) -> usize {
    let mut part = Part::default();
    groups.iter().take_while(|group| part.add(needs, group.num_responses())).count()
}

/// The sizes of groups that are evaluated at once.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Part {
    num_groups: usize,
    widest: usize,
    /// Numbers of the groups by themselves, without padding.
    own: usize,
}

impl Part {
    /// Adds a group of `width` responses, unless it does not go with the others: they are independent, and with it too many or
    /// too unequal. Whether it was added.
    pub(crate) fn add(&mut self, needs: &Needs, width: usize) -> bool {
        let with = Self {
            num_groups: self.num_groups + 1,
            widest: self.widest.max(width),
            own: self.own.saturating_add(needs.numbers(1, width)),
        };
        let padded = needs.numbers(with.num_groups, with.widest);
        let is_too_much = padded > PART_NUMBERS || (padded > SMALL && padded / 2 > with.own);
        if is_too_much && self.num_groups > 0 && !needs.couples_batch {
            return false;
        }
        *self = with;
        true
    }
}

/// Evaluates groups at once.
fn evaluate_part(objective: &dyn Objective, groups: &[GroupScores]) -> Result<Evaluation, ObjectiveError> {
    let padded = evaluate_padded(objective, groups, 0)?;
    let needs = objective.needs();
    let ragged = |rows: Vec<Vec<f64>>| -> Vec<Vec<f64>> {
        let cut = |(mut row, group): (Vec<f64>, &GroupScores)| {
            row.truncate(needs.num_own(group.num_responses()));
            row
        };
        rows.into_iter().zip(groups).map(cut).collect()
    };
    let mut coefficients = ragged(padded.coefficients);
    // No gradient flows through pairs that are given apart.
    coefficients.iter_mut().zip(groups).for_each(|(row, group)| row.resize(group.num_responses(), 0.0));
    Ok(Evaluation { losses: padded.losses, implicit_rewards: ragged(padded.implicit_rewards), coefficients })
}

/// [`evaluate`] without cutting rows to their K, and with `extra` more columns than the widest group needs.
pub(crate) fn evaluate_padded(
    objective: &dyn Objective,
    groups: &[GroupScores],
    extra: usize,
) -> Result<Evaluation, ObjectiveError> {
    let scored = ScoredGroups::padded(groups, &objective.needs(), extra)?;
    let policy = scored.policy_logps();
    let [num_groups, width] = policy.dims();
    let output = objective.evaluate(&scored);
    check_output("loss", output.loss.dims(), [num_groups], output.loss.dtype())?;
    check_output(
        "implicit_rewards",
        output.implicit_rewards.dims(),
        [num_groups, width],
        output.implicit_rewards.dtype(),
    )?;
    // Connects the loss to the leaf even if the objective does not, so that backward() has a path.
    let mean = output.loss.clone().mean() + policy.clone().sum() * 0.0;
    let gradients = mean.backward();
    let coefficients = match policy.grad(&gradients) {
        Some(gradient) => rows(gradient.into_data(), width)?,
        None => vec![vec![0.0; width]; num_groups],
    };
    Ok(Evaluation {
        losses: numbers(output.loss.into_data())?,
        implicit_rewards: rows(output.implicit_rewards.into_data(), width)?,
        coefficients,
    })
}

fn check_output<const D: usize>(
    name: &str,
    found: [usize; D],
    expected: [usize; D],
    dtype: burn::tensor::DType,
) -> Result<(), ObjectiveError> {
    if found == expected && dtype == FLOAT {
        return Ok(());
    }
    let reason = format!("the objective returned {name} as {dtype:?} {found:?}, expected {FLOAT:?} {expected:?}");
    Err(ObjectiveError::Unsupported(reason))
}

fn numbers(data: TensorData) -> Result<Vec<f64>, ObjectiveError> {
    data.to_vec::<f64>().map_err(|error| ObjectiveError::Unsupported(format!("expected float64 numbers: {error:?}")))
}

fn rows(data: TensorData, width: usize) -> Result<Vec<Vec<f64>>, ObjectiveError> {
    Ok(numbers(data)?.chunks(width).map(<[f64]>::to_vec).collect())
}
