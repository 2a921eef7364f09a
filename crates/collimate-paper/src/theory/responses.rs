//! Optima over K given responses whose likelihoods are free.

use anyhow::Result;
use collimate_objective::{GroupScores, Objective, evaluate};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::minimize::minimize;
use crate::tabular::{normal, objective};

/// The weights of the worked example.
pub const WEIGHTS: [f64; 4] = [0.5, 0.3, 0.15, 0.05];
/// Step size of the example's descent, and number of steps.
const NUM_STEPS: usize = 400;
const STEP_SIZE: f64 = 0.5;
/// Steps between recorded ones.
pub const STRIDE: usize = 8;
/// Reward temperatures on the way to 0.
const ALPHAS: [f64; 8] = [10.0, 3.0, 1.0, 0.33, 0.1, 0.03, 0.01, 1e-4];

/// The findings.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct OverResponses {
    /// Number of random cases per statement.
    pub num_cases: u64,
    /// Largest |loss of infonca − loss of dpo| at K = 2 with one-hot weights.
    pub dpo_loss_difference: f64,
    /// Largest difference of their gradients.
    pub dpo_gradient_difference: f64,
    /// Largest |h_k − log(K w_k)| at NCA's optimum.
    pub nca_optimum_error: f64,
    /// Largest |softmax(h)_k − w_k| at InfoNCA's optimum.
    pub infonca_optimum_error: f64,
    /// Number of responses with w_k above 1/K, and how many of them rose under NCA.
    pub above: (usize, usize),
    /// Number of responses with w_k below 1/K, and how many of them fell under NCA.
    pub below: (usize, usize),
    /// Largest |mean h at InfoNCA's optimum − mean h at the start|.
    pub infonca_level_drift: f64,
    /// Largest difference of NCA's optima from two starts 3 nats apart.
    pub nca_start_difference: f64,
    /// Descents on the worked example.
    pub paths: Vec<Path>,
    /// Optima as α goes to 0.
    pub limits: Vec<Limit>,
}

/// The implicit rewards over a descent's steps.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Path {
    /// The objective.
    pub objective: String,
    /// h_k after 0, [`STRIDE`], 2 · [`STRIDE`], … steps.
    pub steps: Vec<Vec<f64>>,
}

/// The optimum at a reward temperature, for rewards 1, 0.7, 0.3, 0.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Limit {
    /// α.
    pub alpha: f64,
    /// exp of the weights' entropy: how many responses count.
    pub effective_responses: f64,
    /// h of the best and of the second response at NCA's optimum.
    pub best_two: (f64, f64),
    /// NCA's lowest loss.
    pub loss: f64,
}

/// Runs the measurements.
///
/// # Errors
/// An objective that refuses its input.
pub fn measure(num_cases: u64) -> Result<OverResponses> {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut found = OverResponses {
        num_cases,
        dpo_loss_difference: 0.0,
        dpo_gradient_difference: 0.0,
        nca_optimum_error: 0.0,
        infonca_optimum_error: 0.0,
        above: (0, 0),
        below: (0, 0),
        infonca_level_drift: 0.0,
        nca_start_difference: 0.0,
        paths: ["nca", "infonca"].into_iter().map(path).collect::<Result<_>>()?,
        limits: ALPHAS.into_iter().map(limit).collect::<Result<_>>()?,
    };
    for _ in 0..num_cases {
        compare_with_dpo(&mut rng, &mut found)?;
        compare_with_optimum(&mut rng, &mut found)?;
    }
    Ok(found)
}

/// InfoNCA on two responses with all weight on the better one is DPO.
fn compare_with_dpo(rng: &mut ChaCha8Rng, found: &mut OverResponses) -> Result<()> {
    let beta = rng.random_range(0.01..2.0);
    let infonca = objective(&json!({"name": "infonca", "beta": beta, "alpha": 1e-4}))?;
    let dpo = objective(&json!({"name": "dpo", "beta": beta}))?;
    let group = GroupScores {
        policy_logps: (0..2).map(|_| -30.0 + 10.0 * normal(rng)).collect(),
        reference_logps: Some((0..2).map(|_| -30.0 + 10.0 * normal(rng)).collect()),
        rewards: if rng.random() { vec![1.0, 0.0] } else { vec![0.0, 1.0] },
        lengths: vec![10, 12],
    };
    let (a, b) = (evaluate(infonca.as_ref(), std::slice::from_ref(&group))?, evaluate(dpo.as_ref(), &[group])?);
    raise(&mut found.dpo_loss_difference, a.losses[0] - b.losses[0]);
    for k in 0..2 {
        raise(&mut found.dpo_gradient_difference, a.coefficients[0][k] - b.coefficients[0][k]);
    }
    Ok(())
}

fn compare_with_optimum(rng: &mut ChaCha8Rng, found: &mut OverResponses) -> Result<()> {
    let k = rng.random_range(2..=8_usize);
    let alpha = rng.random_range(0.2..2.0);
    let rewards: Vec<f64> = (0..k).map(|_| rng.random()).collect();
    let weights = softmax(&rewards.iter().map(|r| r / alpha).collect::<Vec<_>>());
    let start: Vec<f64> = (0..k).map(|_| normal(rng)).collect();
    let table = |name: &str| objective(&json!({"name": name, "beta": 1.0, "alpha": alpha}));
    let (nca, infonca) = (table("nca")?, table("infonca")?);
    let from_zero = lowest(nca.as_ref(), &rewards, &vec![0.0; k])?;
    for (h, w) in from_zero.iter().zip(&weights) {
        raise(&mut found.nca_optimum_error, h - (k as f64 * w).ln());
        let (seen, moved) = if *w > 1.0 / k as f64 { &mut found.above } else { &mut found.below };
        *seen += 1;
        *moved += usize::from((*h > 0.0) == (*w > 1.0 / k as f64));
    }
    let shifted: Vec<f64> = start.iter().map(|h| h + 3.0).collect();
    let (one, other) = (lowest(nca.as_ref(), &rewards, &start)?, lowest(nca.as_ref(), &rewards, &shifted)?);
    one.iter().zip(&other).for_each(|(a, b)| raise(&mut found.nca_start_difference, a - b));
    let level = lowest(infonca.as_ref(), &rewards, &shifted)?;
    softmax(&level).iter().zip(&weights).for_each(|(s, w)| raise(&mut found.infonca_optimum_error, s - w));
    raise(&mut found.infonca_level_drift, mean(&level) - mean(&shifted));
    Ok(())
}

/// A descent on the worked example from h = 0.
fn path(name: &str) -> Result<Path> {
    let objective = objective(&json!({"name": name, "beta": 1.0, "alpha": 1.0}))?;
    let rewards = WEIGHTS.map(f64::ln);
    let mut h = vec![0.0; rewards.len()];
    let mut steps = vec![h.clone()];
    for step in 1..=NUM_STEPS {
        let (_, gradient) = loss(objective.as_ref(), &rewards, &h)?;
        h.iter_mut().zip(&gradient).for_each(|(h, g)| *h -= STEP_SIZE * g);
        if step % STRIDE == 0 {
            steps.push(h.clone());
        }
    }
    Ok(Path { objective: name.to_owned(), steps })
}

fn limit(alpha: f64) -> Result<Limit> {
    let rewards = [1.0, 0.7, 0.3, 0.0];
    let weights = softmax(&rewards.map(|r| r / alpha));
    let entropy: f64 = weights.iter().filter(|w| **w > 0.0).map(|w| -w * w.ln()).sum();
    let nca = objective(&json!({"name": "nca", "beta": 1.0, "alpha": alpha}))?;
    let minimum = minimize(&[0.0; 4], 1e-10, 500, |h| loss(nca.as_ref(), &rewards, h))?;
    let best_two = (minimum.point[0], minimum.point[1]);
    Ok(Limit { alpha, effective_responses: entropy.exp(), best_two, loss: minimum.loss })
}

fn lowest(objective: &dyn Objective, rewards: &[f64], start: &[f64]) -> Result<Vec<f64>> {
    Ok(minimize(start, 1e-12, 500, |h| loss(objective, rewards, h))?.point)
}

/// Loss and gradient in h, which are the log-ratios at β = 1.
fn loss(objective: &dyn Objective, rewards: &[f64], h: &[f64]) -> Result<(f64, Vec<f64>)> {
    let group = GroupScores {
        policy_logps: h.to_vec(),
        reference_logps: Some(vec![0.0; h.len()]),
        rewards: rewards.to_vec(),
        lengths: vec![1; h.len()],
    };
    let mut found = evaluate(objective, &[group])?;
    Ok((found.losses[0], found.coefficients.swap_remove(0)))
}

fn softmax(logits: &[f64]) -> Vec<f64> {
    crate::tabular::log_softmax(logits).into_iter().map(f64::exp).collect()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn raise(most: &mut f64, difference: f64) {
    *most = most.max(difference.abs());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_paper_says_of_k_responses_holds() {
        let found = measure(40).expect("measured");
        assert!(found.dpo_loss_difference <= 1e-12 && found.dpo_gradient_difference <= 1e-12, "{found:?}");
        assert!(found.nca_optimum_error < 1e-6 && found.infonca_optimum_error < 1e-6, "{found:?}");
        // NCA raises exactly the responses with w > 1/K, and its optimum does not depend on the start.
        assert!(found.above.0 > 30 && found.below.0 > 30, "{found:?}");
        assert_eq!((found.above.0, found.below.0), (found.above.1, found.below.1));
        assert!(found.nca_start_difference < 1e-6, "{found:?}");
        // InfoNCA stays at the level that it starts from, whatever that is.
        assert!(found.infonca_level_drift < 1e-9, "{found:?}");
    }

    #[test]
    fn the_worked_example_ends_where_the_formula_says() {
        let nca = path("nca").expect("a descent");
        let end = nca.steps.last().expect("steps");
        for (h, w) in end.iter().zip(WEIGHTS) {
            assert!((h - (4.0 * w).ln()).abs() < 1e-3, "{end:?}");
        }
    }

    #[test]
    fn as_alpha_goes_to_zero_one_response_is_left() {
        let (warm, cold) = (limit(10.0).expect("an optimum"), limit(1e-4).expect("an optimum"));
        assert!(warm.effective_responses > 3.99 && cold.effective_responses < 1.0 + 1e-9);
        assert!((cold.best_two.0 - 4f64.ln()).abs() < 1e-6 && cold.best_two.1 < -10.0, "{cold:?}");
        assert!((cold.loss - 0.625503).abs() < 1e-6, "{cold:?}");
    }
}
