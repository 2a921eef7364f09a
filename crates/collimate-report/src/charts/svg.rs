//! Parts that charts' SVG files share: frame, colors and text.

/// Width of every figure.
pub(super) const WIDTH: f64 = 640.0;

/// Begins a file with its size, style, background and title.
pub(super) fn begin(height: f64, title: &str) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" \
         aria-label=\"{title}\" font-family=\"system-ui, sans-serif\" font-size=\"12\">\n<style>{style}</style>\n\
         <rect class=\"ground\" width=\"{WIDTH}\" height=\"{height}\"/>\n\
         <text x=\"12\" y=\"20\" font-size=\"14\" font-weight=\"600\">{title}</text>\n",
        title = escape(title),
        style = style()
    )
}

/// Colors of lines on a light and on a dark background. The first four differ in lightness or hue under every kind of
/// color blindness (simulated after Machado et al. 2009); the report's pages draw later ones dashed too.
const COLORS: [(&str, &str); 8] = [
    ("#0b63ad", "#4da3ee"),
    ("#d9600a", "#ff9142"),
    ("#00977a", "#2fd0ab"),
    ("#33363b", "#eceff4"),
    ("#c0559b", "#f28ac9"),
    ("#4bb0e6", "#a6d8ff"),
    ("#8a6c00", "#d9b62f"),
    ("#8f6fe6", "#b39dff"),
];

/// Style rules that give the classes `s0`, `s1`, … their colors, on light and dark pages.
pub(crate) fn color_rules() -> String {
    let rules = |color: fn(&(&'static str, &'static str)) -> &'static str| {
        let rule = |(class, pair)| format!(".s{class}{{color:{}}}", color(pair));
        COLORS.iter().enumerate().map(rule).collect::<String>()
    };
    format!("{}@media (prefers-color-scheme:dark){{{}}}", rules(|pair| pair.0), rules(|pair| pair.1))
}

fn style() -> String {
    let rules = |color: fn(&(&'static str, &'static str)) -> &'static str| {
        let rule = |(class, pair): (usize, &(&'static str, &'static str))| {
            let color = color(pair);
            format!(".s{class} .line,.s{class} .bar{{stroke:{color}}}.s{class} .dot,.s{class} .band{{fill:{color}}}")
        };
        COLORS.iter().enumerate().map(rule).collect::<String>()
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

/// Escapes text for XML and HTML.
pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
