//! A grid of shaded cells.

use std::fmt::Write;

use super::svg::{WIDTH, begin, escape};

const LEFT: f64 = 90.0;
const TOP: f64 = 40.0;
const CELL_HEIGHT: f64 = 34.0;
const FOOT: f64 = 50.0;

/// Fractions in [0, 1] by row and column, shown in percent and shaded between the lowest and the highest.
#[derive(Debug, Clone)]
pub struct HeatMap {
    /// Heading.
    pub title: String,
    /// What the columns vary.
    pub x: String,
    /// What the rows vary.
    pub y: String,
    /// Names of the columns.
    pub columns: Vec<String>,
    /// Names of the rows.
    pub rows: Vec<String>,
    /// Shares, by row and then by column.
    pub values: Vec<Vec<f64>>,
}

impl HeatMap {
    /// The chart as an SVG file.
    pub fn svg(&self) -> String {
        let height = TOP + CELL_HEIGHT * self.rows.len() as f64 + FOOT;
        let mut svg = begin(height, &self.title);
        let width = (WIDTH - LEFT - 20.0) / self.columns.len().max(1) as f64;
        let all = || self.values.iter().flatten().copied();
        let (low, high) = all().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
        for (row, values) in self.values.iter().enumerate() {
            let top = TOP + CELL_HEIGHT * row as f64;
            let middle = top + CELL_HEIGHT / 2.0 + 4.0;
            let name = escape(&self.rows[row]);
            let _ = writeln!(svg, "<text x=\"{:.1}\" y=\"{middle:.1}\" text-anchor=\"end\">{name}</text>", LEFT - 8.0);
            for (column, value) in values.iter().enumerate() {
                let left = LEFT + width * column as f64;
                let share = if high > low { (value - low) / (high - low) } else { 0.5 };
                let (fill, ink) = shade(share);
                let _ = writeln!(
                    svg,
                    "<rect x=\"{left:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{fill}\"/>\
                     <text x=\"{:.1}\" y=\"{middle:.1}\" text-anchor=\"middle\" style=\"fill:{ink}\">{:.1}</text>",
                    width - 2.0,
                    CELL_HEIGHT - 2.0,
                    left + width / 2.0,
                    100.0 * value
                );
            }
        }
        let floor = TOP + CELL_HEIGHT * self.rows.len() as f64;
        for (column, name) in self.columns.iter().enumerate() {
            let middle = LEFT + width * (column as f64 + 0.5);
            let name = escape(name);
            let _ =
                writeln!(svg, "<text x=\"{middle:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{name}</text>", floor + 16.0);
        }
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\
             <text transform=\"translate(16 {:.1}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
            (LEFT + WIDTH - 20.0) / 2.0,
            floor + 38.0,
            escape(&self.x),
            (TOP + floor) / 2.0,
            escape(&self.y)
        );
        svg + "</svg>\n"
    }
}

/// A fill from dark blue to light yellow, and an ink that is legible on it.
fn shade(share: f64) -> (String, &'static str) {
    let mix = |low: f64, high: f64| (low + (high - low) * share).round() as u8;
    let fill = format!("rgb({},{},{})", mix(38.0, 253.0), mix(52.0, 231.0), mix(110.0, 120.0));
    (fill, if share > 0.5 { "#111" } else { "#fff" })
}
