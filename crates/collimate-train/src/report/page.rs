//! The page around the charts: style, summary and tables.

use std::fmt::Write;

use serde_json::Value;

use super::ReportInput;
use super::chart::{Chart, Marks, Series, number};
use crate::lengths::{LengthSample, correlation};
use crate::metrics::MetricsRow;
use crate::samples::{Sample, Samples};

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
    (
        "Length and reward",
        "Correlation of a response's tokens with its implicit reward, and with the data's: above it, length is learned.",
        &["lengths/correlation", "lengths/reward_correlation", "eval_lengths/correlation"],
    ),
    ("Length", "Tokens of the chosen and the rejected responses.", &["lengths/chosen", "lengths/rejected"]),
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
        body.extend(lines(title, about, series).render());
    }
    body.extend(input.lengths.into_iter().flat_map(scatter).filter_map(|chart| chart.render()));
    body.push_str("</div>");
    if let Some(samples) = input.samples {
        body.push_str(&answers(samples));
    }
    let _ = write!(body, "<details><summary>Recipe</summary><pre>{}</pre></details>", escape(input.recipe_yaml));
    document(input.title, &body)
}

/// A page with this heading in its tab and this body.
pub(super) fn document(title: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>{}</title><style>{STYLE}</style></head><body><main>{body}</main></body></html>\n",
        escape(title)
    )
}

/// Figures by step.
pub(super) fn lines(title: &str, about: &str, series: Vec<Series>) -> Chart {
    Chart { title: title.to_owned(), about: about.to_owned(), marks: Marks::Lines, series }
}

/// Lengths against the data's rewards and, where a model was asked, against implicit ones.
fn scatter(lengths: &LengthSample) -> Vec<Chart> {
    let tokens: Vec<f64> = lengths.num_tokens.iter().map(|&count| count as f64).collect();
    let chart = |what: &str, values: &[f64]| {
        let found = correlation(&tokens, values).map_or("none".to_owned(), number);
        Chart {
            title: format!("Length against {what}"),
            about: format!("Tokens across, {what} up: {}. Correlation {found}.", lengths.of),
            marks: Marks::Dots,
            series: vec![Series {
                name: what.to_owned(),
                points: tokens.iter().copied().zip(values.iter().copied()).collect(),
            }],
        }
    };
    let of_data = chart("reward", &lengths.rewards);
    let implicit = lengths.implicit_rewards.as_ref().map(|values| chart("implicit reward", values));
    std::iter::once(of_data).chain(implicit).collect()
}

/// What the model answered before and after.
fn answers(samples: &Samples) -> String {
    let text = |label: &str, text: &str| {
        let text = if text.is_empty() { "<span class=\"about\">(nothing)</span>".to_owned() } else { escape(text) };
        format!("<div><h4>{label}</h4><p class=\"text\">{text}</p></div>")
    };
    let sample = |sample: &Sample| {
        let after = sample.after.as_ref().map(|after| text("after training", after)).unwrap_or_default();
        format!(
            "<article><p class=\"about\">{}</p>{}<div class=\"answers\">{}{after}{}</div></article>",
            escape(&sample.place),
            text("prompt", &sample.prompt),
            text("before training", &sample.before),
            text(&format!("best in the data, reward {}", number(sample.reward)), &sample.best),
        )
    };
    let samples_html: String = samples.prompts.iter().map(sample).collect();
    format!(
        "<h2>Answers before and after</h2><p class=\"about\">Token by likeliest token, at most {} of them.</p>{samples_html}",
        samples.max_new_tokens
    )
}

/// The lines of one name, or of every rank where the name ends in `*`.
pub(super) fn series_of(rows: &[MetricsRow], pattern: &str) -> Vec<Series> {
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
        let [before, after] = super::result_texts(name, value).map(|text| escape(&text));
        let _ = write!(html, "<tr><td>{}</td><td>{before}</td><td>{after}</td></tr>", escape(name));
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
