//! Optima over the population: exact expectations, normalized tabular policies.

use anyhow::Result;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::stats::Estimate;
use crate::tabular::{Draw, World, objective, total_variation};

/// α of all worlds.
pub const ALPHA: f64 = 0.33;
/// Values of β.
const BETAS: [f64; 7] = [0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0];
/// Numbers of responses with an exact expectation over draws.
const NUM_RESPONSES: [usize; 7] = [2, 3, 4, 5, 6, 7, 8];
/// Number of possible responses.
const NUM_POSSIBLE: usize = 6;

/// The findings.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct OverPopulation {
    /// Number of random worlds.
    pub num_worlds: u64,
    /// Largest |h − (r/α − log E e^{r/α})| at NCA's optimum, β = 1.
    pub nca_error: f64,
    /// Largest |h − r/α − mean of that| at InfoNCA's optimum, β = 1.
    pub infonca_error: f64,
    /// Total variation to π_ref e^{r/(αβ)} by β.
    pub by_beta: Vec<ByBeta>,
    /// Total variation to π* with infinitely many prompts of K responses, by K.
    pub by_responses: Vec<ByResponses>,
}

/// Results at one β, over the worlds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ByBeta {
    /// β.
    pub beta: f64,
    /// NCA's total variation to π_ref e^{r/(αβ)}.
    pub nca: Estimate,
    /// InfoNCA's.
    pub infonca: Estimate,
    /// Mean Δ under π_ref at NCA's optimum in nats, which is −KL(π_ref ‖ π): how far the policy moved.
    pub nca_moved: Estimate,
    /// InfoNCA's.
    pub infonca_moved: Estimate,
}

/// Results at one K, over the worlds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ByResponses {
    /// K.
    pub num_responses: usize,
    /// NCA's total variation to π*.
    pub nca: Estimate,
    /// InfoNCA's.
    pub infonca: Estimate,
}

/// Runs the measurements.
///
/// # Errors
/// An objective that refuses its input.
pub fn measure(num_worlds: u64) -> Result<OverPopulation> {
    let worlds: Vec<(World, Draw)> = (1..=num_worlds).map(world).collect();
    let mut found = OverPopulation {
        num_worlds,
        nca_error: 0.0,
        infonca_error: 0.0,
        by_beta: Vec::new(),
        by_responses: Vec::new(),
    };
    for (world, whole) in &worlds {
        found.nca_error = found.nca_error.max(distance_to_theorem("nca", world, whole)?);
        found.infonca_error = found.infonca_error.max(distance_to_theorem("infonca", world, whole)?);
    }
    for beta in BETAS {
        let at = |name: &str| fits(name, beta, &worlds);
        let ((nca, nca_moved), (infonca, infonca_moved)) = (at("nca")?, at("infonca")?);
        found.by_beta.push(ByBeta { beta, nca, infonca, nca_moved, infonca_moved });
    }
    for num_responses in NUM_RESPONSES {
        let at = |name: &str| -> Result<Estimate> {
            let distances = worlds.iter().map(|(world, _)| {
                let fit = world.fit(objective(&table(name, 1.0))?.as_ref(), &all_draws(world, num_responses), 1e-10)?;
                Ok(total_variation(&fit.point, &world.optimum(ALPHA)))
            });
            Ok(Estimate::from_values(&distances.collect::<Result<Vec<_>>>()?))
        };
        found.by_responses.push(ByResponses { num_responses, nca: at("nca")?, infonca: at("infonca")? });
    }
    Ok(found)
}

/// A world whose reference has probabilities in whole 24ths, and a draw with each response that many times: its mean is
/// exactly the expectation under the reference.
fn world(seed: u64) -> (World, Draw) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut counts = [1_usize; NUM_POSSIBLE];
    for _ in NUM_POSSIBLE..24 {
        counts[rng.random_range(0..NUM_POSSIBLE)] += 1;
    }
    let rewards = (0..NUM_POSSIBLE).map(|_| rng.random()).collect();
    let world = World { reference: counts.iter().map(|&n| (n as f64 / 24.0).ln()).collect(), rewards };
    let responses = counts.iter().enumerate().flat_map(|(m, &count)| std::iter::repeat_n(m, count)).collect();
    (world, Draw { responses, preferred: None, weight: 1.0 })
}

fn table(name: &str, beta: f64) -> serde_json::Value {
    json!({"name": name, "beta": beta, "alpha": ALPHA})
}

/// Largest distance of h at the optimum from r/α + C; for NCA, C = −log E e^{r/α}.
fn distance_to_theorem(name: &str, world: &World, whole: &Draw) -> Result<f64> {
    let fit = world.fit(objective(&table(name, 1.0))?.as_ref(), std::slice::from_ref(whole), 1e-11)?;
    let expectation: f64 = world.reference.iter().zip(&world.rewards).map(|(p, r)| (p + r / ALPHA).exp()).sum();
    let left: Vec<f64> =
        (0..NUM_POSSIBLE).map(|m| fit.point[m] - world.reference[m] - world.rewards[m] / ALPHA).collect();
    let level = if name == "nca" { -expectation.ln() } else { left.iter().sum::<f64>() / left.len() as f64 };
    Ok(left.iter().map(|value| (value - level).abs()).fold(0.0, f64::max))
}

/// Total variation to π_ref e^{r/(αβ)} and the mean Δ under π_ref of the optimum at β.
fn fits(name: &str, beta: f64, worlds: &[(World, Draw)]) -> Result<(Estimate, Estimate)> {
    let objective = objective(&table(name, beta))?;
    let (mut distances, mut moved) = (Vec::new(), Vec::new());
    for (world, whole) in worlds {
        let fit = world.fit(objective.as_ref(), std::slice::from_ref(whole), 1e-11)?;
        distances.push(total_variation(&fit.point, &world.optimum(ALPHA * beta)));
        moved.push(fit.point.iter().zip(&world.reference).map(|(policy, p)| p.exp() * (policy - p)).sum());
    }
    Ok((Estimate::from_values(&distances), Estimate::from_values(&moved)))
}

/// Every multiset of K responses with its probability under K independent draws from the reference.
pub fn all_draws(world: &World, num_responses: usize) -> Vec<Draw> {
    let mut draws = Vec::new();
    extend(world, num_responses, 0, &mut Vec::new(), &mut draws);
    draws
}

fn extend(world: &World, left: usize, first: usize, chosen: &mut Vec<usize>, draws: &mut Vec<Draw>) {
    if left == 0 {
        // Multinomial: K! Π p^n / n!.
        let mut weight = 0.0;
        let mut run = 0;
        for (i, &m) in chosen.iter().enumerate() {
            run = if i > 0 && chosen[i - 1] == m { run + 1 } else { 1 };
            weight += world.reference[m] + ((i + 1) as f64 / run as f64).ln();
        }
        draws.push(Draw { responses: chosen.clone(), preferred: None, weight: weight.exp() });
        return;
    }
    for m in first..world.reference.len() {
        chosen.push(m);
        extend(world, left - 1, m, chosen, draws);
        chosen.pop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_optimum_over_the_population_is_the_theorems() {
        let (world, whole) = world(5);
        for name in ["nca", "infonca"] {
            let distance = distance_to_theorem(name, &world, &whole).expect("an optimum");
            assert!(distance < 1e-6, "{name}: {distance}");
        }
    }

    #[test]
    fn beta_moves_infoncas_target_and_spoils_ncas() {
        let worlds = [world(5)];
        for beta in [0.5, 1.0, 2.0] {
            let (infonca, _) = fits("infonca", beta, &worlds).expect("a fit");
            let (nca, _) = fits("nca", beta, &worlds).expect("a fit");
            assert!(infonca.mean < 1e-6, "{beta}: {infonca:?}");
            // Only at β = 1 can a normalized policy have the h of NCA's optimum.
            assert_eq!(nca.mean < 1e-6, beta == 1.0, "{beta}: {nca:?}");
        }
    }

    #[test]
    fn few_responses_leave_nca_short_of_the_optimum_and_infonca_not() {
        let (world, _) = world(5);
        let distance = |name: &str, k: usize| {
            let objective = objective(&table(name, 1.0)).expect("an objective");
            let draws = all_draws(&world, k);
            assert!((draws.iter().map(|draw| draw.weight).sum::<f64>() - 1.0).abs() < 1e-12);
            let fit = world.fit(objective.as_ref(), &draws, 1e-10).expect("a fit");
            total_variation(&fit.point, &world.optimum(ALPHA))
        };
        assert!(distance("infonca", 2) < 1e-6 && distance("infonca", 4) < 1e-6);
        let (two, five) = (distance("nca", 2), distance("nca", 5));
        assert!(two > 0.05 && five < 0.6 * two, "{two} {five}");
    }
}
