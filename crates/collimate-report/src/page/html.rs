//! The frame of a page and its tables.

use crate::charts::{color_rules, escape};

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("hover.js");
const LIVE_SCRIPT: &str = include_str!("live.js");

/// What a page may do: show its own style and pictures and run its own script. It fetches nothing.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'unsafe-inline'";

/// A page with this title and body.
pub(super) fn document(title: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\
         <title>{}</title><style>{STYLE}{}</style></head><body><main>{body}</main><script>{SCRIPT}</script></body></html>\n",
        escape(title),
        color_rules()
    )
}

/// A page for a browser that gets it from a server: it asks there whether there is another version.
pub(super) fn live(page: &str, version: &str) -> String {
    page.replacen("<html ", &format!("<html data-version=\"{}\" ", escape(version)), 1)
        .replacen(POLICY, &format!("{POLICY}; connect-src 'self'"), 1)
        .replacen("<main>", "<p class=\"live\" role=\"status\">Live: the page follows its run.</p><main>", 1)
        .replacen("</body></html>", &format!("<script>{LIVE_SCRIPT}</script></body></html>"), 1)
}

/// Begins a page's charts, with how to read them.
pub(super) fn begin_charts() -> String {
    "<p class=\"about reading\">Pale lines are single steps, bold ones the mean of neighboring steps; dots are evaluations. Point at \
     a chart to read its values.</p><div class=\"charts\">"
        .to_owned()
}

/// A table row of header or data cells; the texts are escaped.
pub(super) fn cells<'a>(tag: &str, texts: impl IntoIterator<Item = &'a str>) -> String {
    let cells = texts.into_iter().map(|text| format!("<{tag}>{}</{tag}>", escape(text)));
    format!("<tr>{}</tr>", cells.collect::<String>())
}

/// A table that scrolls on a narrow page.
pub(super) fn table(class: &str, rows: &str) -> String {
    let class = if class.is_empty() { String::new() } else { format!(" class=\"{class}\"") };
    format!("<div class=\"scroll\"><table{class}>{rows}</table></div>")
}
