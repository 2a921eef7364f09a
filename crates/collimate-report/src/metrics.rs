//! The figures of a run under TRL's names, and the file that holds them.

mod file;
mod groups;
mod read;
mod row;
mod step;
#[cfg(test)]
mod tests;

pub use file::MetricsWriter;
pub use groups::{CHOSEN_LOG_RATIO, GroupFigures, GroupOutcome, group_metrics};
pub use read::{MetricsReader, read_metrics};
pub use row::MetricsRow;
pub use step::{CLOCKED, StepMetrics, evaluation_row};
