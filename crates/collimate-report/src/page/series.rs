//! Lines of figures over steps.

use crate::charts::{Figure, Marks, Series};
use crate::metrics::MetricsRow;

/// A chart of figures over steps.
pub(super) fn line_figure(title: &str, about: &str, unit: &str, marks: Marks, series: Vec<Series>) -> Figure {
    let across = if marks == Marks::LinesOverLogSteps { "step (logarithmic)" } else { "step" };
    let axes = [across.to_owned(), unit.to_owned()];
    Figure { title: title.to_owned(), about: about.to_owned(), axes, marks, series }
}

/// The points of one figure over steps.
pub(super) fn points(rows: &[MetricsRow], name: &str) -> Vec<(f64, f64)> {
    rows.iter().filter_map(|row| Some((row.get("step")?, row.get(name)?))).collect()
}

/// How many ranks the rows of a figure `STEM/rank_K` have.
pub(super) fn num_ranks(rows: &[MetricsRow], stem: &str) -> usize {
    (0..).take_while(|rank| rows.iter().any(|row| row.get(&format!("{stem}{rank}")).is_some())).count()
}
