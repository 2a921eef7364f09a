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
    /// Pairs (x, y), all finite; in lines by increasing x, and at most [`MAX_POINTS`].
    points: Vec<(f64, f64)>,
    /// The same, smoothed; empty if they are drawn as they are.
    smooth: Vec<(f64, f64)>,
    /// The smallest and the largest x, before points were averaged, so that an axis reaches the first and the last step.
    across: Option<(f64, f64)>,
    /// The last y of the line to read, before points were averaged.
    last: Option<f64>,
    /// Whether x is a step, and so a whole number.
    is_whole: bool,
}

impl Series {
    /// A cloud of dots.
    pub(crate) fn dots(name: &str, color: usize, points: Vec<(f64, f64)>) -> Self {
        let grow =
            |ends: Option<(f64, f64)>, x: f64| Some(ends.map_or((x, x), |(low, high)| (low.min(x), high.max(x))));
        let across = points.iter().map(|point| point.0).fold(None, grow);
        let last = points.last().map(|point| point.1);
        Self { name: name.to_owned(), color, points, smooth: Vec::new(), across, last, is_whole: true }
    }

    /// A line over another quantity than steps, with few points.
    pub(crate) fn curve(name: &str, color: usize, points: Vec<(f64, f64)>) -> Self {
        Self { is_whole: false, ..Self::dots(name, color, points) }
    }

    /// A line. Only what is drawn of it is kept.
    pub(crate) fn line(name: &str, color: usize, points: Vec<(f64, f64)>) -> Self {
        let all = Self::dots(name, color, points);
        Self { points: thinned(&all.points), ..all }
    }

    /// A line with a smoothed one before it, if it is long enough.
    pub(crate) fn smoothed_line(name: &str, color: usize, points: Vec<(f64, f64)>) -> Self {
        if points.len() < LEAST_SMOOTHED {
            return Self::line(name, color, points);
        }
        let smooth = window_means(&points, (points.len() / WINDOW_SHARE).max(5) / 2);
        let last = smooth.last().map(|point| point.1);
        Self { smooth: thinned(&smooth), last, ..Self::line(name, color, points) }
    }

    fn is_smoothed(&self) -> bool {
        !self.smooth.is_empty()
    }

    /// The points of the line to read.
    fn smooth_points(&self) -> &[(f64, f64)] {
        if self.is_smoothed() { &self.smooth } else { &self.points }
    }

    /// The smallest and the largest x; `None` without points.
    pub(super) fn across(&self) -> Option<(f64, f64)> {
        self.across
    }

    /// The last y of the line to read; `None` without points.
    pub(super) fn last(&self) -> Option<f64> {
        self.last
    }

    pub(super) fn all_points(&self) -> impl Iterator<Item = (f64, f64)> {
        self.points.iter().chain(&self.smooth).copied()
    }

    /// The classes of its color and dashes.
    pub(super) fn classes(&self) -> String {
        let dashed = if self.color % COLORS < PLAIN_COLORS { "" } else { " dashed" };
        format!("s{}{dashed}", self.color % COLORS)
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
        let xs = joined(&mut points.iter().map(|point| if self.is_whole { point.0.round() } else { point.0 }));
        let ys = joined(&mut points.iter().map(|point| point.1));
        let _ = write!(svg, "<g class=\"series {class}\" data-name=\"{name}\" data-x=\"{xs}\" data-y=\"{ys}\"");
        if self.is_smoothed() {
            let _ = write!(svg, " data-raw=\"{}\"", joined(&mut self.points.iter().map(|point| point.1)));
        }
        svg.push('>');
    }
}

/// At most [`MAX_POINTS`] points: means of runs of equal length.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let average = |points: &[(f64, f64)]| {
        let count = points.len() as f64;
        (points.iter().map(|p| p.0).sum::<f64>() / count, points.iter().map(|p| p.1).sum::<f64>() / count)
    };
    points.chunks(points.len().div_ceil(MAX_POINTS).max(1)).map(average).collect()
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
        let line =
            |count: u32| Series::smoothed_line("n", 5, (0..count).map(|x| (f64::from(x), f64::from(x))).collect());
        assert!(!line(19).is_smoothed() && line(20).is_smoothed());
        let long = line(10_000);
        assert!(long.points.len() <= MAX_POINTS && long.smooth.len() == long.points.len());
        assert!(long.points.capacity() <= MAX_POINTS && long.smooth.capacity() <= MAX_POINTS);
        // The ends are those of the whole line: the last window has 201 points.
        assert_eq!((long.across(), long.last()), (Some((0.0, 9999.0)), Some(9899.0)));
        assert_eq!((line(3).classes(), Series::line("n", 9, Vec::new()).classes()), ("s5 dashed".into(), "s1".into()));
    }
}
