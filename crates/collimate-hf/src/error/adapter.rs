//! Errors of adapters that do not fit their model.

use std::path::PathBuf;

use thiserror::Error;

use super::others;

/// Why an adapter does not fit its model.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AdapterError {
    /// A tensor of an adapter belongs to no linear module of the model.
    #[error("{}: \"{key}\" matches no linear module of the model{hint}", path.display())]
    UnknownKey {
        /// The adapter's file.
        path: PathBuf,
        /// The key.
        key: String,
        /// The nearest module, or what kind of tensor it is.
        hint: String,
    },

    /// A module has only one of its two adapter matrices.
    #[error("{}: module \"{module}\" has no {missing}", path.display())]
    HalfMissing {
        /// The adapter's file.
        path: PathBuf,
        /// The module.
        module: String,
        /// `lora_A` or `lora_B`.
        missing: &'static str,
    },

    /// A targeted module has no matrices in the adapter's file.
    #[error("{}: module \"{module}\" is among the targets and has no tensors{}", path.display(), others(*num_missing, "missing"))]
    ModuleMissing {
        /// The adapter's file.
        path: PathBuf,
        /// The first such module.
        module: String,
        /// How many there are.
        num_missing: usize,
    },

    /// A target of an adapter names no linear module of the model.
    #[error("LoRA target \"{target}\" matches no linear module of the model; there are: {}", known.join(", "))]
    UnknownTarget {
        /// The target.
        target: String,
        /// The last parts of the names of all linear modules.
        known: Vec<String>,
    },

    /// A setting of an adapter matches nothing in the model.
    #[error("LoRA setting {setting}: \"{name}\" matches nothing in the model")]
    MatchesNothing {
        /// The setting, by PEFT's name.
        setting: &'static str,
        /// What matches nothing.
        name: String,
    },

    /// An adapter for a resized vocabulary whose file lacks the new rows of the base model.
    #[error(
        "the adapter's vocabulary was resized, and its file lacks the base model's own rows for the new tokens: nothing can \
         be computed without the adapter (reference: base); leave reference out, or resize the base model first"
    )]
    LacksBaseRows,

    /// Settings of an adapter that do not go together.
    #[error("LoRA settings that are not supported together: {what}")]
    NotTogether {
        /// The settings.
        what: &'static str,
    },
}
