//! The training loop, optimizer, reference cache, checkpoints, metrics and report.

pub mod card;
pub mod error;
pub mod metrics;
pub mod progress;
pub mod recipe;
pub mod report;
pub mod schedule;

pub use error::TrainError;
pub use metrics::{GroupOutcome, MetricsRow, MetricsWriter, StepMetrics};
pub use progress::Observer;
pub use recipe::{Recipe, RecipeError};
pub use schedule::{Schedule, ScheduleKind};
