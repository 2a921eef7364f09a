//! The documents of a run: metrics, report, comparison, model card, TensorBoard events.
//!
//! A run's folder holds `metrics.jsonl` (one [`MetricsRow`] per line), `recipe.yaml`, and perhaps `run.json`,
//! `results.json`, `lengths.json`, `samples.json` and `pictures.json`. Everything here is a function of those files, so a report can be made again later,
//! elsewhere. Start at [`write_report`] and [`MetricsRow`]; [`charts`] draws for pages and for documentation.
//!
//! ```
//! # use collimate_report::{History, MetricsRow, ReportInput, RunFacts, render_report};
//! let mut row = MetricsRow::default();
//! row.set_count("step", 1);
//! row.set("loss", 0.5);
//! let recipe_yaml = "learning_rate: 1e-5\n";
//! let history = History::from_rows([&row], RunFacts::new(recipe_yaml, None));
//! let input = ReportInput {
//!     title: "my run",
//!     history: &history,
//!     recipe_yaml,
//!     results: None,
//!     info: None,
//!     lengths: None,
//!     samples: None,
//!     gallery: None,
//! };
//! assert!(render_report(&input).contains("<svg"));
//! ```
//!
//! This crate must not know sessions, models or devices.

pub mod alarm;
pub mod card;
pub mod charts;
mod error;
mod history;
mod lengths;
mod live_page;
pub mod metrics;
mod numbers;
mod page;
mod pictures;
pub mod provenance;
mod rounding;
mod run_files;
mod run_info;
mod samples;
pub mod stats;
pub mod tensorboard;
pub mod trackers;
mod verdict;
mod write;

pub use alarm::ChosenAlarm;
pub use card::{CardInput, license_of, render_card};
pub use error::ReportError;
pub use history::History;
pub use lengths::{LengthSample, LengthSampler};
pub use live_page::LivePage;
pub use metrics::{GroupFigures, GroupOutcome, MetricsReader, MetricsRow, MetricsWriter, StepMetrics, read_metrics};
pub use numbers::number;
pub use page::{
    Chart, ChartLine, PreviewedGroup, PreviewedResponse, ReportInput, Sheet, live_page, preview_page, render_report,
};
pub use pictures::{Gallery, Picture, PictureFile, PictureList};
pub use rounding::Rounding;
pub use run_files::{RunFiles, has_resolved_recipe, read_results};
pub use run_info::{RunInfo, utc_now};
pub use samples::{Sample, Samples};
pub use tensorboard::EventWriter;
pub use verdict::{Judge, RunFacts, Verdict};
pub use write::{write_comparison, write_events, write_report, write_report_from};
