//! Reward and preference data, from a file to batches of token ids.
//!
//! ```text
//! file → PromptGroup → TokenizedGroup → GroupBatch
//! ```
//!
//! Knows nothing of tensors, devices, models or objectives.
//!
//! Legend used in every crate: B prompts (groups), K responses of a prompt, T tokens, P prompt tokens,
//! R response tokens, V vocabulary, D width, H heads.

mod batch;
mod caught;
mod chat;
mod convert;
mod error;
mod group;
mod layout;
mod loader;
mod mix;
mod model_files;
mod preview;
pub mod rewards;
mod row_writer;
mod stats;
mod tokenize;
mod tokenizer;

pub use batch::{GroupBatch, PackedResponse};
#[doc(hidden)]
pub use caught::catches_panics;
pub use chat::ChatTemplate;
pub use convert::{ConvertReport, ConvertTo, convert};
pub use error::DataError;
pub use group::{Message, Prompt, PromptGroup, Response, TokenizedGroup, TokenizedResponse};
pub use layout::{Layout, ScoreDirection};
pub use loader::{
    DataSource, GroupReader, JsonRow, JsonRows, LoadCounts, LoadOptions, MAX_LINE_BYTES, SkipReason, SourceDescription,
    data_files, data_stem, is_pattern,
};
pub use mix::{DataFiles, DataPart, Duplicates, FileReport, MixOptions, MixedGroups, hold_out, read_mix};
pub use preview::preview;
pub use row_writer::RowWriter;
pub use stats::{Correlation, DataStats, LengthSummary, StatsSummary};
pub use tokenize::{TokenizeCounts, TokenizeOptions, UnusableReason, tokenize_all, tokenize_all_with, tokenize_group};
pub use tokenizer::TextTokenizer;
