//! Charts, for the report's pages and as SVG files for documentation, legible on light and dark pages.
//!
//! [`LineChart`], [`HeatMap`] and [`BarChart`] make files that carry their own style. The report's own figures are HTML with
//! inline SVG, styled by its page.

mod axis;
mod bar_chart;
mod figure;
mod heat_map;
mod line_chart;
mod series;
mod svg;

pub use bar_chart::{Bar, BarChart};
pub(crate) use figure::{Figure, Marks};
pub use heat_map::HeatMap;
pub use line_chart::{Line, LineChart, Point};
pub(crate) use series::Series;
pub(crate) use svg::{color_rules, escape};

#[cfg(test)]
mod tests {
    use super::*;

    /// Every element that is opened is closed, and no number is missing.
    fn assert_sound(svg: &str) {
        assert!(svg.starts_with("<svg ") && svg.trim_end().ends_with("</svg>"));
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        for name in ["g", "text", "style"] {
            let (open, close) = (format!("<{name}"), format!("</{name}>"));
            let opened = svg.matches(&format!("{open} ")).count() + svg.matches(&format!("{open}>")).count();
            assert_eq!(opened, svg.matches(&close).count(), "{name}");
        }
    }

    #[test]
    fn figures_are_whole_whatever_they_show() {
        let point = |x: f64, y: f64, error: f64| Point { x, y, error };
        let mut chart = LineChart {
            title: "a < b".to_owned(),
            x: "steps".to_owned(),
            y: "nats".to_owned(),
            lines: vec![Line::new("flat", 0, vec![point(1.0, 2.0, 0.0), point(2.0, 2.0, 0.0)])],
            ..LineChart::default()
        };
        assert_sound(&chart.svg());
        chart.lines.push(Line { dashed: true, ..Line::new("one", 1, vec![point(1.5, 2.5, 0.3)]) });
        chart.log_x = true;
        chart.log_y = true;
        assert_sound(&chart.svg());
        chart.categories = vec!["first".to_owned(), "second".to_owned()];
        assert_sound(&chart.svg());
        let map = HeatMap {
            title: "map".to_owned(),
            x: "β".to_owned(),
            y: "α".to_owned(),
            columns: vec!["0.1".to_owned(), "1".to_owned()],
            rows: vec!["0.3".to_owned()],
            values: vec![vec![0.5, 0.5]],
        };
        assert_sound(&map.svg());
    }
}
