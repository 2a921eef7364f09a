//! How close a policy fitted to sampled data comes to π*, by the number of prompts and responses.

use std::collections::HashMap;

use anyhow::Result;
use collimate_report::stats::slope;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::TheorySize;
use super::population::ALPHA;
use crate::stats::Estimate;
use crate::tabular::{Draw, World, log_softmax, objective, total_variation};

/// Number of possible responses.
const NUM_POSSIBLE: usize = 8;

/// The feedback on a prompt with K responses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Feedback {
    /// The rewards of all K.
    Rewards,
    /// The one that a judge preferred, drawn by softmax(r/α): the assumption behind the paper's loss, and behind DPO for
    /// K = 2.
    Preference,
    /// The best and the worst.
    BestAndWorst,
}

/// The fits, by objective and feedback.
const FITS: [Fit; 5] = [
    Fit { objective: "nca", feedback: Feedback::Rewards },
    Fit { objective: "infonca", feedback: Feedback::Rewards },
    Fit { objective: "nca", feedback: Feedback::Preference },
    Fit { objective: "infonca", feedback: Feedback::Preference },
    Fit { objective: "dpo", feedback: Feedback::BestAndWorst },
];

/// An objective and what it is fitted to.
#[derive(Debug, Clone, Copy)]
pub struct Fit {
    /// The objective.
    pub objective: &'static str,
    /// The feedback.
    pub feedback: Feedback,
}

/// The findings.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Convergence {
    /// One curve per objective, feedback and K.
    pub curves: Vec<Curve>,
}

/// Total variation to π* over the number of prompts.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Curve {
    /// The objective.
    pub objective: String,
    /// The feedback.
    pub feedback: Feedback,
    /// K.
    pub num_responses: usize,
    /// Numbers of prompts, and the total variation over the seeds.
    pub points: Vec<(usize, Estimate)>,
    /// Slope of log total variation against log prompts: −½ if only sampling noise is left.
    pub slope: f64,
}

/// Runs the measurements.
///
/// # Errors
/// An objective that refuses its input.
pub fn measure(size: &TheorySize) -> Result<Convergence> {
    let mut curves = Vec::new();
    for fit in FITS {
        for &k in &size.num_responses {
            curves.push(curve(fit, k, &size.num_prompts, &size.seeds)?);
        }
    }
    Ok(Convergence { curves })
}

/// One curve. A seed draws the world and its data, equal for all objectives.
///
/// # Errors
/// An objective that refuses its input.
pub fn curve(fit: Fit, k: usize, num_prompts: &[usize], seeds: &[u64]) -> Result<Curve> {
    let Fit { objective: name, feedback } = fit;
    let objective = objective(&match feedback {
        Feedback::Rewards => json!({"name": name, "beta": 1.0, "alpha": ALPHA}),
        Feedback::Preference => json!({"name": name, "beta": 1.0, "alpha": 1e-4}),
        Feedback::BestAndWorst => json!({"name": name, "beta": 1.0}),
    })?;
    let mut points = Vec::new();
    for &count in num_prompts {
        let distances = seeds.iter().map(|&seed| {
            let world = World::random(NUM_POSSIBLE, &mut ChaCha8Rng::seed_from_u64(seed));
            let draws = sample(&world, feedback, k, count, seed);
            let fit = world.fit(objective.as_ref(), &draws, 1e-8)?;
            Ok(total_variation(&fit.point, &world.optimum(ALPHA)))
        });
        points.push((count, Estimate::from_values(&distances.collect::<Result<Vec<_>>>()?)));
    }
    let logs: Vec<(f64, f64)> = points.iter().map(|(n, tv)| ((*n as f64).ln(), tv.mean.ln())).collect();
    Ok(Curve { objective: name.to_owned(), feedback, num_responses: k, points, slope: slope(&logs) })
}

/// `count` times K draws of the reference, and of a preference if that is the feedback; equal draws are merged and weighted
/// by their number.
fn sample(world: &World, feedback: Feedback, k: usize, count: usize, seed: u64) -> Vec<Draw> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(k as u64);
    let tilted: Vec<f64> = world.rewards.iter().map(|reward| reward / ALPHA).collect();
    let mut seen: HashMap<(Vec<usize>, Option<usize>), usize> = HashMap::new();
    for _ in 0..count {
        let mut responses: Vec<usize> = (0..k).map(|_| one(&world.reference, &mut rng)).collect();
        responses.sort_unstable();
        let logits: Vec<f64> = responses.iter().map(|&m| tilted[m]).collect();
        // Always drawn, so that all feedback is about the same responses.
        let winner = one(&log_softmax(&logits), &mut rng);
        *seen.entry((responses, (feedback == Feedback::Preference).then_some(winner))).or_default() += 1;
    }
    let weight = |times: usize| times as f64 / count as f64;
    let draws =
        seen.into_iter().map(|((responses, preferred), times)| Draw { responses, preferred, weight: weight(times) });
    let mut draws: Vec<Draw> = draws.collect();
    draws.sort_by(|a, b| (&a.responses, a.preferred).cmp(&(&b.responses, b.preferred)));
    draws
}

/// Draws from a distribution given by its logarithms.
fn one(log_probs: &[f64], rng: &mut ChaCha8Rng) -> usize {
    let mut left: f64 = rng.random();
    for (m, log_prob) in log_probs.iter().enumerate() {
        left -= log_prob.exp();
        if left < 0.0 {
            return m;
        }
    }
    log_probs.len() - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn distance(objective: &'static str, feedback: Feedback, k: usize, count: usize) -> f64 {
        curve(Fit { objective, feedback }, k, &[count], &[1, 2, 3]).expect("a curve").points[0].1.mean
    }

    #[test]
    fn preferences_come_nearer_with_the_root_of_the_prompts_and_with_responses() {
        let fit = Fit { objective: "infonca", feedback: Feedback::Preference };
        let two = curve(fit, 2, &[300, 3000], &[1, 2, 3, 4]).expect("a curve");
        let eight = curve(fit, 8, &[300, 3000], &[1, 2, 3, 4]).expect("a curve");
        assert!((-0.8..-0.25).contains(&two.slope) && (-0.8..-0.25).contains(&eight.slope), "{two:?} {eight:?}");
        assert!(eight.points[1].1.mean < two.points[1].1.mean, "{two:?} {eight:?}");
    }

    #[test]
    fn rewards_beat_preferences_and_the_best_pair_of_the_same_responses() {
        let infonca = distance("infonca", Feedback::Rewards, 8, 1000);
        // Every response was seen, and rewards are noiseless.
        assert!(infonca < 1e-6, "{infonca}");
        let nca = distance("nca", Feedback::Rewards, 8, 1000);
        let (judged, pair) =
            (distance("nca", Feedback::Preference, 8, 1000), distance("dpo", Feedback::BestAndWorst, 8, 1000));
        assert!(nca < judged && 2.0 * nca < pair, "{nca} {judged} {pair}");
    }
}
