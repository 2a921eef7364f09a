//! Export to GGUF: one file with a model, its tokenizer and chat template, as llama.cpp loads it.
//!
//! An adapter can be merged into the weights on the way. Whatever llama.cpp would compute differently is refused, naming
//! the field of `config.json` that asks for it; where only some texts come out differently, the summary has a note. The
//! format is version 3 of ggml's specification; keys and tensors are named as in llama.cpp's own `gguf` package, with which
//! the Python checks read the files.
//!
//! The crate must not know burn, devices, or how a model is computed. What llama.cpp has for a family is in that family's
//! file in `collimate-hf` ([`collimate_hf::GgufFamily`]).
//!
//! Start with [`export_gguf`] and [`GgufType`], the storage type to choose.
//!
//! ```no_run
//! use std::path::Path;
//!
//! use collimate_gguf::{GgufError, GgufOptions, GgufType, export_gguf};
//!
//! # fn main() -> Result<(), GgufError> {
//! let options = GgufOptions { outtype: GgufType::Q8_0, name: None, tokenizer_pre: None };
//! let adapter = Some(Path::new("runs/nca"));
//! let summary = export_gguf(Path::new("models/base"), adapter, Path::new("aligned.gguf"), &options)?;
//! println!("{} tensors as {}", summary.num_tensors, summary.architecture);
//! summary.notes.iter().for_each(|note| println!("note: {note}"));
//! # Ok(())
//! # }
//! ```

mod blocks;
mod error;
mod export;
mod format;
mod metadata;
mod pre_tokenizer;
mod sentencepiece;
mod source;
mod stripping;
mod tensors;
#[cfg(test)]
mod tests;
mod tokenizer;
mod tokenizer_file;
mod weights;
mod write;

pub use blocks::GgufType;
pub use error::GgufError;
pub use export::{GgufOptions, GgufSummary, export_gguf};
pub use write::is_gguf;
