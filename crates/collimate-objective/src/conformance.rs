//! The laws every objective must obey, as a one-line test for plugins.
//!
//! ```text
//! #[test]
//! fn obeys_the_laws_of_objectives() -> Result<(), collimate_objective::conformance::Failure> {
//!     collimate_objective::conformance::check("margin_dpo")
//! }
//! ```
//!
//! The inputs are the same in every run: ragged groups with realistic log-probabilities, rewards without ties, and
//! log-ratios of ±1e4 nats.

use serde_json::{Map, Value};

use crate::{Evaluation, GroupScores, Objective, ObjectiveError, evaluate, evaluate::evaluate_padded, registry};

/// Relative tolerance between two float64 evaluations that must agree.
const EXACT: f64 = 1e-12;
/// Relative tolerance between a gradient and central differences with step [`STEP`].
const DIFFERENCES: f64 = 1e-6;
const STEP: f64 = 1e-4;

/// An objective failed the conformance test.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Failure {
    /// The objective could not be found, built or evaluated.
    #[error(transparent)]
    Objective(#[from] ObjectiveError),
    /// The objective violates a law.
    #[error("{law}: {detail}")]
    Law {
        /// The law.
        law: &'static str,
        /// Where it is violated, with both numbers.
        detail: String,
    },
}

/// Checks that a registered objective builds with its defaults, refuses unknown parameters and obeys the laws.
///
/// # Errors
/// The first violation.
pub fn check(name: &str) -> Result<(), Failure> {
    let plugin = registry::find(name)?;
    let unknown = Map::from_iter([("no_such_parameter".to_owned(), Value::from(1.0))]);
    if plugin.build(&unknown).is_ok() {
        return broken("unknown parameters are refused", "no_such_parameter was accepted".to_owned());
    }
    let given = plugin.defaults().as_object().cloned().unwrap_or_default();
    plugin.build(&given)?;
    check_objective(plugin.build(&Map::new())?.as_ref())
}

/// Checks the laws for an objective with its parameters set.
///
/// # Errors
/// The first violation.
pub fn check_objective(objective: &dyn Objective) -> Result<(), Failure> {
    let groups = sample_groups(objective, 1);
    needs_are_respected(objective, &groups)?;
    absent_responses_change_nothing(objective, &groups)?;
    prompts_are_separate(objective, &groups)?;
    permuting_responses_permutes_the_gradient(objective, &groups)?;
    gradient_matches_differences(objective, &groups)?;
    extreme_inputs_stay_finite(objective)
}

/// Ragged groups that satisfy the objective's needs; no rewards tie within a group.
pub fn sample_groups(objective: &dyn Objective, seed: u64) -> Vec<GroupScores> {
    let needs = objective.needs();
    let least = needs.min_responses.max(1);
    let most = needs.max_responses.unwrap_or(least + 5).max(least);
    let mut random = SplitMix(seed);
    (0..5)
        .map(|index| {
            let k = least + (3 * index) % (most - least + 1);
            let lengths: Vec<usize> = (0..k).map(|_| 3 + (random.unit() * 57.0) as usize).collect();
            let policy_logps: Vec<f64> = lengths.iter().map(|&n| -(n as f64) * (0.4 + random.unit())).collect();
            let near = |p: &f64| p + 6.0 * (random.unit() - 0.5);
            let reference_logps = Some(policy_logps.iter().map(near).collect());
            // 3i + shift modulo 3k + 1 differs for each i < k: no ties, and rarely sorted.
            let shift = (random.unit() * k as f64) as usize;
            let reward = |i: usize| ((i * 3 + shift) % (3 * k + 1)) as f64 / k as f64;
            GroupScores { policy_logps, reference_logps, rewards: (0..k).map(reward).collect(), lengths }
        })
        .collect()
}

fn needs_are_respected(objective: &dyn Objective, groups: &[GroupScores]) -> Result<(), Failure> {
    let needs = objective.needs();
    let with = evaluate(objective, groups)?;
    let bare: Vec<GroupScores> =
        groups.iter().map(|group| GroupScores { reference_logps: None, ..group.clone() }).collect();
    match evaluate(objective, &bare) {
        Ok(_) if needs.reference => return broken("a needed reference is asked for", "none was accepted".to_owned()),
        Err(error) if !needs.reference => return Err(error.into()),
        Ok(without) => agree("a reference that is not needed changes nothing", &with, &without)?,
        Err(_) => {}
    }
    if needs.min_responses > 1 {
        let few = shorten(&groups[0], needs.min_responses - 1);
        if evaluate(objective, &[few]).is_ok() {
            return broken("too few responses are refused", format!("{} accepted", needs.min_responses - 1));
        }
    }
    Ok(())
}

fn absent_responses_change_nothing(objective: &dyn Objective, groups: &[GroupScores]) -> Result<(), Failure> {
    let law = "absent responses change nothing";
    let wide = evaluate_padded(objective, groups, 3)?;
    let plain = evaluate(objective, groups)?;
    let cut = |rows: &[Vec<f64>]| -> Vec<Vec<f64>> {
        rows.iter().zip(groups).map(|(row, group)| row[..group.num_responses()].to_vec()).collect()
    };
    for (index, (row, group)) in wide.coefficients.iter().zip(groups).enumerate() {
        if let Some(value) = row[group.num_responses()..].iter().find(|c| **c != 0.0) {
            return broken(law, format!("group {index}: an absent response has the coefficient {value}"));
        }
    }
    let implicit_rewards = cut(&wide.implicit_rewards);
    let coefficients = cut(&wide.coefficients);
    agree(law, &plain, &Evaluation { losses: wide.losses, implicit_rewards, coefficients })
}

fn prompts_are_separate(objective: &dyn Objective, groups: &[GroupScores]) -> Result<(), Failure> {
    if objective.needs().couples_batch {
        return Ok(());
    }
    let law = "each prompt counts for itself (or needs() says couples_batch)";
    let together = evaluate(objective, groups)?;
    for (index, group) in groups.iter().enumerate() {
        let alone = evaluate(objective, std::slice::from_ref(group))?;
        let share = |row: &Vec<f64>| row.iter().map(|c| c * groups.len() as f64).collect();
        let part = Evaluation {
            losses: vec![together.losses[index]],
            implicit_rewards: vec![together.implicit_rewards[index].clone()],
            coefficients: vec![share(&together.coefficients[index])],
        };
        agree(law, &alone, &part)?;
    }
    Ok(())
}

fn permuting_responses_permutes_the_gradient(objective: &dyn Objective, groups: &[GroupScores]) -> Result<(), Failure> {
    let plain = evaluate(objective, groups)?;
    let rotated: Vec<GroupScores> = groups
        .iter()
        .map(|group| GroupScores {
            policy_logps: rotate(&group.policy_logps),
            reference_logps: group.reference_logps.as_deref().map(rotate),
            rewards: rotate(&group.rewards),
            lengths: rotate(&group.lengths),
        })
        .collect();
    let expected = Evaluation {
        losses: plain.losses,
        implicit_rewards: plain.implicit_rewards.iter().map(|row| rotate(row)).collect(),
        coefficients: plain.coefficients.iter().map(|row| rotate(row)).collect(),
    };
    agree("permuting responses permutes the gradient", &expected, &evaluate(objective, &rotated)?)
}

fn gradient_matches_differences(objective: &dyn Objective, groups: &[GroupScores]) -> Result<(), Failure> {
    if objective.needs().holds_constant {
        return Ok(());
    }
    let law = "coefficients are the gradient of the mean loss";
    let coefficients = evaluate(objective, groups)?.coefficients;
    for (index, row) in coefficients.iter().enumerate() {
        for (k, coefficient) in row.iter().enumerate() {
            let loss_at = |step: f64| -> Result<f64, ObjectiveError> {
                let mut moved = groups.to_vec();
                moved[index].policy_logps[k] += step;
                Ok(evaluate(objective, &moved)?.mean_loss())
            };
            let difference = (loss_at(STEP)? - loss_at(-STEP)?) / (2.0 * STEP);
            close(law, &format!("group {index}, response {k}"), difference, *coefficient, DIFFERENCES)?;
        }
    }
    Ok(())
}

fn extreme_inputs_stay_finite(objective: &dyn Objective) -> Result<(), Failure> {
    let law = "losses and coefficients stay finite at extreme inputs";
    for (policy, reference) in [(-1e4, -1e-3), (-1e-3, -1e4), (-2e4, -1e4), (0.0, 0.0)] {
        let mut groups = sample_groups(objective, 2);
        for group in &mut groups {
            for k in 0..group.num_responses() {
                let flip = k % 2 == 0;
                group.policy_logps[k] = if flip { policy } else { reference };
                group.reference_logps = group.reference_logps.take().map(|mut values| {
                    values[k] = if flip { reference } else { policy };
                    values
                });
            }
        }
        let found = evaluate(objective, &groups)?;
        let numbers = found.losses.iter().chain(found.coefficients.iter().flatten());
        if let Some(value) = numbers.into_iter().find(|v| !v.is_finite()) {
            return broken(law, format!("log-probabilities {policy} and {reference} give {value}"));
        }
    }
    Ok(())
}

fn agree(law: &'static str, left: &Evaluation, right: &Evaluation) -> Result<(), Failure> {
    let columns = [
        ("loss", vec![left.losses.clone()], vec![right.losses.clone()]),
        ("implicit reward", left.implicit_rewards.clone(), right.implicit_rewards.clone()),
        ("coefficient", left.coefficients.clone(), right.coefficients.clone()),
    ];
    for (what, left, right) in columns {
        for (row, (a, b)) in left.iter().zip(&right).enumerate() {
            for (column, (a, b)) in a.iter().zip(b).enumerate() {
                close(law, &format!("{what} [{row}, {column}]"), *a, *b, EXACT)?;
            }
        }
    }
    Ok(())
}

fn close(law: &'static str, location: &str, expected: f64, found: f64, tolerance: f64) -> Result<(), Failure> {
    // NaN compares false, and so fails.
    if (expected - found).abs() <= tolerance * expected.abs().max(1.0) {
        return Ok(());
    }
    broken(law, format!("{location}: expected {expected}, found {found}"))
}

fn broken(law: &'static str, detail: String) -> Result<(), Failure> {
    Err(Failure::Law { law, detail })
}

fn rotate<T: Clone>(values: &[T]) -> Vec<T> {
    let mut rotated = values.to_vec();
    rotated.rotate_right(1);
    rotated
}

fn shorten(group: &GroupScores, k: usize) -> GroupScores {
    GroupScores {
        policy_logps: group.policy_logps[..k].to_vec(),
        reference_logps: group.reference_logps.as_ref().map(|values| values[..k].to_vec()),
        rewards: group.rewards[..k].to_vec(),
        lengths: group.lengths[..k].to_vec(),
    }
}

/// SplitMix64: fixed test numbers without a dependency for plugins.
struct SplitMix(u64);

impl SplitMix {
    /// A number in [0, 1).
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}
