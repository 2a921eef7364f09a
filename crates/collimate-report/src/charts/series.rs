//! One line or cloud of dots of a report's figure.

use std::fmt::Write;

use super::axis::Axis;
use super::svg::escape;
use crate::numbers::number;

/// Maximum points per line; more are averaged over runs of equal length.
const MAX_POINTS: usize = 240;

/// Number of colors in the style sheet.
const COLORS: usize = 8;

/// Colors that need no dashes to be told apart.
const PLAIN_COLORS: usize = 4;

/// A line with fewer points is drawn as it is.
const LEAST_SMOOTHED: usize = 20;

/// A smoothed point is the mean of a window of this share of the line, and of at least five points.
const WINDOW_SHARE: usize = 25;

/// A line with at most so many points has a dot at each.
const MOST_DOTTED: usize = 30;

/// One line or cloud of dots.
#[derive(Debug, Clone)]
pub(crate) struct Series {
    pub(crate) name: String,
    /// Index of its color.
    color: usize,
    /// Pairs (x, y), all finite; in lines by increasing x.
    points: Vec<(f64, f64)>,
    /// The same, smoothed; empty if they are drawn as they are.
    smooth: Vec<(f64, f64)>,
}

impl Series {
    pub(crate) fn new(name: &str, color: usize, points: Vec<(f64, f64)>) -> Self {
        Self { name: name.to_owned(), color, points, smooth: Vec::new() }
    }

    /// The line with a smoothed one before it, if it is long enough.
    pub(crate) fn smoothed(mut self) -> Self {
        if self.points.len() >= LEAST_SMOOTHED {
            self.smooth = window_means(&self.points, (self.points.len() / WINDOW_SHARE).max(5) / 2);
        }
        self
    }

    fn is_smoothed(&self) -> bool {
        !self.smooth.is_empty()
    }

    /// The points of the line to read.
    pub(super) fn smooth_points(&self) -> &[(f64, f64)] {
        if self.is_smoothed() { &self.smooth } else { &self.points }
    }

    pub(super) fn all_points(&self) -> impl Iterator<Item = (f64, f64)> {
        self.points.iter().chain(&self.smooth).copied()
    }

    /// The classes of its color and dashes.
    pub(super) fn classes(&self) -> String {
        let dashed = if self.color % COLORS < PLAIN_COLORS { "" } else { " dashed" };
        format!("s{}{dashed}", self.color % COLORS)
    }

    /// The line with at most [`MAX_POINTS`] points.
    pub(super) fn thinned(&self) -> Self {
        let run = self.points.len().div_ceil(MAX_POINTS).max(1);
        let average = |points: &[(f64, f64)]| {
            let count = points.len() as f64;
            (points.iter().map(|p| p.0).sum::<f64>() / count, points.iter().map(|p| p.1).sum::<f64>() / count)
        };
        let thin = |points: &[(f64, f64)]| points.chunks(run).map(average).collect();
        Self { name: self.name.clone(), color: self.color, points: thin(&self.points), smooth: thin(&self.smooth) }
    }

    pub(super) fn write_dots(&self, svg: &mut String, x: &Axis, y: &Axis) {
        self.open(svg, &self.points);
        for &(across, up) in &self.points {
            let (cx, cy) = (x.position(across), y.position(up));
            let _ = write!(svg, "<circle class=\"cloud\" cx=\"{cx:.1}\" cy=\"{cy:.1}\" r=\"2.5\"/>");
        }
        svg.push_str("</g>");
    }

    pub(super) fn write_lines(&self, svg: &mut String, x: &Axis, y: &Axis) {
        let position = |&(step, figure): &(f64, f64)| (x.position(step), y.position(figure));
        self.open(svg, self.smooth_points());
        let polyline = |svg: &mut String, class: &str, points: &[(f64, f64)]| {
            let _ = write!(svg, "<polyline class=\"{class}\" points=\"");
            points.iter().map(position).for_each(|(px, py)| {
                let _ = write!(svg, "{px:.1},{py:.1} ");
            });
            svg.push_str("\"/>");
        };
        if self.is_smoothed() {
            polyline(svg, "raw", &self.points);
        }
        polyline(svg, "line", self.smooth_points());
        if self.points.len() <= MOST_DOTTED && !self.is_smoothed() {
            for (cx, cy) in self.points.iter().map(position) {
                let _ = write!(svg, "<circle class=\"dot\" cx=\"{cx:.1}\" cy=\"{cy:.1}\" r=\"2.6\"/>");
            }
        }
        svg.push_str("</g>");
    }

    /// Opens the group of the drawing, with the values to show under the pointer.
    fn open(&self, svg: &mut String, points: &[(f64, f64)]) {
        let (class, name) = (self.classes(), escape(&self.name));
        let joined = |values: &mut dyn Iterator<Item = f64>| values.map(number).collect::<Vec<_>>().join(" ");
        // Steps are whole; a point of a thinned line is named by the one nearest to its middle.
        let xs = joined(&mut points.iter().map(|point| point.0.round()));
        let ys = joined(&mut points.iter().map(|point| point.1));
        let _ = write!(svg, "<g class=\"series {class}\" data-name=\"{name}\" data-x=\"{xs}\" data-y=\"{ys}\"");
        if self.is_smoothed() {
            let _ = write!(svg, " data-raw=\"{}\"", joined(&mut self.points.iter().map(|point| point.1)));
        }
        svg.push('>');
    }
}

/// Each point with the mean of `half` neighbors on either side, fewer at the ends.
fn window_means(points: &[(f64, f64)], half: usize) -> Vec<(f64, f64)> {
    let mut sums = vec![0.0];
    points.iter().for_each(|point| sums.push(sums[sums.len() - 1] + point.1));
    let mean = |(index, point): (usize, &(f64, f64))| {
        let (from, to) = (index.saturating_sub(half), (index + half + 1).min(points.len()));
        (point.0, (sums[to] - sums[from]) / (to - from) as f64)
    };
    points.iter().enumerate().map(mean).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smoothing_is_the_mean_of_neighbors() {
        let points: Vec<_> = [6.0, 0.0, 3.0, 3.0].into_iter().enumerate().map(|(x, y)| (x as f64, y)).collect();
        assert_eq!(window_means(&points, 1), [(0.0, 3.0), (1.0, 3.0), (2.0, 2.0), (3.0, 3.0)]);
    }

    #[test]
    fn short_lines_stay_as_they_are_and_long_ones_are_thinned() {
        let line = |count: u32| Series::new("n", 5, (0..count).map(|x| (f64::from(x), 1.0)).collect()).smoothed();
        assert!(!line(19).is_smoothed() && line(20).is_smoothed());
        let thinned = line(10_000).thinned();
        assert!(thinned.points.len() <= MAX_POINTS && thinned.smooth.len() == thinned.points.len());
        assert_eq!((line(3).classes(), Series::new("n", 9, Vec::new()).classes()), ("s5 dashed".into(), "s1".into()));
    }
}
