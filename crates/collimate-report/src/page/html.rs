//! The frame of a page and its tables.

use crate::charts::escape;

const STYLE: &str = include_str!("style.css");

/// A page with this title and body.
pub(super) fn document(title: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>{}</title><style>{STYLE}</style></head><body><main>{body}</main></body></html>\n",
        escape(title)
    )
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
