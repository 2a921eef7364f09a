//! Independent gradients (dfdx, finite differences), golden files, tolerances and a reader of GGUF files, for tests only.
//!
//! Shares no code with what it checks: formulas are written again, on another tensor library, group by group and in
//! the simplest form. It is accurate for moderate log-ratios (|h| below about 30), not at extremes.
//!
//! Legend: B prompts (groups), K responses of a prompt.

mod differences;
pub mod gguf;
mod golden;
mod losses;
mod tensor_file;
pub mod tolerances;

pub use differences::central_differences;
pub use golden::{GoldenError, ObjectiveRow, golden_dir, golden_name, objective_rows};
pub use losses::{LossAndGradient, OracleGroup, dpo, infonca, nca};
pub use tensor_file::{StoredTensor, safetensors_file};
