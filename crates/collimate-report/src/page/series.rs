//! Lines of figures over steps.

use crate::charts::{Figure, Marks, Series};
use crate::metrics::MetricsRow;

/// A chart of figures over steps.
pub(super) fn line_figure(title: &str, about: &str, series: Vec<Series>) -> Figure {
    Figure { title: title.to_owned(), about: about.to_owned(), marks: Marks::Lines, series }
}

/// The line of one name, or of every rank if it ends in `*`.
pub(super) fn series_named(rows: &[MetricsRow], pattern: &str) -> Vec<Series> {
    let names: Vec<String> = match pattern.strip_suffix('*') {
        None => vec![pattern.to_owned()],
        Some(stem) => {
            let has = |name: &String| rows.iter().any(|row| row.get(name).is_some());
            (0..).map(|rank| format!("{stem}{rank}")).take_while(has).collect()
        }
    };
    let line = |name: String| {
        let points = rows.iter().filter_map(|row| Some((row.get("step")?, row.get(&name)?))).collect();
        Series { name, points }
    };
    names.into_iter().map(line).filter(|series: &Series| !series.points.is_empty()).collect()
}
