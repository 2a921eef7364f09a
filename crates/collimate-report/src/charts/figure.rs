//! The report's figures: HTML with inline SVG, styled by the page.

use std::fmt::Write;

use super::axis::{Axis, Span};
use super::svg::escape;
use crate::numbers::{mark_label, number};

const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 240.0;
const LEFT: f64 = 58.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 26.0;

/// Maximum points per line; more are averaged over runs of equal length.
const MAX_POINTS: usize = 400;

/// Number of colours in the style sheet.
const COLOURS: usize = 8;

/// One line or cloud of dots.
#[derive(Debug, Clone)]
pub(crate) struct Series {
    pub(crate) name: String,
    /// Pairs (x, y), all finite; in lines by increasing x.
    pub(crate) points: Vec<(f64, f64)>,
}

/// How a figure draws its series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Marks {
    /// A line over steps.
    Lines,
    /// A dot for each pair.
    Dots,
}

/// A figure with its heading, an explanation, and its data.
#[derive(Debug, Clone)]
pub(crate) struct Figure {
    pub(crate) title: String,
    pub(crate) about: String,
    pub(crate) marks: Marks,
    pub(crate) series: Vec<Series>,
}

impl Figure {
    /// The figure as HTML; `None` if no series has a point.
    pub(crate) fn render(&self) -> Option<String> {
        let series: Vec<Series> = match self.marks {
            Marks::Lines => self.series.iter().map(Series::thinned).collect(),
            Marks::Dots => self.series.clone(),
        };
        let points = || series.iter().flat_map(|series| series.points.iter().copied());
        points().next()?;
        let across = Span { from: LEFT, to: WIDTH - RIGHT };
        let x = match self.marks {
            Marks::Lines => Axis::whole(points().map(|point| point.0), across),
            Marks::Dots => Axis::linear(points().map(|point| point.0), across).with_margin(),
        };
        let y = Axis::linear(points().map(|point| point.1), Span { from: HEIGHT - BOTTOM, to: TOP }).with_margin();
        let mut svg = format!(
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\"><g class=\"grid\">",
            escape(&self.title)
        );
        write_rows(&mut svg, &y);
        write_columns(&mut svg, &x);
        svg.push_str("</g>");
        for (index, series) in series.iter().enumerate() {
            match self.marks {
                Marks::Lines => series.write_line(&mut svg, index, &x, &y),
                Marks::Dots => series.write_dots(&mut svg, index, &x, &y),
            }
        }
        svg.push_str("</svg>");
        Some(format!(
            "<figure><h3>{}</h3><p class=\"about\">{}</p>{svg}<figcaption>{}</figcaption></figure>",
            escape(&self.title),
            escape(&self.about),
            legend(&self.series, self.marks)
        ))
    }
}

impl Series {
    /// The line with at most [`MAX_POINTS`] points.
    fn thinned(&self) -> Self {
        let run = self.points.len().div_ceil(MAX_POINTS).max(1);
        let average = |points: &[(f64, f64)]| {
            let count = points.len() as f64;
            (points.iter().map(|p| p.0).sum::<f64>() / count, points.iter().map(|p| p.1).sum::<f64>() / count)
        };
        Self { name: self.name.clone(), points: self.points.chunks(run).map(average).collect() }
    }

    fn write_dots(&self, svg: &mut String, index: usize, x: &Axis, y: &Axis) {
        let _ = write!(svg, "<g class=\"dots s{}\">", index % COLOURS);
        for &(across, up) in &self.points {
            let (cx, cy) = (x.position(across), y.position(up));
            let _ = write!(svg, "<circle cx=\"{cx:.1}\" cy=\"{cy:.1}\" r=\"2.5\"/>");
        }
        svg.push_str("</g>");
    }

    fn write_line(&self, svg: &mut String, index: usize, x: &Axis, y: &Axis) {
        let position = |&(step, figure): &(f64, f64)| (x.position(step), y.position(figure));
        let class = index % COLOURS;
        if let [only] = self.points.as_slice() {
            let (cx, cy) = position(only);
            let _ = write!(svg, "<circle class=\"dot s{class}\" cx=\"{cx:.1}\" cy=\"{cy:.1}\" r=\"3\"/>");
            return;
        }
        let _ = write!(svg, "<polyline class=\"line s{class}\" points=\"");
        for point in &self.points {
            let (px, py) = position(point);
            let _ = write!(svg, "{px:.1},{py:.1} ");
        }
        let _ = write!(svg, "\"><title>{}</title></polyline>", escape(&self.name));
    }
}

/// The legend; lines are named with their last value.
fn legend(series: &[Series], marks: Marks) -> String {
    let mut html = String::new();
    for (index, series) in series.iter().enumerate() {
        let Some(last) = series.points.last() else { continue };
        let (class, name) = (index % COLOURS, escape(&series.name));
        let last = if marks == Marks::Lines { format!(" <b>{}</b>", number(last.1)) } else { String::new() };
        let _ = write!(html, "<span><i class=\"key s{class}\"></i>{name}{last}</span> ");
    }
    html
}

fn write_rows(svg: &mut String, axis: &Axis) {
    let (left, right) = (LEFT - 6.0, WIDTH - RIGHT);
    for value in axis.marks() {
        let y = axis.position(value);
        let _ = write!(svg, "<line x1=\"{LEFT}\" x2=\"{right}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>");
        let _ = write!(svg, "<text x=\"{left}\" y=\"{:.1}\" class=\"end\">{}</text>", y + 4.0, mark_label(value));
    }
}

fn write_columns(svg: &mut String, axis: &Axis) {
    for value in axis.marks() {
        let (x, y) = (axis.position(value), HEIGHT - 6.0);
        let _ = write!(svg, "<text x=\"{x:.1}\" y=\"{y}\" class=\"middle\">{}</text>", mark_label(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_dot_is_drawn_inside_the_figure() {
        let points: Vec<_> = (0..900).map(|i| (f64::from(i % 30) * 1e3, f64::from(i / 30) - 10.0)).collect();
        let series = vec![Series { name: "n".to_owned(), points }];
        let figure = Figure { title: "t".to_owned(), about: "a".to_owned(), marks: Marks::Dots, series };
        let html = figure.render().expect("a figure");
        assert_eq!(html.matches("<circle").count(), 900);
        let positions =
            html.split("cx=\"").skip(1).map(|rest| rest.split('"').next().and_then(|x| x.parse::<f64>().ok()));
        assert!(positions.into_iter().all(|x| x.is_some_and(|x| (LEFT..=WIDTH - RIGHT).contains(&x))));
    }

    #[test]
    fn constant_and_single_points_are_drawn() {
        for points in [vec![(1.0, 0.0), (2.0, 0.0)], vec![(1.0, -5.0)]] {
            let series = vec![Series { name: "n".to_owned(), points }];
            let figure = Figure { title: "t".to_owned(), about: "a".to_owned(), marks: Marks::Lines, series };
            let html = figure.render().expect("a figure");
            assert!(!html.contains("NaN") && !html.contains("inf"), "{html}");
        }
    }
}
