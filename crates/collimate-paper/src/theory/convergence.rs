//! How near the policy fitted to sampled data comes to π*, by the number of prompts and of responses.

use std::collections::HashMap;

use anyhow::Result;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::TheorySize;
use super::population::ALPHA;
use crate::stats::{Estimate, slope};
use crate::tabular::{Draw, World, objective, total_variation};

/// Responses that the prompt can have.
const NUM_POSSIBLE: usize = 8;

/// Objectives that are fitted: on all K responses, and on the best against the worst of them.
const OBJECTIVES: [&str; 3] = ["nca", "infonca", "dpo"];

/// What was found.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Convergence {
    /// A curve for each objective and K.
    pub curves: Vec<Curve>,
}

/// Total variation to π* by the number of prompts.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Curve {
    /// The objective.
    pub objective: String,
    /// K.
    pub num_responses: usize,
    /// Numbers of prompts, and the total variation over the seeds.
    pub points: Vec<(usize, Estimate)>,
    /// Slope of log total variation against log prompts: −½ where only the sample's noise is left.
    pub slope: f64,
}

/// Measures all of it.
///
/// # Errors
/// An objective that refuses.
pub fn measure(size: &TheorySize) -> Result<Convergence> {
    let mut curves = Vec::new();
    for name in OBJECTIVES {
        for &k in &size.num_responses {
            curves.push(curve(name, k, &size.num_prompts, &size.seeds)?);
        }
    }
    Ok(Convergence { curves })
}

/// One curve; a seed draws the world and its data, the same for all objectives.
pub fn curve(name: &str, k: usize, num_prompts: &[usize], seeds: &[u64]) -> Result<Curve> {
    let table = match name {
        // Best against worst knows no reward temperature.
        "dpo" => json!({"name": name, "beta": 1.0}),
        _ => json!({"name": name, "beta": 1.0, "alpha": ALPHA}),
    };
    let objective = objective(&table)?;
    let mut points = Vec::new();
    for &count in num_prompts {
        let distances = seeds.iter().map(|&seed| {
            let world = World::random(NUM_POSSIBLE, &mut ChaCha8Rng::seed_from_u64(seed));
            let draws = sample(&world, k, count, seed);
            let fit = world.fit(objective.as_ref(), &draws, 1e-7)?;
            Ok(total_variation(&fit.place, &world.optimum(ALPHA)))
        });
        points.push((count, Estimate::of(&distances.collect::<Result<Vec<_>>>()?)));
    }
    let logs: Vec<(f64, f64)> = points.iter().map(|(n, tv)| ((*n as f64).ln(), tv.mean.ln())).collect();
    Ok(Curve { objective: name.to_owned(), num_responses: k, points, slope: slope(&logs) })
}

/// `count` times K draws of the reference; equal ones are one draw of their number's weight.
fn sample(world: &World, k: usize, count: usize, seed: u64) -> Vec<Draw> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(k as u64);
    let mut seen: HashMap<Vec<usize>, usize> = HashMap::new();
    for _ in 0..count {
        let mut responses: Vec<usize> = (0..k).map(|_| one(world, &mut rng)).collect();
        responses.sort_unstable();
        *seen.entry(responses).or_default() += 1;
    }
    let mut draws: Vec<Draw> =
        seen.into_iter().map(|(responses, times)| Draw { responses, weight: times as f64 / count as f64 }).collect();
    draws.sort_by(|a, b| a.responses.cmp(&b.responses));
    draws
}

fn one(world: &World, rng: &mut ChaCha8Rng) -> usize {
    let mut left: f64 = rng.random();
    for (m, log_prob) in world.reference.iter().enumerate() {
        left -= log_prob.exp();
        if left < 0.0 {
            return m;
        }
    }
    world.reference.len() - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn infonca_comes_nearer_with_prompts_and_with_responses() {
        let two = curve("infonca", 2, &[100, 1000], &[1, 2, 3]).expect("a curve");
        let eight = curve("infonca", 8, &[100, 1000], &[1, 2, 3]).expect("a curve");
        assert!((-0.9..-0.25).contains(&two.slope) && (-0.9..-0.25).contains(&eight.slope), "{two:?} {eight:?}");
        assert!(eight.points[1].1.mean < two.points[1].1.mean, "{two:?} {eight:?}");
    }

    #[test]
    fn eight_responses_with_rewards_beat_the_best_pair_of_them() {
        let at = |name: &str| curve(name, 8, &[1000], &[1, 2, 3]).expect("a curve").points[0].1.mean;
        let (nca, infonca, dpo) = (at("nca"), at("infonca"), at("dpo"));
        assert!(2.0 * nca < dpo && 2.0 * infonca < dpo, "{nca} {infonca} {dpo}");
    }
}
