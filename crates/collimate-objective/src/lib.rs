//! The [`Objective`] trait, the registry that finds objectives by name, and their conformance tests.
//!
//! An objective is a function of the K log-probabilities of a prompt's responses. It runs in float64 on the CPU
//! regardless of where the model runs; its gradient, the coefficients c_k, is K numbers per prompt.
//!
//! ```text
//! GroupScores (host) → ScoredGroups (tensors) → Objective → Evaluation: losses, implicit rewards, c_k
//! ```
//!
//! Read [`Objective`], [`ScoredGroups`] and [`evaluate`] first. This crate must not know files, models or the command
//! line.
//!
//! A plugin is a type that implements [`Objective`], `Default` and serde's traits, plus one [`register_objective!`].
//! Everything it needs (burn's tensors, serde, inventory) is re-exported here, and [`conformance::check`] is its test.
//!
//! ```
//! use collimate_objective::{GroupScores, Objective, ObjectiveOutput, ScoredGroups, evaluate};
//!
//! /// −(Δ_w − Δ_l): pushes the best response above the worst without end.
//! #[derive(Debug)]
//! struct Perceptron;
//!
//! impl Objective for Perceptron {
//!     fn evaluate(&self, groups: &ScoredGroups) -> ObjectiveOutput {
//!         let implicit_rewards = groups.log_ratios();
//!         let loss = groups.worst(implicit_rewards.clone()) - groups.best(implicit_rewards.clone());
//!         ObjectiveOutput { loss, implicit_rewards }
//!     }
//! }
//!
//! let group = GroupScores {
//!     policy_logps: vec![-10.0, -12.0],
//!     reference_logps: Some(vec![-11.0, -11.0]),
//!     rewards: vec![1.0, 0.0],
//!     lengths: vec![7, 8],
//! };
//! let evaluation = evaluate(&Perceptron, &[group])?;
//! assert_eq!(evaluation.losses, [-(1.0 - -1.0)]);
//! assert_eq!(evaluation.coefficients, [[-1.0, 1.0]]);
//! # Ok::<(), collimate_objective::ObjectiveError>(())
//! ```

pub mod conformance;
mod error;
mod evaluate;
mod groups;
mod level;
mod needs;
mod objective;
mod pairs;
pub mod parameters;
pub mod registry;
mod step_rows;
mod streamed;
pub mod values;

#[cfg(test)]
mod tests;

pub use burn;
pub use inventory;
pub use serde;
pub use serde_json;

pub use burn::tensor::Tensor;
pub use error::ObjectiveError;
pub use evaluate::{Evaluation, evaluate};
pub use groups::{GroupScores, ScoredGroups};
pub use level::holds_likelihood;
pub use needs::Needs;
pub use objective::{Objective, ObjectiveOutput};
pub use pairs::under_both_prompts;
pub use parameters::{NonNegative, Positive, PositiveSmoothing, Smoothing, UpToOne};
pub use step_rows::StepRows;
pub use streamed::{EvaluatedGroup, StreamedEvaluation};

/// Where objectives run: burn's CPU backend with automatic differentiation.
///
/// The backend's default type is float32, but every tensor of [`ScoredGroups`] is float64 and every operation, backward
/// included, keeps the dtype of its inputs. Create further tensors with dtype [`FLOAT`].
pub type ObjectiveBackend = burn::backend::Autodiff<burn_flex::Flex>;

/// The dtype of all floating-point tensors an objective sees: float64.
pub const FLOAT: burn::tensor::DType = burn::tensor::DType::F64;
