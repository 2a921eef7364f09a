//! Lines, or dots over categories, with error bars.

use std::fmt::Write;

use super::axis::{Axis, Span};
use super::svg::{WIDTH, begin, escape};

const HEIGHT: f64 = 320.0;
const LEFT: f64 = 66.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 46.0;
/// Room for the legend on the right.
const RIGHT: f64 = 168.0;
/// Lines with more points are drawn without dots, and with a band instead of error bars.
const MOST_DOTS: usize = 24;

/// A point with its error, as a standard error.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// Horizontal value.
    pub x: f64,
    /// Vertical value.
    pub y: f64,
    /// Drawn above and below y; zero for none.
    pub error: f64,
}

/// One line and its name.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// Name in the legend.
    pub name: String,
    /// Index of one of eight colors.
    pub color: usize,
    /// Whether the line is dashed.
    pub dashed: bool,
    /// Whether only dots are drawn.
    pub dots_only: bool,
    /// Points by increasing x.
    pub points: Vec<Point>,
}

impl Line {
    /// A plain line.
    pub fn new(name: &str, color: usize, points: Vec<Point>) -> Self {
        Self { name: name.to_owned(), color: color % 8, dashed: false, dots_only: false, points }
    }
}

/// A chart of lines.
#[derive(Debug, Clone, Default)]
pub struct LineChart {
    /// Heading.
    pub title: String,
    /// Label of the horizontal axis.
    pub x: String,
    /// Label of the vertical axis.
    pub y: String,
    /// Whether the horizontal axis is logarithmic.
    pub log_x: bool,
    /// Whether the vertical axis is logarithmic.
    pub log_y: bool,
    /// Names of the values 0, 1, 2, … of x, if these are categories.
    pub categories: Vec<String>,
    /// Lines.
    pub lines: Vec<Line>,
}

impl LineChart {
    /// The chart as an SVG file.
    pub fn svg(&self) -> String {
        let mut svg = begin(HEIGHT, &self.title);
        let points = || self.lines.iter().flat_map(|line| &line.points);
        let across = Span { from: LEFT, to: WIDTH - RIGHT };
        let up = Span { from: HEIGHT - BOTTOM, to: TOP };
        let x = match (self.categories.len(), self.log_x) {
            (0, true) => Axis::log(points().map(|p| p.x), across),
            (0, false) => Axis::linear(points().map(|p| p.x), across),
            (count, _) => Axis::linear([-0.5, count as f64 - 0.5].into_iter(), across),
        };
        let heights = points().flat_map(|p| [p.y - p.error, p.y + p.error]);
        let y = match self.log_y {
            true => Axis::log(heights.filter(|y| *y > 0.0), up),
            false => Axis::linear(heights, up),
        };
        let y = y.with_margin();
        self.write_grid(&mut svg, &x, &y);
        for line in &self.lines {
            line.write(&mut svg, &x, &y);
        }
        self.write_legend(&mut svg);
        svg + "</svg>\n"
    }

    fn write_grid(&self, svg: &mut String, x: &Axis, y: &Axis) {
        let (right, floor) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        for mark in y.marks() {
            let at = y.position(mark);
            let _ = writeln!(
                svg,
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                LEFT - 6.0,
                at + 4.0,
                y.label(mark)
            );
        }
        let named = self.categories.iter().enumerate().map(|(index, name)| (index as f64, escape(name)));
        let marks: Vec<(f64, String)> = match self.categories.is_empty() {
            true => x.marks().into_iter().map(|mark| (mark, x.label(mark))).collect(),
            false => named.collect(),
        };
        for (mark, text) in marks {
            let at = x.position(mark);
            let _ = writeln!(svg, "<text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{text}</text>", floor + 16.0);
        }
        let _ = writeln!(
            svg,
            "<rect class=\"frame\" x=\"{LEFT}\" y=\"{TOP}\" width=\"{:.1}\" height=\"{:.1}\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\
             <text transform=\"translate(13 {:.1}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
            right - LEFT,
            floor - TOP,
            (LEFT + right) / 2.0,
            HEIGHT - 10.0,
            escape(&self.x),
            (TOP + floor) / 2.0,
            escape(&self.y)
        );
    }

    fn write_legend(&self, svg: &mut String) {
        for (index, line) in self.lines.iter().enumerate() {
            let (at, height) = (WIDTH - RIGHT + 12.0, TOP + 12.0 + 18.0 * index as f64);
            let (end, middle) = (at + 20.0, height - 4.0);
            let key = match (line.dots_only, line.dashed) {
                (true, _) => format!("<circle class=\"dot\" cx=\"{:.1}\" cy=\"{middle:.1}\" r=\"3\"/>", at + 10.0),
                (false, dashed) => {
                    let dash = if dashed { " dash" } else { "" };
                    format!(
                        "<line class=\"line{dash}\" x1=\"{at}\" x2=\"{end}\" y1=\"{middle:.1}\" y2=\"{middle:.1}\"/>"
                    )
                }
            };
            let (color, name) = (line.color, escape(&line.name));
            let _ = writeln!(
                svg,
                "<g class=\"s{color}\">{key}</g><text x=\"{:.1}\" y=\"{height:.1}\">{name}</text>",
                at + 26.0
            );
        }
    }
}

impl Line {
    fn write(&self, svg: &mut String, x: &Axis, y: &Axis) {
        let positions: Vec<(f64, f64)> = self.points.iter().map(|p| (x.position(p.x), y.position(p.y))).collect();
        let _ = writeln!(svg, "<g class=\"s{}\"><title>{}</title>", self.color, escape(&self.name));
        let many = self.points.len() > MOST_DOTS;
        if many {
            let up = self.points.iter().map(|p| (x.position(p.x), y.position(p.y + p.error)));
            let down = self.points.iter().rev().map(|p| (x.position(p.x), y.position(p.y - p.error)));
            let _ = writeln!(svg, "<polygon class=\"band\" points=\"{}\"/>", joined(up.chain(down)));
        }
        if !self.dots_only && positions.len() > 1 {
            let dash = if self.dashed { " dash" } else { "" };
            let points = joined(positions.iter().copied());
            let _ = writeln!(svg, "<polyline class=\"line{dash}\" points=\"{points}\"/>");
        }
        if !many {
            for (point, (px, py)) in self.points.iter().zip(&positions) {
                let (top, end) = (y.position(point.y + point.error), y.position(point.y - point.error));
                let _ = writeln!(
                    svg,
                    "<line class=\"bar\" x1=\"{px:.1}\" x2=\"{px:.1}\" y1=\"{top:.1}\" y2=\"{end:.1}\"/>\
                     <circle class=\"dot\" cx=\"{px:.1}\" cy=\"{py:.1}\" r=\"3\"/>"
                );
            }
        }
        svg.push_str("</g>\n");
    }
}

fn joined(points: impl Iterator<Item = (f64, f64)>) -> String {
    points.fold(String::new(), |mut text, (x, y)| {
        let _ = write!(text, "{x:.1},{y:.1} ");
        text
    })
}
