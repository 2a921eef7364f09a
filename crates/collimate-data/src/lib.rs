//! Rows of rewards, preferences and rankings: from a file of any layout to [`PromptGroup`]s.
//!
//! Knows nothing of tokenizers, chat templates, tensors, devices, models or objectives.

mod caught;
mod convert;
mod error;
mod group;
mod layout;
mod loader;
mod mix;
pub mod rewards;
mod row_writer;
mod stats;

#[doc(hidden)]
pub use caught::{catches_panics, caught};
pub use convert::{ConvertReport, ConvertTo, convert};
pub use error::DataError;
pub use group::{Message, Prompt, PromptGroup, Response};
pub use layout::{Layout, ScoreDirection};
pub use loader::{
    DataSource, GroupReader, JsonRow, JsonRows, LoadCounts, LoadOptions, MAX_LINE_BYTES, SkipReason, SourceDescription,
    data_files, data_stem, is_pattern,
};
pub use mix::{DataFiles, DataPart, Duplicates, FileReport, MixOptions, MixedGroups, hold_out, read_mix};
pub use row_writer::RowWriter;
pub use stats::{Correlation, DataStats, LengthSummary, StatsSummary};
