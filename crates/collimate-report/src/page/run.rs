//! The page of one run: results, figures, charts, answers and recipe.

use std::fmt::Write;

use serde_json::Value;

use super::ReportInput;
use super::answers::answers;
use super::html::{cells, document, table};
use super::series::{line_figure, series_named};
use crate::alarm::ChosenAlarm;
use crate::charts::{Figure, Marks, Series, escape};
use crate::lengths::LengthSample;
use crate::metrics::MetricsRow;
use crate::numbers::{number, result_texts};
use crate::stats::correlation;

/// Heading, explanation and figures of each chart; `*` stands for every rank.
const CHARTS: &[(&str, &str, &[&str])] = &[
    ("Loss", "Mean over the prompts of a step.", &["loss", "eval_loss"]),
    (
        "Implicit rewards by rank",
        "β times the log-ratio of policy and reference; rank 0 is the best-scored response.",
        &["rewards/rank_*"],
    ),
    (
        "Log-probs of chosen and rejected",
        "In nats. If chosen responses become less likely, look closer.",
        &["logps/chosen", "logps/rejected"],
    ),
    (
        "Chosen against the reference",
        "Log-ratio of the chosen responses, in nats. Below zero they are less likely than under the reference.",
        &["log_ratios/chosen", "eval_log_ratios/chosen"],
    ),
    (
        "Accuracy of implicit rewards",
        "Share of prompts whose best response has a higher implicit reward than the mean of the rest.",
        &["rewards/accuracies", "eval_rewards/accuracies"],
    ),
    ("Margin", "Chosen minus rejected implicit reward.", &["rewards/margins", "eval_rewards/margins"]),
    (
        "Length and reward",
        "Correlation of a response's length with its implicit reward and with the data's reward. If the first is higher, the \
         policy learns length.",
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
    if let Some(warning) = ChosenAlarm::last_warning_of_run(input.rows, input.recipe_yaml) {
        let _ = write!(body, "<p class=\"alarm\" role=\"alert\"><strong>Warning</strong>: {}.</p>", escape(&warning));
    }
    body.push_str(&summary(input.rows));
    body.push_str("<div class=\"charts\">");
    for (title, about, patterns) in CHARTS {
        let series = patterns.iter().flat_map(|pattern| series_named(input.rows, pattern)).collect();
        body.extend(line_figure(title, about, series).render());
    }
    body.extend(input.lengths.into_iter().flat_map(scatter).filter_map(|figure| figure.render()));
    body.push_str("</div>");
    if let Some(samples) = input.samples {
        body.push_str(&answers(samples));
    }
    let _ = write!(body, "<details><summary>Recipe</summary><pre>{}</pre></details>", escape(input.recipe_yaml));
    document(input.title, &body)
}

/// Lengths against the data's rewards and, if a model has scored them, against implicit rewards.
fn scatter(lengths: &LengthSample) -> Vec<Figure> {
    let tokens: Vec<f64> = lengths.num_tokens.iter().map(|&count| count as f64).collect();
    let figure = |what: &str, values: &[f64]| {
        let found = correlation(&tokens, values).map_or("none".to_owned(), number);
        Figure {
            title: format!("Length against {what}"),
            about: format!("Tokens across, {what} up: {}. Correlation {found}.", lengths.source),
            marks: Marks::Dots,
            series: vec![Series {
                name: what.to_owned(),
                points: tokens.iter().copied().zip(values.iter().copied()).collect(),
            }],
        }
    };
    let of_data = figure("reward", &lengths.rewards);
    let implicit = lengths.implicit_rewards.as_ref().map(|values| figure("implicit reward", values));
    std::iter::once(of_data).chain(implicit).collect()
}

/// Figures of the first and last step.
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
    let mut figures = cells("th", ["figure", "first step", "last step"]);
    let names = ["loss", "rewards/chosen", "rewards/rejected", "rewards/accuracies", "logps/chosen", "logps/rejected"];
    for name in names {
        if let (Some(first), Some(last)) = (first.get(name), last.get(name)) {
            figures += &cells("td", [name, &number(first), &number(last)]);
        }
    }
    format!("{html}.</p>{}", table("", &figures))
}

/// The results as a table.
fn results_table(results: &Value) -> String {
    let Value::Object(entries) = results else { return String::new() };
    let mut rows = cells("th", ["result", "before", "after"]);
    for (name, value) in entries {
        let [before, after] = result_texts(name, value);
        rows += &cells("td", [name.as_str(), &before, &after]);
    }
    table("results", &rows)
}
