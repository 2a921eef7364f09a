//! Divergences from the reference other than the reverse Kullback-Leibler one.

use std::f64::consts::LN_2;

use collimate_objective::{ObjectiveBackend, Positive, ScoredGroups, Tensor};
use serde::{Deserialize, Serialize};

use crate::math::log_sigmoid;

/// Largest exponent; above it the gradient is zero, so that losses stay finite.
const MAX_EXPONENT: f64 = 80.0;
/// How near 1 the α of the α-divergence is taken for 1.
const NEARLY_ONE: f64 = 1e-6;

/// Which divergence from the reference the policy is held to, for a loss over pairs: Δ becomes f′(e^Δ).
///
/// Source: Wang et al. 2023, arXiv 2309.16240 (f-DPO), table 1, without additive constants.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Divergence {
    /// `reverse_kl`: Δ; `forward_kl`: 1 − e^−Δ; `js_divergence`: log 2 + log σ(Δ); `alpha_divergence`: (e^((α−1)Δ) − 1)/(α−1).
    pub f_divergence_type: DivergenceType,
    /// α of the α-divergence.
    pub f_alpha_divergence_coef: Positive,
}

/// A divergence by its name in TRL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DivergenceType {
    /// KL(π ‖ π_ref), that of DPO.
    ReverseKl,
    /// KL(π_ref ‖ π).
    ForwardKl,
    /// Jensen and Shannon's.
    JsDivergence,
    /// The family between both of Kullback and Leibler's.
    AlphaDivergence,
}

impl Default for Divergence {
    fn default() -> Self {
        Self { f_divergence_type: DivergenceType::ReverseKl, f_alpha_divergence_coef: Positive::constant(0.5) }
    }
}

impl Divergence {
    /// f′ of the ratios whose logarithms are Δ, `[B, K]`.
    pub(crate) fn of_log_ratios(self, groups: &ScoredGroups) -> Tensor<ObjectiveBackend, 2> {
        let log_ratios = groups.log_ratios();
        match self.f_divergence_type {
            DivergenceType::ReverseKl => log_ratios,
            DivergenceType::ForwardKl => -(-log_ratios).clamp_max(MAX_EXPONENT).exp() + 1.0,
            DivergenceType::JsDivergence => log_sigmoid(log_ratios) + LN_2,
            DivergenceType::AlphaDivergence => {
                let power = self.f_alpha_divergence_coef.get() - 1.0;
                match power.abs() < NEARLY_ONE {
                    true => log_ratios,
                    false => ((log_ratios * power).clamp_max(MAX_EXPONENT).exp() - 1.0) / power,
                }
            }
        }
    }
}
