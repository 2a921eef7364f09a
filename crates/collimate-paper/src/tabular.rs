//! Tabular policies: one prompt with M responses, one logit each, under the objectives that training uses.

use anyhow::Result;
use collimate_objective::{GroupScores, Objective, evaluate, registry};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

use crate::minimize::{Minimum, minimize};

/// A prompt with M possible responses.
#[derive(Debug, Clone, PartialEq)]
pub struct World {
    /// log π_ref of each response, `[M]`.
    pub reference: Vec<f64>,
    /// Reward of each response, `[M]`.
    pub rewards: Vec<f64>,
}

/// Responses that an objective sees together, by index, and their weight.
#[derive(Debug, Clone, PartialEq)]
pub struct Draw {
    /// Indices of the responses, `[K]`; one may occur several times.
    pub responses: Vec<usize>,
    /// Position of the response that a judge preferred: it has reward 1, all others 0. None if responses have their own
    /// rewards.
    pub preferred: Option<usize>,
    /// Weight of the draw; weights sum to 1.
    pub weight: f64,
}

/// An objective from its table in a recipe: `{"name": …, parameters}`.
///
/// # Errors
/// An unknown name or parameter.
pub fn objective(table: &Value) -> Result<Box<dyn Objective>> {
    let mut params = table.as_object().cloned().unwrap_or_default();
    let name = params.shift_remove("name").unwrap_or_default();
    Ok(registry::build(name.as_str().unwrap_or_default(), &params)?)
}

impl World {
    /// A random world: reference logits are standard normal, rewards uniform in [0, 1].
    pub fn random(num_responses: usize, rng: &mut ChaCha8Rng) -> Self {
        let logits: Vec<f64> = (0..num_responses).map(|_| normal(rng)).collect();
        Self { reference: log_softmax(&logits), rewards: (0..num_responses).map(|_| rng.random()).collect() }
    }

    /// π* ∝ π_ref · e^{r/temperature}.
    pub fn optimum(&self, temperature: f64) -> Vec<f64> {
        let logits: Vec<f64> = self.reference.iter().zip(&self.rewards).map(|(p, r)| p + r / temperature).collect();
        log_softmax(&logits).into_iter().map(f64::exp).collect()
    }

    /// Loss and gradient of a policy's logits over the draws.
    ///
    /// # Errors
    /// Draws that the objective refuses.
    pub fn loss(&self, objective: &dyn Objective, draws: &[Draw], logits: &[f64]) -> Result<(f64, Vec<f64>)> {
        let policy = log_softmax(logits);
        let groups: Vec<GroupScores> = draws.iter().map(|draw| self.scores(&policy, draw)).collect();
        let found = evaluate(objective, &groups)?;
        let mut loss = 0.0;
        let mut gradient = vec![0.0; logits.len()];
        let mut pulled = 0.0;
        for ((draw, group_loss), coefficients) in draws.iter().zip(&found.losses).zip(&found.coefficients) {
            loss += draw.weight * group_loss;
            // Coefficients are gradients of the mean over the draws.
            let factor = draw.weight * draws.len() as f64;
            for (&response, coefficient) in draw.responses.iter().zip(coefficients) {
                gradient[response] += factor * coefficient;
                pulled += factor * coefficient;
            }
        }
        // log π = logit − log Σ e^logit.
        for (entry, log_prob) in gradient.iter_mut().zip(&policy) {
            *entry -= pulled * log_prob.exp();
        }
        Ok((loss, gradient))
    }

    /// The policy with the lowest loss, from the reference on: its log-probs are in `point`.
    ///
    /// # Errors
    /// As [`World::loss`].
    pub fn fit(&self, objective: &dyn Objective, draws: &[Draw], tolerance: f64) -> Result<Minimum> {
        let found = minimize(&self.reference, tolerance, 500, |logits| self.loss(objective, draws, logits))?;
        Ok(Minimum { point: log_softmax(&found.point), ..found })
    }

    fn scores(&self, policy: &[f64], draw: &Draw) -> GroupScores {
        let of = |values: &[f64]| draw.responses.iter().map(|&m| values[m]).collect::<Vec<f64>>();
        let count = draw.responses.len();
        let judged = |winner: usize| (0..count).map(|k| if k == winner { 1.0 } else { 0.0 }).collect();
        GroupScores {
            policy_logps: of(policy),
            reference_logps: Some(of(&self.reference)),
            rewards: draw.preferred.map_or_else(|| of(&self.rewards), judged),
            lengths: vec![1; count],
        }
    }
}

/// Total variation of two distributions, the first given by its logarithms.
pub fn total_variation(log_probs: &[f64], probs: &[f64]) -> f64 {
    0.5 * log_probs.iter().zip(probs).map(|(a, b)| (a.exp() - b).abs()).sum::<f64>()
}

/// Numerically stable log softmax.
pub fn log_softmax(logits: &[f64]) -> Vec<f64> {
    let top = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let total = logits.iter().map(|logit| (logit - top).exp()).sum::<f64>().ln() + top;
    logits.iter().map(|logit| logit - total).collect()
}

/// A standard normal draw, by Box and Muller.
pub fn normal(rng: &mut impl Rng) -> f64 {
    let (u, v): (f64, f64) = (1.0 - rng.random::<f64>(), rng.random());
    (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use serde_json::json;

    use super::*;

    #[test]
    fn the_gradient_in_the_logits_is_that_of_differences() {
        let world = World::random(4, &mut ChaCha8Rng::seed_from_u64(3));
        let draw = |responses, preferred, weight| Draw { responses, preferred, weight };
        let draws = [draw(vec![0, 1, 1], None, 0.25), draw(vec![3, 2, 0], Some(1), 0.75)];
        let objective = objective(&json!({"name": "nca", "beta": 0.7, "alpha": 0.5})).expect("nca");
        let logits = [0.3, -0.2, 0.9, 0.1];
        let (_, gradient) = world.loss(objective.as_ref(), &draws, &logits).expect("a loss");
        for m in 0..4 {
            let at = |step: f64| {
                let mut moved = logits;
                moved[m] += step;
                world.loss(objective.as_ref(), &draws, &moved).expect("a loss").0
            };
            assert!((gradient[m] - (at(1e-5) - at(-1e-5)) / 2e-5).abs() < 1e-9, "{m}");
        }
    }
}
