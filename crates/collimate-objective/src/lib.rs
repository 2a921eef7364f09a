//! What an alignment objective is, and how one is found by name.
//!
//! An objective is a function of the K log-probabilities of a prompt's responses, nothing else. It runs in
//! float64 on the CPU whatever the model runs on, and its gradient is K numbers a prompt: the c_k.
//!
//! ```text
//! GroupScores (host) → ScoredGroups (tensors) → Objective → Evaluation: losses, implicit rewards, c_k
//! ```
//!
//! A plugin is a type with [`Objective`], `Default` and serde, and one [`register_objective!`]; everything it needs
//! (burn's tensors, serde, inventory) is re-exported here. Its test is one line: [`conformance::check`].
//!
//! Knows nothing of files, models or the command line.
//!
//! Legend: B prompts (groups), K responses of a prompt.

pub mod conformance;
mod error;
mod evaluate;
mod groups;
mod objective;
pub mod parameters;
pub mod registry;
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
pub use objective::{Needs, Objective, ObjectiveOutput};
pub use parameters::{NonNegative, Positive, PositiveSmoothing, Smoothing, UpToOne};

/// Where objectives run: burn's CPU backend with gradients, float64 chosen at run time.
///
/// The backend is declared for float32, but every tensor of [`ScoredGroups`] is float64 and every operation,
/// backward included, keeps the type of its inputs. Create further tensors with [`FLOAT`] as their dtype.
pub type ObjectiveBackend = burn::backend::Autodiff<burn_flex::Flex>;

/// The dtype of every tensor an objective sees.
pub const FLOAT: burn::tensor::DType = burn::tensor::DType::F64;
