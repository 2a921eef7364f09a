//! A grid of shaded figures.

use std::fmt::Write;

use super::{WIDTH, begin, escape};

const LEFT: f64 = 90.0;
const TOP: f64 = 40.0;
const CELL_HEIGHT: f64 = 34.0;
const FOOT: f64 = 50.0;

/// Shares in [0, 1] by row and column, shown in percent; the shade is their place between the lowest and the highest.
#[derive(Debug, Clone)]
pub struct HeatMap {
    /// Its heading.
    pub title: String,
    /// What changes across.
    pub x: String,
    /// What changes down.
    pub y: String,
    /// Names of the columns.
    pub columns: Vec<String>,
    /// Names of the rows.
    pub rows: Vec<String>,
    /// By row and column.
    pub values: Vec<Vec<f64>>,
}

impl HeatMap {
    /// The file.
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
                let at = LEFT + width * column as f64;
                let place = if high > low { (value - low) / (high - low) } else { 0.5 };
                let (fill, ink) = shade(place);
                let _ = writeln!(
                    svg,
                    "<rect x=\"{at:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{fill}\"/>\
                     <text x=\"{:.1}\" y=\"{middle:.1}\" text-anchor=\"middle\" style=\"fill:{ink}\">{:.1}</text>",
                    width - 2.0,
                    CELL_HEIGHT - 2.0,
                    at + width / 2.0,
                    100.0 * value
                );
            }
        }
        let floor = TOP + CELL_HEIGHT * self.rows.len() as f64;
        for (column, name) in self.columns.iter().enumerate() {
            let at = LEFT + width * (column as f64 + 0.5);
            let name = escape(name);
            let _ = writeln!(svg, "<text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{name}</text>", floor + 16.0);
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

/// From dark blue to light yellow, and ink that can be read on it.
fn shade(place: f64) -> (String, &'static str) {
    let mix = |low: f64, high: f64| (low + (high - low) * place).round() as u8;
    let fill = format!("rgb({},{},{})", mix(38.0, 253.0), mix(52.0, 231.0), mix(110.0, 120.0));
    (fill, if place > 0.5 { "#111" } else { "#fff" })
}
