//! Figures as SVG files, legible on light and dark pages: lines with errors, dots with errors, heat maps.

mod axis;
mod heat;
mod lines;

pub use heat::HeatMap;
pub use lines::{Line, LineChart, Point};

/// Width of every figure.
const WIDTH: f64 = 640.0;

/// Beginning of a file: its size, its style, its ground and its title.
fn begin(height: f64, title: &str) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" \
         aria-label=\"{title}\" font-family=\"system-ui, sans-serif\" font-size=\"12\">\n<style>{style}</style>\n\
         <rect class=\"ground\" width=\"{WIDTH}\" height=\"{height}\"/>\n\
         <text x=\"12\" y=\"20\" font-size=\"14\" font-weight=\"600\">{title}</text>\n",
        title = escape(title),
        style = style()
    )
}

/// Colours of lines on light and on dark ground.
const COLOURS: [(&str, &str); 8] = [
    ("#0969da", "#58a6ff"),
    ("#cf222e", "#ff7b72"),
    ("#1a7f37", "#3fb950"),
    ("#9a6700", "#d29922"),
    ("#8250df", "#bc8cff"),
    ("#1b7c83", "#39c5cf"),
    ("#bf3989", "#f778ba"),
    ("#57606a", "#8b949e"),
];

fn style() -> String {
    let rules = |of: fn(&(&'static str, &'static str)) -> &'static str| {
        let rule = |(class, pair): (usize, &(&'static str, &'static str))| {
            let colour = of(pair);
            format!(".s{class} .line,.s{class} .bar{{stroke:{colour}}}.s{class} .dot,.s{class} .band{{fill:{colour}}}")
        };
        COLOURS.iter().enumerate().map(rule).collect::<String>()
    };
    format!(
        ".ground{{fill:#fff}}text{{fill:#24292f}}.grid{{stroke:#d8dee4}}.frame{{stroke:#8c959f;fill:none}}\
         .line{{fill:none;stroke-width:2}}.dash{{stroke-dasharray:6 4}}.bar{{stroke-width:1.5}}.band{{opacity:.15}}{}\
         @media (prefers-color-scheme:dark){{.ground{{fill:#0d1117}}text{{fill:#e6edf3}}.grid{{stroke:#30363d}}\
         .frame{{stroke:#6e7681}}{}}}",
        rules(|pair| pair.0),
        rules(|pair| pair.1)
    )
}

/// Text that stands in XML.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

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
