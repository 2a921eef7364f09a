//! Sampled groups, and the part of them that a method sees.

use std::path::Path;

use anyhow::Result;
use collimate_quickstart::measure::solve;
use collimate_quickstart::problems::{Problem, Split, distinct_problems};
use collimate_quickstart::verifier::score;
use collimate_train::{SessionOptions, open_session};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{NUM_SAMPLED, TaskSize, read_rows, tokenizer, write_rows};

/// Selects which of a problem's sampled responses a method sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Selection {
    /// The first K, whatever their rewards.
    First(usize),
    /// The best and the worst; problems with equal rewards are left out.
    BestWorst,
    /// The best and a uniformly drawn worse one; problems with equal rewards are left out.
    BestRandom,
    /// All responses; problems with equal rewards are left out.
    Untied,
}

/// Writes the groups of a seed's training problems.
///
/// # Errors
/// The model cannot be opened, or the file cannot be written.
pub(super) fn sample_training(base: &Path, seed: u64, num_problems: usize, path: &Path) -> Result<()> {
    let problems: Vec<Problem> = distinct_problems(seed, Split::Train).take(num_problems).collect();
    sample(base, &problems, seed, path)
}

/// Writes the base model's responses to the validation problems, on which likelihoods are measured.
///
/// # Errors
/// As [`sample_training`].
pub(super) fn sample_held_out(base: &Path, size: &TaskSize, path: &Path) -> Result<()> {
    sample(base, &held_out(0, size.num_validation), 5, path)
}

/// Held-out problems from `skip` on, in the quickstart's order.
pub(super) fn held_out(skip: usize, count: usize) -> Vec<Problem> {
    distinct_problems(1, Split::HeldOut).skip(skip).take(count).collect()
}

fn sample(base: &Path, problems: &[Problem], seed: u64, path: &Path) -> Result<()> {
    let mut session = open_session(&SessionOptions::inference(base, None))?;
    let solutions = solve(session.as_mut(), &tokenizer(base)?, problems, NUM_SAMPLED, Some(seed), &mut |_| {})?;
    let rows = problems.iter().zip(&solutions).filter_map(|(problem, texts)| {
        // A response of only an end token cannot be scored, but its siblings can.
        let texts = texts.iter().filter(|text| !text.trim().is_empty());
        let responses: Vec<Value> = texts.map(|t| json!({"content": t, "reward": score(problem, t)})).collect();
        (responses.len() >= 2).then(|| json!({"prompt": problem.prompt, "responses": responses}))
    });
    write_rows(path, rows)
}

/// Writes the part of the groups in `from` that a method sees.
///
/// # Errors
/// A file that cannot be read or written.
pub(super) fn select(from: &Path, selection: Selection, seed: u64, to: &Path) -> Result<()> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let rows = read_rows(from)?.into_iter().filter_map(|mut row| {
        let responses = row["responses"].as_array().cloned().unwrap_or_default();
        let chosen = choose(&responses, selection, &mut rng)?;
        row["responses"] = chosen.into_iter().map(|k| responses[k].clone()).collect();
        Some(row)
    });
    write_rows(to, rows.collect::<Vec<_>>())
}

/// Indices of the responses that a method sees; `None` if it does not see the problem.
fn choose(responses: &[Value], selection: Selection, rng: &mut ChaCha8Rng) -> Option<Vec<usize>> {
    let rewards: Vec<f64> = responses.iter().filter_map(|response| response["reward"].as_f64()).collect();
    let best = (0..rewards.len()).reduce(|best, k| if rewards[k] > rewards[best] { k } else { best })?;
    let worst = (0..rewards.len()).reduce(|worst, k| if rewards[k] <= rewards[worst] { k } else { worst })?;
    let tied = rewards[best] <= rewards[worst];
    match selection {
        Selection::First(k) => Some((0..rewards.len().min(k)).collect()),
        Selection::Untied => (!tied).then(|| (0..rewards.len()).collect()),
        Selection::BestWorst => (!tied).then(|| vec![best, worst]),
        Selection::BestRandom => {
            let worse: Vec<usize> = (0..rewards.len()).filter(|&k| rewards[k] < rewards[best]).collect();
            (!worse.is_empty()).then(|| vec![best, worse[rng.random_range(0..worse.len())]])
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(Selection::First(3), &[0.1, 0.9, 0.1, 0.4], Some(vec![0, 1, 2]))]
    #[case(Selection::First(3), &[0.5, 0.5], Some(vec![0, 1]))]
    #[case(Selection::BestWorst, &[0.1, 0.9, 0.1, 0.9], Some(vec![1, 2]))]
    #[case(Selection::BestWorst, &[0.5, 0.5], None)]
    #[case(Selection::BestRandom, &[0.2, 0.9, 0.9], Some(vec![1, 0]))]
    #[case(Selection::BestRandom, &[0.5, 0.5], None)]
    #[case(Selection::Untied, &[0.5, 0.6], Some(vec![0, 1]))]
    #[case(Selection::Untied, &[0.5, 0.5], None)]
    fn responses_are_chosen_by_their_rewards(
        #[case] selection: Selection,
        #[case] rewards: &[f64],
        #[case] expected: Option<Vec<usize>>,
    ) {
        let responses: Vec<Value> = rewards.iter().map(|reward| json!({"reward": reward})).collect();
        assert_eq!(choose(&responses, selection, &mut ChaCha8Rng::seed_from_u64(0)), expected);
    }

    #[test]
    fn validation_and_test_problems_are_different_ones() {
        let (validation, test) = (held_out(0, 20), held_out(20, 20));
        assert!(validation.iter().all(|problem| {
            !test.iter().any(|other| other.operations == problem.operations && other.start == problem.start)
        }));
    }
}
