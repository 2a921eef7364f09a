//! Rewards from rankings, comparisons and ratings, and the weights objectives derive from rewards: pure functions over
//! one prompt's K responses.
//!
//! Each takes and returns one number per response, in the order of the responses; rewards are higher-is-better.
//! [`RewardFrom`], [`Normalize`] and [`PairRule`] select functions by name: read them first, and [`reward_weights`], the
//! softmax(reward/α) of NCA and InfoNCA.
//!
//! The crate must not know files, texts, tensors or objectives, so that both the code that reads data and the code that
//! computes losses can depend on it.
//!
//! ```
//! use collimate_rewards::{bradley_terry, linear_rank, mean_ranks, pairwise_wins, reward_weights};
//!
//! let scores = [7.0, 9.0, 7.0];
//! assert_eq!(mean_ranks(&scores), [2.5, 1.0, 2.5]);
//! assert_eq!(linear_rank(&mean_ranks(&scores)), [0.25, 1.0, 0.25]);
//! let utilities = bradley_terry(&pairwise_wins(&scores), 0.1);
//! assert!(utilities[1] > utilities[0] && (utilities[0] - utilities[2]).abs() < 1e-9);
//! // Weights of NCA at the reward temperature α = 0.5.
//! let weights = reward_weights(&linear_rank(&mean_ranks(&scores)), 0.5);
//! assert!(weights[1] > weights[0] && (weights.iter().sum::<f64>() - 1.0).abs() < 1e-12);
//! ```

mod aspects;
mod elo;
mod entropy;
mod fit;
mod normalize;
mod pairs;
mod rank;
mod rule;

pub use aspects::{aspect_mean, aspect_weighted_sum};
pub use elo::{EloOptions, elo};
pub use entropy::{alpha_for_entropy, effective_responses, entropy, reward_weights};
pub use fit::{DEFAULT_PRIOR_PRECISION, bradley_terry, pairwise_wins, plackett_luce};
pub use normalize::{Normalize, clip, min_max, z_score};
pub use pairs::{Pair, PairRule, num_pairs, pairs};
pub use rank::{linear_rank, mean_ranks, ndcg_gain};
pub use rule::RewardFrom;
