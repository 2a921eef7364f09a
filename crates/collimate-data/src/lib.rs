//! Reads rows of rewards, preferences and rankings in any layout as [`PromptGroup`]s: a prompt with its K scored
//! responses.
//!
//! ```text
//! file or files → rows of JSON → layout → rewards → PromptGroup
//! ```
//!
//! Read [`DataSource`], [`LoadOptions`] and [`PromptGroup`] first. Files may be JSON
//! Lines, one JSON list, either of them compressed, or Parquet. They are not trusted: every limit is in SECURITY.md, and
//! memory does not grow with the file, unless its rows hold one response each.
//!
//! The crate must not know tokenizers, chat templates, tensors, devices, models or objectives.
//!
//! ```
//! use collimate_data::{DataSource, LoadOptions};
//!
//! let rows = r#"{"prompt": "What is 7 × 8?", "chosen": "56", "rejected": "54"}"#;
//! let mut groups = DataSource::from_reader(rows.as_bytes(), "pairs.jsonl", &LoadOptions::default())?;
//! assert_eq!(groups.describe().layout.name(), "preference");
//! let group = groups.next().expect("one row")?;
//! assert_eq!((group.responses[0].content.as_str(), group.responses[0].reward), ("56", 1.0));
//! // A broken row is named by file, line and field.
//! let broken = r#"{"prompt": "a", "chosen": "b", "rejected": "c", "score_chosen": 1, "score_rejected": "n/a"}"#;
//! let mut groups = DataSource::from_reader(broken.as_bytes(), "pairs.jsonl", &LoadOptions::default())?;
//! let error = groups.next().expect("one row").expect_err("a broken row");
//! let expected = r#"pairs.jsonl:1: field "score_rejected": expected a finite number, found "n/a""#;
//! assert_eq!(error.to_string(), expected);
//! # Ok::<(), collimate_data::DataError>(())
//! ```

mod caught;
mod convert;
mod counted;
mod error;
mod file_index;
mod group;
mod layout;
mod loader;
mod part;
mod row_writer;
mod skip_reason;

#[doc(hidden)]
pub use caught::{catches_panics, caught};
pub use collimate_messages::{Message, MessageProblem};
pub use convert::{ConvertReport, ConvertTo, convert};
pub use counted::{counted, either, noun_for};
pub use error::DataError;
pub use file_index::DataFiles;
pub use group::{ChatInputs, Prompt, PromptGroup, Response};
pub use layout::fields::{FieldMap, FieldPath};
pub use layout::{Layout, ScoreDirection, condition_of};
pub use loader::{
    DataSource, GroupReader, JsonRow, JsonRows, LabelConflicts, LabelCounts, LoadCounts, LoadOptions, MAX_LINE_BYTES,
    MostResponses, SourceDescription, data_files, data_stem, is_pattern,
};
pub use part::DataPart;
pub use row_writer::RowWriter;
pub use skip_reason::SkipReason;
