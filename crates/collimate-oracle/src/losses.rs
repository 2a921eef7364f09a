//! NCA, InfoNCA and DPO with dfdx's gradients.

use dfdx::prelude::*;

/// One group's numbers, all `[K]`.
#[derive(Debug, Clone)]
pub struct OracleGroup {
    /// Policy log-probabilities in nats.
    pub policy_logps: Vec<f64>,
    /// Reference log-probabilities in nats.
    pub reference_logps: Vec<f64>,
    /// Rewards, higher is better.
    pub rewards: Vec<f64>,
}

/// The expected results of an objective.
#[derive(Debug, Clone)]
pub struct LossAndGradient {
    /// Loss of each group, `[B]`.
    pub losses: Vec<f64>,
    /// Gradient of the mean of the losses in the policy's log-probabilities, B lists of K.
    pub coefficients: Vec<Vec<f64>>,
}

type Vector<T = NoneTape> = Tensor<(usize,), f64, Cpu, T>;
type Scalar<T = NoneTape> = Tensor<(), f64, Cpu, T>;

/// `−Σ_k w_k · log σ(h_k) − (1/K) Σ_k log σ(−h_k)` with w = softmax(r/α).
pub fn nca(groups: &[OracleGroup], beta: f64, alpha: f64) -> LossAndGradient {
    differentiate(groups, |group, policy| {
        let h = implicit_rewards(group, policy, beta);
        let k = group.rewards.len() as f64;
        let pull = (log_sigmoid(h.with_empty_tape()) * weights(group, alpha)).sum();
        let push = log_sigmoid(h.negate()).sum::<(), _>() / k;
        pull.negate() - push
    })
}

/// `−Σ_k w_k · log softmax(h)_k` with w = softmax(r/α).
pub fn infonca(groups: &[OracleGroup], beta: f64, alpha: f64) -> LossAndGradient {
    differentiate(groups, |group, policy| {
        let h = implicit_rewards(group, policy, beta);
        (h.log_softmax() * weights(group, alpha)).sum().negate()
    })
}

/// `−log σ(h_w − h_l)` of the best and the worst response; rewards must not tie.
pub fn dpo(groups: &[OracleGroup], beta: f64) -> LossAndGradient {
    differentiate(groups, |group, policy| {
        let h = implicit_rewards(group, policy, beta);
        let sign = |r: f64| {
            let above = group.rewards.iter().any(|&other| other > r);
            let below = group.rewards.iter().any(|&other| other < r);
            f64::from(u8::from(!above)) - f64::from(u8::from(!below))
        };
        let signs = vector(group.rewards.iter().map(|&r| sign(r)).collect());
        (h * signs).sum().sigmoid().ln().negate()
    })
}

fn differentiate(
    groups: &[OracleGroup],
    loss: impl Fn(&OracleGroup, Vector<OwnedTape<f64, Cpu>>) -> Scalar<OwnedTape<f64, Cpu>>,
) -> LossAndGradient {
    let mut found = LossAndGradient { losses: Vec::new(), coefficients: Vec::new() };
    for group in groups {
        let policy = vector(group.policy_logps.clone());
        let value = loss(group, policy.leaky_trace());
        found.losses.push(value.array());
        let gradient = value.backward().get(&policy).as_vec();
        found.coefficients.push(gradient.into_iter().map(|g| g / groups.len() as f64).collect());
    }
    found
}

fn implicit_rewards(
    group: &OracleGroup,
    policy: Vector<OwnedTape<f64, Cpu>>,
    beta: f64,
) -> Vector<OwnedTape<f64, Cpu>> {
    (policy - vector(group.reference_logps.clone())) * beta
}

fn weights(group: &OracleGroup, alpha: f64) -> Vector {
    let best = group.rewards.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let raw: Vec<f64> = group.rewards.iter().map(|r| ((r - best) / alpha).exp()).collect();
    let sum: f64 = raw.iter().sum();
    vector(raw.into_iter().map(|w| w / sum).collect())
}

fn log_sigmoid(x: Vector<OwnedTape<f64, Cpu>>) -> Vector<OwnedTape<f64, Cpu>> {
    x.sigmoid().ln()
}

fn vector(values: Vec<f64>) -> Vector {
    let k = values.len();
    Cpu::default().tensor_from_vec(values, (k,))
}
