//! Which training prompts of a finished run move a held-out answer.
//!
//! For a held-out answer y to x, and a training prompt with its loss L:
//!
//! ```text
//! score = − ⟨ ∂ log π(y|x)/∂θ , ∂L/∂θ ⟩        θ: the adapter, as it was at the end of the run
//! ```
//!
//! A plain gradient step θ ← θ − η ∂L/∂θ on that prompt alone changes log π(y|x) by η · score to first order, so a positive score
//! pushes the answer up and a negative one down. It is in nats for a learning rate of 1. The idea is TracIn's (Pruthi and others,
//! arXiv 2002.08484) with one checkpoint, the last: what a prompt did earlier in the run, momentum, AdamW's scaling and weight
//! decay are not in it, nor is dropout or a balance loss of experts.
//!
//! Each prompt's gradient is computed, multiplied and forgotten: in memory are the gradients of the answers and one more.
//!
//! Start at [`explain`]. This crate must not know the command line.

mod answer;
mod gradients;
mod page;

pub use answer::AnswerChoice;
pub use gradients::{ExplainError, ExplainOptions, Explained, Explanation, Moved, check, explain};
