//! HTML pages: a run on one page, and several runs compared. A page is one file that fetches nothing.

mod answers;
mod clock;
pub(crate) mod comparison;
mod head;
mod html;
mod live;
mod names;
mod pictures;
mod preview;
mod run;
mod series;
mod sheet;
#[cfg(test)]
mod tests;
mod throughput;

pub use live::live_page;
pub use preview::{PreviewedGroup, PreviewedResponse, preview_page};
use serde_json::Value;
pub use sheet::{Chart, ChartLine, Sheet};

use crate::history::History;
use crate::lengths::LengthSample;
use crate::pictures::Gallery;
use crate::run_info::RunInfo;
use crate::samples::Samples;

/// What the page of a run shows.
#[derive(Debug, Clone, Copy)]
pub struct ReportInput<'a> {
    /// Heading of the page.
    pub title: &'a str,
    /// What `metrics.jsonl` tells of steps and evaluations.
    pub history: &'a History,
    /// The resolved recipe.
    pub recipe_yaml: &'a str,
    /// Results beyond the metrics: an object whose entries are figures or `{"before", "after"}`.
    pub results: Option<&'a Value>,
    /// What the run is, if its folder says.
    pub info: Option<&'a RunInfo>,
    /// Lengths and rewards of a sample of responses.
    pub lengths: Option<&'a LengthSample>,
    /// Answers before and after training.
    pub samples: Option<&'a Samples>,
    /// Pictures of the run.
    pub gallery: Option<&'a Gallery>,
}

/// The page of a run as HTML.
pub fn render_report(input: &ReportInput<'_>) -> String {
    run::render(input)
}
