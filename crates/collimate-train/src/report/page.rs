//! The page around the charts: style, summary and tables.

use std::fmt::Write;

use serde_json::Value;

use super::ReportInput;
use super::chart::{Chart, Series, number};
use crate::metrics::MetricsRow;

const STYLE: &str = include_str!("style.css");

/// Heading, explanation and series of each chart; `*` stands for every rank.
const CHARTS: &[(&str, &str, &[&str])] = &[
    ("Loss", "Mean over the prompts of a step.", &["loss", "eval_loss"]),
    (
        "Implicit rewards by rank",
        "β times the log-ratio of policy and reference; rank 0 is the best-scored response.",
        &["rewards/rank_*"],
    ),
    (
        "Log-probs of chosen and rejected",
        "In nats. A chosen response that becomes less likely is worth a look.",
        &["logps/chosen", "logps/rejected"],
    ),
    (
        "Chosen against the reference",
        "Log-ratio of the chosen responses, in nats. Below zero they are less likely than they were.",
        &["log_ratios/chosen", "eval_log_ratios/chosen"],
    ),
    (
        "Accuracy of implicit rewards",
        "Part of the prompts whose best response is above the mean of the rest.",
        &["rewards/accuracies", "eval_rewards/accuracies"],
    ),
    ("Margin", "Chosen minus rejected implicit reward.", &["rewards/margins", "eval_rewards/margins"]),
    ("Gradient norm", "Before clipping.", &["grad_norm"]),
    ("Learning rate", "Of each step.", &["learning_rate"]),
    (
        "Entropy of the reward weights",
        "Of softmax(reward/α), in nats. Near 0 only the best response counts.",
        &["weights/entropy"],
    ),
];

pub(super) fn render(input: &ReportInput<'_>) -> String {
    let mut body = format!("<h1>{}</h1>", escape(input.title));
    if let Some(results) = input.results {
        body.push_str(&results_table(results));
    }
    if let Some(alarm) = super::chosen_alarm(input.rows, input.recipe_yaml) {
        let _ = write!(body, "<p class=\"alarm\" role=\"alert\"><strong>Warning</strong>: {}.</p>", escape(&alarm));
    }
    body.push_str(&summary(input.rows));
    body.push_str("<div class=\"charts\">");
    for (title, about, patterns) in CHARTS {
        let series = patterns.iter().flat_map(|pattern| series_of(input.rows, pattern)).collect();
        body.extend(Chart { title, about, series }.render());
    }
    body.push_str("</div>");
    let _ = write!(body, "<details><summary>Recipe</summary><pre>{}</pre></details>", escape(input.recipe_yaml));
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>{}</title><style>{STYLE}</style></head><body><main>{body}</main></body></html>\n",
        escape(input.title)
    )
}

/// The lines of one name, or of every rank where the name ends in `*`.
fn series_of(rows: &[MetricsRow], pattern: &str) -> Vec<Series> {
    let names: Vec<String> = match pattern.strip_suffix('*') {
        None => vec![pattern.to_owned()],
        Some(stem) => {
            let has = |name: &String| rows.iter().any(|row| row.get(name).is_some());
            (0..).map(|rank| format!("{stem}{rank}")).take_while(has).collect()
        }
    };
    let line = |name: String| {
        let points = rows.iter().filter_map(|row| Some((row.get("step")?, row.get(&name)?))).collect();
        Series { name, points }
    };
    names.into_iter().map(line).filter(|series: &Series| !series.points.is_empty()).collect()
}

/// First and last figures of the run.
fn summary(rows: &[MetricsRow]) -> String {
    let steps: Vec<&MetricsRow> = rows.iter().filter(|row| row.get("loss").is_some()).collect();
    let (Some(first), Some(last)) = (steps.first(), steps.last()) else {
        return "<p>No step was recorded.</p>".to_owned();
    };
    let seconds: f64 = steps.iter().filter_map(|row| row.get("step_seconds")).sum();
    let mut html = format!("<p>{} steps recorded", steps.len());
    if seconds > 0.0 {
        let _ = write!(html, ", {} s in steps", number(seconds));
    }
    if let Some(tokens) = last.get("num_tokens") {
        let _ = write!(html, ", {tokens:.0} tokens");
    }
    html.push_str(".</p><div class=\"scroll\"><table><tr><th>figure</th><th>first step</th><th>last step</th></tr>");
    let names = ["loss", "rewards/chosen", "rewards/rejected", "rewards/accuracies", "logps/chosen", "logps/rejected"];
    for name in names {
        if let (Some(first), Some(last)) = (first.get(name), last.get(name)) {
            let _ = write!(html, "<tr><td>{name}</td><td>{}</td><td>{}</td></tr>", number(first), number(last));
        }
    }
    html + "</table></div>"
}

/// The results as a table; shares of one are shown in percent.
fn results_table(results: &Value) -> String {
    let Value::Object(entries) = results else { return String::new() };
    let head = "<tr><th>result</th><th>before</th><th>after</th></tr>";
    let mut html = format!("<div class=\"scroll\"><table class=\"results\">{head}");
    for (name, value) in entries {
        let (before, after) = match value.as_object() {
            Some(pair) => (pair.get("before"), pair.get("after")),
            None => (None, Some(value)),
        };
        let show = |value: Option<&Value>| value.map(|value| escape(&result(name, value))).unwrap_or_default();
        let _ = write!(html, "<tr><td>{}</td><td>{}</td><td>{}</td></tr>", escape(name), show(before), show(after));
    }
    html + "</table></div>"
}

/// A result as text: percent where the name says that it is a share.
pub(super) fn result(name: &str, value: &Value) -> String {
    match value {
        Value::Number(figure) => {
            let figure = figure.as_f64().unwrap_or(f64::NAN);
            let share = name.contains("accura") || name.contains("rate");
            if share { format!("{:.1}%", 100.0 * figure) } else { number(figure) }
        }
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
