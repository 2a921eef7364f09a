//! From rankings, comparisons and ratings to rewards: pure functions over one prompt's K responses.
//!
//! Every function takes and returns one number a response, in the order of the responses, and every result is
//! higher-is-better. [`RewardFrom`] names them for a loader; the functions behind it can be called alone.

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
pub use pairs::{Pair, PairRule, pairs};
pub use rank::{linear_rank, mean_ranks, ndcg_gain};
pub use rule::RewardFrom;
