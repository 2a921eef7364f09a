//! Maximum-likelihood utilities from comparisons (Bradley–Terry) and rankings (Plackett–Luce).
//!
//! Both log-likelihoods have the form `Σ_i c_i u_i − Σ_s n_s · ln Σ_j a_sj e^{u_j}`, with a stage `s` for every choice
//! made, so one Newton solver serves both. It is concave, but its maximum lies at infinity if a response wins every
//! comparison, and always if a ranking has no ties. A Gaussian prior `− (λ/2) Σ u_i²` on the utilities keeps it finite:
//! for λ > 0 the maximum is unique and its utilities sum to 0. A smaller precision λ spreads the utilities and keeps
//! their order.

/// Default precision λ of the prior: a standard deviation of `1/√0.1 ≈ 3.2`, weak compared with a few comparisons.
pub const DEFAULT_PRIOR_PRECISION: f64 = 0.1;

/// A choice made `num` times among some responses, each chosen with probability proportional to its weight times `e^u`.
struct Stage {
    num: f64,
    /// Responses and their weights, all above 0.
    members: Vec<(usize, f64)>,
}

/// Utilities of the Bradley–Terry model, `P(i beats j) = σ(u_i − u_j)`, by maximum likelihood under the prior.
///
/// `wins[i][j]` counts how often i beat j, with a tie as half a win for each; [`pairwise_wins`] computes it from scores.
/// The result satisfies `Σ_j wins[i][j] − (wins[i][j] + wins[j][i]) σ(u_i − u_j) = λ u_i` for every i. `prior_precision` λ
/// must be above 0.
///
/// # Shapes
/// `wins` is [K, K], the result \[K\].
///
/// Source: R. A. Bradley and M. E. Terry, Biometrika 39 (1952).
pub fn bradley_terry(wins: &[Vec<f64>], prior_precision: f64) -> Vec<f64> {
    let num_responses = wins.len();
    let counts: Vec<f64> =
        (0..num_responses).map(|i| (0..num_responses).filter(|&j| j != i).map(|j| wins[i][j]).sum()).collect();
    let mut stages = Vec::new();
    for (i, row) in wins.iter().enumerate() {
        for (j, beaten_by) in wins.iter().enumerate().skip(i + 1) {
            stages.push(Stage { num: row[j] + beaten_by[i], members: vec![(i, 1.0), (j, 1.0)] });
        }
    }
    maximize(&counts, &stages, prior_precision)
}

/// Wins between a prompt's responses according to their scores: 1 for the higher, ½ each for a tie.
///
/// # Shapes
/// `scores` (higher is better) is \[K\], the result [K, K] with a zero diagonal.
pub fn pairwise_wins(scores: &[f64]) -> Vec<Vec<f64>> {
    let outcome = |i: usize, j: usize| match scores[i].partial_cmp(&scores[j]) {
        _ if i == j => 0.0,
        Some(std::cmp::Ordering::Greater) => 1.0,
        Some(std::cmp::Ordering::Less) => 0.0,
        _ => 0.5,
    };
    (0..scores.len()).map(|i| (0..scores.len()).map(|j| outcome(i, j)).collect()).collect()
}

/// Utilities of the Plackett–Luce model of a full ranking, by maximum likelihood under the prior.
///
/// The model fills the ranking from the top, choosing each position among the remaining responses with probability
/// `e^u / Σ e^u`. The order of tied responses is unknown; Efron's approximation averages over it: at the l-th of m tied
/// positions (l from 0), the sum counts each tied response `1 − l/m` times. Tied responses get equal utilities.
/// `prior_precision` λ must be above 0.
///
/// # Shapes
/// `ranks` (1 is best; only their order matters) and the result are \[K\].
///
/// Source: R. L. Plackett, Applied Statistics 24 (1975); ties as B. Efron, JASA 72 (1977).
pub fn plackett_luce(ranks: &[f64], prior_precision: f64) -> Vec<f64> {
    let num_responses = ranks.len();
    let mut levels = ranks.to_vec();
    levels.sort_by(f64::total_cmp);
    levels.dedup();
    let mut stages = Vec::with_capacity(num_responses);
    for level in levels {
        let num_tied = ranks.iter().filter(|rank| **rank == level).count();
        for position in 0..num_tied {
            let tied_weight = 1.0 - position as f64 / num_tied as f64;
            let weight = |rank: &f64| match rank.partial_cmp(&level) {
                Some(std::cmp::Ordering::Less) => 0.0,
                Some(std::cmp::Ordering::Equal) => tied_weight,
                _ => 1.0,
            };
            let members = ranks.iter().map(weight).enumerate().filter(|(_, weight)| *weight > 0.0);
            stages.push(Stage { num: 1.0, members: members.collect() });
        }
    }
    maximize(&vec![1.0; num_responses], &stages, prior_precision)
}

/// Maximizes the log-posterior described at the top of the module by Newton's method with step halving.
fn maximize(counts: &[f64], stages: &[Stage], prior_precision: f64) -> Vec<f64> {
    let num_responses = counts.len();
    let mut utilities = vec![0.0; num_responses];
    let mut value = objective(&utilities, counts, stages, prior_precision);
    for _ in 0..200 {
        let (gradient, curvature) = derivatives(&utilities, counts, stages, prior_precision);
        let step = solve(curvature, gradient);
        if step.iter().all(|delta| delta.abs() < 1e-14) {
            break;
        }
        let mut scale = 1.0;
        loop {
            let moved: Vec<f64> = utilities.iter().zip(&step).map(|(u, delta)| u + scale * delta).collect();
            let moved_value = objective(&moved, counts, stages, prior_precision);
            // The slack admits the last steps, whose gain is below rounding error.
            if moved_value >= value - 1e-12 * (1.0 + value.abs()) {
                (utilities, value) = (moved, moved_value);
                break;
            }
            scale /= 2.0;
            if scale < 1e-6 {
                return utilities;
            }
        }
    }
    utilities
}

fn objective(utilities: &[f64], counts: &[f64], stages: &[Stage], prior_precision: f64) -> f64 {
    let linear: f64 = counts.iter().zip(utilities).map(|(count, u)| count * u).sum();
    let squares: f64 = utilities.iter().map(|u| u * u).sum();
    let max = utilities.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let log_sums: f64 = stages
        .iter()
        .map(|stage| {
            let sum: f64 = stage.members.iter().map(|(i, weight)| weight * (utilities[*i] - max).exp()).sum();
            stage.num * (sum.ln() + max)
        })
        .sum();
    linear - log_sums - prior_precision / 2.0 * squares
}

/// Gradient \[K\] and negated Hessian [K, K], which is positive definite.
fn derivatives(utilities: &[f64], counts: &[f64], stages: &[Stage], prior_precision: f64) -> (Vec<f64>, Vec<Vec<f64>>) {
    let num_responses = counts.len();
    let mut gradient: Vec<f64> = counts.iter().zip(utilities).map(|(count, u)| count - prior_precision * u).collect();
    let mut curvature = vec![vec![0.0; num_responses]; num_responses];
    for (i, row) in curvature.iter_mut().enumerate() {
        row[i] = prior_precision;
    }
    let max = utilities.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    for stage in stages {
        let term = |(i, weight): &(usize, f64)| (*i, weight * (utilities[*i] - max).exp());
        let terms: Vec<(usize, f64)> = stage.members.iter().map(term).collect();
        let total: f64 = terms.iter().map(|(_, term)| term).sum();
        for &(i, term) in &terms {
            let share = term / total;
            gradient[i] -= stage.num * share;
            curvature[i][i] += stage.num * share;
            for &(j, other) in &terms {
                curvature[i][j] -= stage.num * share * other / total;
            }
        }
    }
    (gradient, curvature)
}

/// Solves `matrix · x = right` by elimination. The matrix is symmetric positive definite, so no pivoting is needed.
fn solve(mut matrix: Vec<Vec<f64>>, mut right: Vec<f64>) -> Vec<f64> {
    let size = right.len();
    for pivot in 0..size {
        let pivot_row = matrix[pivot].clone();
        for row in pivot + 1..size {
            let factor = matrix[row][pivot] / pivot_row[pivot];
            for (entry, above) in matrix[row].iter_mut().zip(&pivot_row).skip(pivot) {
                *entry -= factor * above;
            }
            right[row] -= factor * right[pivot];
        }
    }
    for row in (0..size).rev() {
        let known: f64 = (row + 1..size).map(|column| matrix[row][column] * right[column]).sum();
        right[row] = (right[row] - known) / matrix[row][row];
    }
    right
}

#[cfg(test)]
#[path = "fit_tests.rs"]
mod tests;
