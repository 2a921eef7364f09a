//! Mixtures of experts.

/// A mixture of experts: feed-forward layers some of which a router picks for each token.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Experts {
    /// Number of experts, E.
    pub count: usize,
    /// Number of experts per token, at most E.
    pub per_token: usize,
    /// Inner width of an expert.
    pub intermediate_size: usize,
    /// What the router makes of its logits.
    pub scores: RouterScores,
    /// Whether the weights of a token's experts are divided by their sum.
    pub normalizes_weights: bool,
    /// Factor on the weights after that.
    pub weight_scale: f64,
    /// Whether each expert has a bias that is added to its score when experts are picked, and not to its weight. Training
    /// by gradients does not change it.
    pub picks_with_bias: bool,
    /// The groups from which experts are picked, if they are divided into any.
    pub groups: Option<ExpertGroups>,
    /// Whether the router and the experts have biases.
    pub has_biases: bool,
    /// A layer beside the experts that every token goes through.
    pub shared: Option<SharedExpert>,
    /// Weight of the router's balance loss (`router_aux_loss_coef`).
    pub balance_weight: f64,
    /// Whether training adds that loss by default, as transformers does with `output_router_logits`.
    pub balances_by_default: bool,
}

impl Experts {
    /// Experts that are picked by the softmax of logits, whose weights sum to one; nothing beside them, no balance loss.
    pub const fn plain(count: usize, per_token: usize, intermediate_size: usize) -> Self {
        Self {
            count,
            per_token,
            intermediate_size,
            scores: RouterScores::Softmax,
            normalizes_weights: true,
            weight_scale: 1.0,
            picks_with_bias: false,
            groups: None,
            has_biases: false,
            shared: None,
            balance_weight: 0.0,
            balances_by_default: false,
        }
    }
}

/// The scores by which experts are picked, and weighed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouterScores {
    /// The softmax of the logits.
    Softmax,
    /// The sigmoid of each logit.
    Sigmoid,
}

/// Groups of experts, of equal size and in order: a token picks groups by the sum of their two best scores, and experts from
/// these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExpertGroups {
    /// Number of groups; divides the number of experts.
    pub count: usize,
    /// Number of groups per token.
    pub per_token: usize,
}

/// A gated layer beside the experts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SharedExpert {
    /// Its inner width.
    pub intermediate_size: usize,
    /// Whether its output is multiplied by the sigmoid of a linear layer with one output.
    pub is_gated: bool,
}
