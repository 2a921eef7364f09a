//! Lines of figures over steps.

use crate::charts::{Figure, Marks, Series};

/// A chart of figures over steps.
pub(super) fn line_figure(title: &str, about: &str, unit: &str, marks: Marks, series: Vec<Series>) -> Figure {
    let across = if marks == Marks::LinesOverLogSteps { "step (logarithmic)" } else { "step" };
    let axes = [across.to_owned(), unit.to_owned()];
    Figure { title: title.to_owned(), about: about.to_owned(), axes, marks, series }
}
