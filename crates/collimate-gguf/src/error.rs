//! Why a model could not be exported.

use collimate_hf::HfError;
use collimate_text::TextError;
use thiserror::Error;

/// Why a GGUF file could not be written.
#[derive(Debug, Error)]
pub enum GgufError {
    /// The model or adapter cannot be read, llama.cpp has no counterpart of it, or the file cannot be written.
    #[error(transparent)]
    Folder(#[from] HfError),

    /// The model's tokenizer cannot be used.
    #[error(transparent)]
    Tokenizer(#[from] TextError),
}
