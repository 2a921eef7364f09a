//! Horizontal bars.

use std::fmt::Write;

use super::svg::escape;

const WIDTH: f64 = 760.0;
const LEFT: f64 = 380.0;
const LONGEST: f64 = 300.0;
const ROW: f64 = 24.0;
const HEAD: f64 = 34.0;

/// One bar.
#[derive(Debug, Clone, PartialEq)]
pub struct Bar {
    /// What it shows.
    pub name: String,
    /// Its length.
    pub value: f64,
    /// Text at its end.
    pub label: String,
    /// Whether it is drawn in color.
    pub highlighted: bool,
}

/// Bars below each other, the longest as wide as the chart.
#[derive(Debug, Clone, Default)]
pub struct BarChart {
    /// Heading.
    pub title: String,
    /// Bars from top to bottom.
    pub bars: Vec<Bar>,
}

impl BarChart {
    /// The chart as an SVG file.
    pub fn svg(&self) -> String {
        let longest = self.bars.iter().map(|bar| bar.value).fold(f64::MIN_POSITIVE, f64::max);
        let height = 40.0 + ROW * self.bars.len() as f64;
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" \
             font-size=\"13\">\n<rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#fff\"/>\n\
             <text x=\"8\" y=\"20\" font-weight=\"bold\">{}</text>\n",
            escape(&self.title)
        );
        for (index, bar) in self.bars.iter().enumerate() {
            let y = HEAD + ROW * index as f64;
            let length = LONGEST * bar.value / longest;
            let fill = if bar.highlighted { "#2b6cb0" } else { "#b8b8b8" };
            let _ = writeln!(
                svg,
                "<text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"end\">{}</text>\
                 <rect x=\"{LEFT:.0}\" y=\"{y:.0}\" width=\"{length:.1}\" height=\"{:.0}\" fill=\"{fill}\"/>\
                 <text x=\"{:.1}\" y=\"{:.0}\">{}</text>",
                LEFT - 8.0,
                y + 14.0,
                escape(&bar.name),
                ROW - 6.0,
                LEFT + length + 6.0,
                y + 14.0,
                escape(&bar.label),
            );
        }
        svg + "</svg>\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_bar_has_the_whole_width() {
        let bar = |value: f64| Bar { name: "a".to_owned(), value, label: "1".to_owned(), highlighted: true };
        let svg = BarChart { title: "title".to_owned(), bars: vec![bar(1.0), bar(4.0)] }.svg();
        assert!(svg.contains("width=\"75.0\"") && svg.contains("width=\"300.0\""), "{svg}");
    }
}
