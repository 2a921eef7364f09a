//! A line chart as inline SVG.

use std::fmt::Write;

use super::page::escape;

const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 240.0;
const LEFT: f64 = 58.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 26.0;

/// Most points that a line keeps; more are averaged in equal runs of steps.
const MOST_POINTS: usize = 400;

/// How many colours the style sheet has.
const COLOURS: usize = 8;

/// One line of a chart.
#[derive(Debug, Clone)]
pub(super) struct Series {
    pub(super) name: String,
    /// Step and figure, by rising step; every figure finite.
    pub(super) points: Vec<(f64, f64)>,
}

/// What a chart draws of its series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Marks {
    /// Figures by step.
    Lines,
    /// A dot a pair, both directions with any range.
    Dots,
}

/// A chart with its heading, what it tells, and its lines.
#[derive(Debug, Clone)]
pub(super) struct Chart {
    pub(super) title: String,
    pub(super) about: String,
    pub(super) marks: Marks,
    pub(super) series: Vec<Series>,
}

impl Chart {
    /// The chart as an HTML figure; nothing where no line has a point.
    pub(super) fn render(&self) -> Option<String> {
        let series: Vec<Series> = match self.marks {
            Marks::Lines => self.series.iter().map(Series::thinned).collect(),
            Marks::Dots => self.series.clone(),
        };
        let points = || series.iter().flat_map(|series| series.points.iter().copied());
        points().next()?;
        let x = match self.marks {
            Marks::Lines => Axis::steps(points().map(|point| point.0)),
            Marks::Dots => Axis::figures(points().map(|point| point.0)),
        };
        let y = Axis::figures(points().map(|point| point.1));
        let mut svg = format!(
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\"><g class=\"grid\">",
            escape(&self.title)
        );
        y.write_rows(&mut svg);
        x.write_columns(&mut svg);
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
    /// The same line with at most [`MOST_POINTS`] points.
    fn thinned(&self) -> Self {
        let run = self.points.len().div_ceil(MOST_POINTS).max(1);
        let average = |points: &[(f64, f64)]| {
            let count = points.len() as f64;
            (points.iter().map(|p| p.0).sum::<f64>() / count, points.iter().map(|p| p.1).sum::<f64>() / count)
        };
        Self { name: self.name.clone(), points: self.points.chunks(run).map(average).collect() }
    }

    fn write_dots(&self, svg: &mut String, index: usize, x: &Axis, y: &Axis) {
        let _ = write!(svg, "<g class=\"dots s{}\">", index % COLOURS);
        for &(across, up) in &self.points {
            let (cx, cy) = (x.place(across, LEFT, WIDTH - RIGHT), y.place_up(up));
            let _ = write!(svg, "<circle cx=\"{cx:.1}\" cy=\"{cy:.1}\" r=\"2.5\"/>");
        }
        svg.push_str("</g>");
    }

    fn write_line(&self, svg: &mut String, index: usize, x: &Axis, y: &Axis) {
        let place = |&(step, figure): &(f64, f64)| (x.place(step, LEFT, WIDTH - RIGHT), y.place_up(figure));
        let class = index % COLOURS;
        if let [only] = self.points.as_slice() {
            let (cx, cy) = place(only);
            let _ = write!(svg, "<circle class=\"dot s{class}\" cx=\"{cx:.1}\" cy=\"{cy:.1}\" r=\"3\"/>");
            return;
        }
        let _ = write!(svg, "<polyline class=\"line s{class}\" points=\"");
        for point in &self.points {
            let (px, py) = place(point);
            let _ = write!(svg, "{px:.1},{py:.1} ");
        }
        let _ = write!(svg, "\"><title>{}</title></polyline>", escape(&self.name));
    }
}

/// A key for each series; lines with their last figure.
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

/// The range of one direction, with round marks.
struct Axis {
    low: f64,
    high: f64,
    mark: f64,
}

impl Axis {
    fn steps(values: impl Iterator<Item = f64>) -> Self {
        let (low, high) = range(values);
        let high = if high > low { high } else { low + 1.0 };
        Self { low, high, mark: round_up((high - low) / 6.0).max(1.0) }
    }

    fn figures(values: impl Iterator<Item = f64>) -> Self {
        let (low, high) = range(values);
        // A constant line runs through the middle.
        let half = (high - low) / 2.0;
        let half = if half > f64::EPSILON * high.abs() { half * 1.08 } else { high.abs().max(1e-6) * 0.1 };
        let middle = low + (high - low) / 2.0;
        Self { low: middle - half, high: middle + half, mark: round_up(half / 2.5) }
    }

    fn place(&self, value: f64, from: f64, to: f64) -> f64 {
        from + (value - self.low) / (self.high - self.low) * (to - from)
    }

    fn place_up(&self, value: f64) -> f64 {
        self.place(value, HEIGHT - BOTTOM, TOP)
    }

    fn marks(&self) -> impl Iterator<Item = f64> {
        let first = (self.low / self.mark).ceil() as i64;
        let last = (self.high / self.mark).floor() as i64;
        let mark = self.mark;
        (first..=last).take(20).map(move |k| k as f64 * mark)
    }

    fn write_rows(&self, svg: &mut String) {
        for value in self.marks() {
            let y = self.place_up(value);
            let (end, at) = (WIDTH - RIGHT, LEFT - 6.0);
            let _ = write!(svg, "<line x1=\"{LEFT}\" x2=\"{end}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>");
            let _ = write!(svg, "<text x=\"{at}\" y=\"{:.1}\" class=\"end\">{}</text>", y + 4.0, number(value));
        }
    }

    fn write_columns(&self, svg: &mut String) {
        for value in self.marks() {
            let x = self.place(value, LEFT, WIDTH - RIGHT);
            let y = HEIGHT - 6.0;
            let _ = write!(svg, "<text x=\"{x:.1}\" y=\"{y}\" class=\"middle\">{}</text>", number(value));
        }
    }
}

fn range(values: impl Iterator<Item = f64>) -> (f64, f64) {
    values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)))
}

/// The next of 1, 2 or 5 times a power of ten.
fn round_up(value: f64) -> f64 {
    let power = 10f64.powf(value.log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|digit| digit * power).find(|mark| *mark >= value).unwrap_or(10.0 * power)
}

/// A figure with the digits that a reader needs.
pub(super) fn number(value: f64) -> String {
    let size = value.abs();
    if size < 1e-12 {
        "0".to_owned()
    } else if !(1e-3..1e6).contains(&size) {
        format!("{value:.2e}")
    } else {
        let decimals = (3.0 - size.log10().floor()).clamp(0.0, 5.0) as usize;
        let text = format!("{value:.decimals$}");
        if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(0.0, "0")]
    #[case(2.0, "2")]
    #[case(0.125, "0.125")]
    #[case(-1234.5678, "-1235")]
    #[case(5e-6, "5.00e-6")]
    fn numbers_are_short(#[case] value: f64, #[case] expected: &str) {
        assert_eq!(number(value), expected);
    }

    #[rstest]
    #[case(0.3, 0.5)]
    #[case(1.0, 1.0)]
    #[case(60.0, 100.0)]
    fn marks_are_round(#[case] value: f64, #[case] mark: f64) {
        assert!((round_up(value) - mark).abs() < 1e-12);
    }

    #[test]
    fn every_dot_is_drawn_within_its_chart() {
        let points: Vec<_> = (0..900).map(|i| (f64::from(i % 30) * 1e3, f64::from(i / 30) - 10.0)).collect();
        let series = vec![Series { name: "n".to_owned(), points }];
        let chart = Chart { title: "t".to_owned(), about: "a".to_owned(), marks: Marks::Dots, series };
        let html = chart.render().expect("a chart");
        assert_eq!(html.matches("<circle").count(), 900);
        let places = html.split("cx=\"").skip(1).map(|rest| rest.split('"').next().and_then(|x| x.parse::<f64>().ok()));
        assert!(places.into_iter().all(|x| x.is_some_and(|x| (LEFT..=WIDTH - RIGHT).contains(&x))));
    }

    #[test]
    fn constant_and_single_points_have_a_place() {
        for points in [vec![(1.0, 0.0), (2.0, 0.0)], vec![(1.0, -5.0)]] {
            let series = vec![Series { name: "n".to_owned(), points }];
            let chart = Chart { title: "t".to_owned(), about: "a".to_owned(), marks: Marks::Lines, series };
            let html = chart.render().expect("a chart");
            assert!(!html.contains("NaN") && !html.contains("inf"), "{html}");
        }
    }
}
