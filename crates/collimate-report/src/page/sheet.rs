//! The page of a command about a finished run: facts, tables, charts and texts, in the style of the run's own page.

use super::html::{cells, document, table};
use crate::charts::{Figure, Marks, Series, escape};

/// A page that is built from its top to its end. All texts are escaped.
#[derive(Debug, Clone)]
pub struct Sheet {
    title: String,
    body: String,
}

/// A line of a chart: its name, and points (x, y) by increasing x. Points that are not finite are left out.
pub type ChartLine = (String, Vec<(f64, f64)>);

/// A chart of a sheet.
#[derive(Debug, Clone, PartialEq)]
pub struct Chart {
    /// Its heading.
    pub title: String,
    /// How to read it, in a sentence.
    pub about: String,
    /// Labels of the horizontal and the vertical axis.
    pub axes: [String; 2],
    /// Its lines.
    pub lines: Vec<ChartLine>,
}

impl Sheet {
    /// A page with a heading and nothing else.
    pub fn new(title: &str) -> Self {
        Self { title: title.to_owned(), body: format!("<h1>{}</h1>", escape(title)) }
    }

    /// Adds names with what stands behind them.
    pub fn facts(&mut self, facts: &[(&str, String)]) {
        let entry =
            |(name, text): &(&str, String)| format!("<div><dt>{}</dt><dd>{}</dd></div>", escape(name), escape(text));
        self.body += &format!("<dl class=\"head\">{}</dl>", facts.iter().map(entry).collect::<String>());
    }

    /// Adds a heading.
    pub fn heading(&mut self, text: &str) {
        self.body += &format!("<h2>{}</h2>", escape(text));
    }

    /// Adds a paragraph that says how to read what follows.
    pub fn about(&mut self, text: &str) {
        self.body += &format!("<p class=\"about\">{}</p>", escape(text));
    }

    /// Adds a warning.
    pub fn warning(&mut self, text: &str) {
        self.body += &format!("<p class=\"alarm\" role=\"alert\"><strong>Warning</strong>: {}.</p>", escape(text));
    }

    /// Adds a table of figures with this head, whose cells are not broken into lines.
    pub fn table(&mut self, head: &[&str], rows: &[Vec<String>]) {
        self.body += &table("figures", &in_rows(head, rows));
    }

    /// Adds a table with texts.
    pub fn texts(&mut self, head: &[&str], rows: &[Vec<String>]) {
        self.body += &table("", &in_rows(head, rows));
    }

    /// Adds charts side by side, those that have a point.
    pub fn charts(&mut self, charts: &[Chart]) {
        let figures: String = charts.iter().filter_map(Chart::render).collect();
        self.body += &format!("<div class=\"charts\">{figures}</div>");
    }

    /// Adds a card: where it is from, and texts under their labels, the first of them above the others.
    pub fn card(&mut self, about: &str, first: (&str, &str), others: &[(String, String)]) {
        let text = |label: &str, text: &str| {
            let text = if text.is_empty() { "<span class=\"about\">(nothing)</span>".to_owned() } else { escape(text) };
            format!("<div><h4>{}</h4><p class=\"text\">{text}</p></div>", escape(label))
        };
        let rest: String = others.iter().map(|(label, body)| text(label, body)).collect();
        self.body += &format!(
            "<article><p class=\"about\">{}</p>{}<div class=\"answers\">{rest}</div></article>",
            escape(about),
            text(first.0, first.1)
        );
    }

    /// The page as HTML, one file that fetches nothing.
    pub fn html(&self) -> String {
        document(&self.title, &self.body)
    }
}

fn in_rows(head: &[&str], rows: &[Vec<String>]) -> String {
    let rows = rows.iter().map(|row| cells("td", row.iter().map(String::as_str)));
    cells("th", head.iter().copied()) + &rows.collect::<String>()
}

impl Chart {
    fn render(&self) -> Option<String> {
        let line = |(color, (name, points)): (usize, &ChartLine)| {
            let finite = points.iter().copied().filter(|(x, y)| x.is_finite() && y.is_finite());
            Series::curve(name, color, finite.collect())
        };
        let series = self.lines.iter().enumerate().map(line).collect();
        let (title, about, axes) = (self.title.clone(), self.about.clone(), self.axes.clone());
        Figure { title, about, axes, marks: Marks::Curves, series }.render()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sheet_has_its_parts_in_order_and_fetches_nothing() {
        let mut sheet = Sheet::new("a < b");
        sheet.facts(&[("run", "runs/a".to_owned())]);
        sheet.table(&["strength", "accuracy"], &[vec!["0.25".to_owned(), "<50 %".to_owned()]]);
        let lines = vec![("one".to_owned(), vec![(0.25, 1.0), (0.5, f64::NAN), (1.5, 2.0)])];
        let chart = Chart { title: "c".into(), about: "d".into(), axes: ["strength".into(), "nats".into()], lines };
        sheet.charts(&[chart.clone(), Chart { title: "empty".into(), lines: Vec::new(), ..chart }]);
        sheet.card("rows.jsonl:3", ("prompt", "<b>"), &[("strength 1".to_owned(), String::new())]);
        let html = sheet.html();
        let parts =
            ["<h1>a &lt; b</h1>", "<dd>runs/a</dd>", "&lt;50 %", "<svg", "rows.jsonl:3", "&lt;b&gt;", "(nothing)"];
        let places: Vec<usize> = parts.iter().map(|part| html.find(part).unwrap_or_else(|| panic!("{part}"))).collect();
        assert!(places.is_sorted(), "{places:?}");
        // Strengths are not whole, and what is not finite is left out.
        assert!(html.contains("data-x=\"0.25 1.5\"") && !html.contains("NaN"), "{html}");
        assert!(!html.contains("<h3>empty") && !html.contains("http:") && !html.contains("https:"));
    }
}
