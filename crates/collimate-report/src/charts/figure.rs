//! The report's figures: HTML with inline SVG, styled by the page. Their data stands beside the drawing, for the page's script
//! to show under the pointer.

use std::fmt::Write;

use super::axis::{Axis, Span};
use super::series::Series;
use super::svg::escape;
use crate::numbers::number;

const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 270.0;
const LEFT: f64 = 84.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 48.0;

/// How a figure draws its series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Marks {
    /// A line over steps.
    Lines,
    /// A line over steps, on a logarithmic axis: short and long runs are both legible.
    LinesOverLogSteps,
    /// A line over any quantity, with a dot at each of its points.
    Curves,
    /// A dot for each pair.
    Dots,
}

/// A figure with its heading, an explanation, and its data.
#[derive(Debug, Clone)]
pub(crate) struct Figure {
    pub(crate) title: String,
    pub(crate) about: String,
    /// Labels of the horizontal and the vertical axis.
    pub(crate) axes: [String; 2],
    pub(crate) marks: Marks,
    pub(crate) series: Vec<Series>,
}

impl Figure {
    /// The figure as HTML; `None` if no series has a point.
    pub(crate) fn render(&self) -> Option<String> {
        let is_lines = self.marks != Marks::Dots;
        let points = || self.series.iter().flat_map(Series::all_points);
        points().next()?;
        let across = Span { from: LEFT, to: WIDTH - RIGHT };
        let xs = self.series.iter().filter_map(Series::across).flat_map(|(low, high)| [low, high]);
        let x = match self.marks {
            Marks::Lines => Axis::whole(xs, across),
            Marks::LinesOverLogSteps => Axis::log_from_zero(xs, across),
            Marks::Curves => Axis::linear(xs, across),
            Marks::Dots => Axis::linear(xs, across).with_margin(),
        };
        let y = Axis::linear(points().map(|point| point.1), Span { from: HEIGHT - BOTTOM, to: TOP }).with_margin();
        let mut svg =
            format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">", escape(&self.title));
        self.write_axes(&mut svg, &x, &y);
        for series in &self.series {
            match is_lines {
                true => series.write_lines(&mut svg, &x, &y),
                false => series.write_dots(&mut svg, &x, &y),
            }
        }
        let _ = write!(svg, "<line class=\"rule\" y1=\"{TOP}\" y2=\"{}\"/></svg>", HEIGHT - BOTTOM);
        Some(format!(
            "<figure data-x=\"{}\"><h3>{}</h3><p class=\"about\">{}</p>{svg}<figcaption>{}</figcaption></figure>",
            escape(&self.axes[0]),
            escape(&self.title),
            escape(&self.about),
            self.legend(is_lines)
        ))
    }

    fn write_axes(&self, svg: &mut String, x: &Axis, y: &Axis) {
        let (right, floor) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        svg.push_str("<g class=\"grid\">");
        for value in y.marks() {
            let at = y.position(value);
            let _ = write!(svg, "<line x1=\"{LEFT}\" x2=\"{right}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>");
            let label = y.label(value);
            let _ = write!(svg, "<text x=\"{}\" y=\"{:.1}\" class=\"end\">{label}</text>", LEFT - 7.0, at + 4.0);
        }
        let _ = write!(svg, "<line class=\"floor\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{floor}\" y2=\"{floor}\"/>");
        for value in x.marks() {
            let (at, label) = (x.position(value), x.label(value));
            let _ = write!(
                svg,
                "<line class=\"floor\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{floor}\" y2=\"{}\"/>",
                floor + 4.0
            );
            let _ = write!(svg, "<text x=\"{at:.1}\" y=\"{}\" class=\"middle\">{label}</text>", floor + 18.0);
        }
        let _ = write!(
            svg,
            "<text x=\"{:.1}\" y=\"{}\" class=\"middle axis\">{}</text>\
             <text transform=\"translate(12 {:.1}) rotate(-90)\" class=\"middle axis\">{}</text></g>",
            (LEFT + right) / 2.0,
            HEIGHT - 9.0,
            escape(&self.axes[0]),
            (TOP + floor) / 2.0,
            escape(&self.axes[1])
        );
    }

    /// The legend; lines are named with their last value.
    fn legend(&self, is_lines: bool) -> String {
        let mut html = String::new();
        for series in &self.series {
            let Some(last) = series.last() else { continue };
            let (class, name) = (series.classes(), escape(&series.name));
            let last = if is_lines { format!(" <b>{}</b>", number(last)) } else { String::new() };
            let _ = write!(html, "<span class=\"{class}\"><i class=\"key\"></i><span>{name}{last}</span></span> ");
        }
        html
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(marks: Marks, series: Vec<Series>) -> String {
        let axes = ["step".to_owned(), "nats".to_owned()];
        Figure { title: "t".to_owned(), about: "a".to_owned(), axes, marks, series }.render().expect("a figure")
    }

    #[test]
    fn every_dot_is_drawn_inside_the_figure() {
        let points: Vec<_> = (0..900).map(|i| (f64::from(i % 30) * 1e3, f64::from(i / 30) - 10.0)).collect();
        let html = figure(Marks::Dots, vec![Series::dots("n", 0, points)]);
        assert_eq!(html.matches("<circle").count(), 900);
        let positions =
            html.split("cx=\"").skip(1).map(|rest| rest.split('"').next().and_then(|x| x.parse::<f64>().ok()));
        assert!(positions.into_iter().all(|x| x.is_some_and(|x| (LEFT..=WIDTH - RIGHT).contains(&x))));
    }

    #[test]
    fn constant_and_single_points_are_drawn() {
        for points in [vec![(1.0, 0.0), (2.0, 0.0)], vec![(1.0, -5.0)]] {
            for marks in [Marks::Lines, Marks::LinesOverLogSteps] {
                let html = figure(marks, vec![Series::line("n", 0, points.clone())]);
                assert!(!html.contains("NaN") && !html.contains("inf"), "{html}");
            }
        }
    }

    #[test]
    fn axes_are_named_and_smoothed_lines_have_their_raw_one_behind() {
        let noisy: Vec<_> = (1..=100).map(|i| (f64::from(i), f64::from(i % 2))).collect();
        let html = figure(Marks::Lines, vec![Series::smoothed_line("n", 0, noisy.clone())]);
        assert!(html.contains(">step</text>") && html.contains(">nats</text>"), "{html}");
        let (raw, line) =
            (html.find("class=\"raw\"").expect("a raw line"), html.find("class=\"line\"").expect("a line"));
        assert!(raw < line, "{html}");
        assert!(!figure(Marks::Lines, vec![Series::line("n", 0, noisy)]).contains("class=\"raw\""));
    }
}
