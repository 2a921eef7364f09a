//! The page that compares runs: last figures, recipe keys that differ, and charts of the same figures.

use serde_yaml_ng::Value;

use super::html::{cells, document, table};
use super::series::{line_figure, series_named};
use crate::charts::{Series, escape};
use crate::metrics::MetricsRow;
use crate::numbers::{number, result_text};
use crate::run_files::RunFiles;

/// Heading, explanation and figure of each chart; each run is a line.
const CHARTS: &[(&str, &str, &str)] = &[
    ("Loss", "Mean over the prompts of a step. Losses of different objectives cannot be compared.", "loss"),
    ("Loss on held-out data", "By the training objective.", "eval_loss"),
    (
        "Accuracy",
        "Share of prompts whose best response has a higher implicit reward than the mean of the rest.",
        "rewards/accuracies",
    ),
    ("Accuracy on held-out data", "The same, on held-out prompts.", "eval_rewards/accuracies"),
    ("Margin", "Chosen minus rejected implicit reward.", "rewards/margins"),
    ("Margin on held-out data", "The same, on held-out prompts.", "eval_rewards/margins"),
    ("Chosen against the reference", "Log-ratio of the chosen responses, in nats.", "log_ratios/chosen"),
    ("Chosen on held-out data", "The same, on held-out prompts.", "eval_log_ratios/chosen"),
    (
        "Length and implicit reward",
        "Correlation of a response's length with its implicit reward.",
        "lengths/correlation",
    ),
    ("Gradient norm", "Before clipping.", "grad_norm"),
    ("Learning rate", "Of each step.", "learning_rate"),
];

/// Figures of the table, from each run's last step and evaluation.
const FIGURES: &[&str] = &[
    "step",
    "loss",
    "rewards/accuracies",
    "rewards/margins",
    "log_ratios/chosen",
    "eval_loss",
    "eval_rewards/accuracies",
    "eval_rewards/margins",
    "eval_log_ratios/chosen",
];

pub(crate) fn render(runs: &[RunFiles]) -> String {
    let names = names(runs);
    let title = names.join(", ");
    let mut body = format!("<h1>{}</h1>", escape(&title));
    body.push_str(&comparison_table("last figure", &names, &figures(runs)));
    body.push_str(&comparison_table("recipe", &names, &differing_keys(runs)));
    body.push_str("<div class=\"charts\">");
    for (title, about, figure) in CHARTS {
        let series = runs.iter().zip(&names).filter_map(|(run, name)| {
            let line = series_named(&run.rows, figure).into_iter().next()?;
            Some(Series { name: name.clone(), ..line })
        });
        body.extend(line_figure(title, about, series.collect()).render());
    }
    body.push_str("</div>");
    document(&title, &body)
}

/// Names of the folders, numbered if two are equal.
fn names(runs: &[RunFiles]) -> Vec<String> {
    let numbered = |(index, run): (usize, &RunFiles)| {
        let earlier = runs[..index].iter().filter(|other| other.title == run.title).count();
        if earlier == 0 { run.title.clone() } else { format!("{} ({})", run.title, earlier + 1) }
    };
    runs.iter().enumerate().map(numbered).collect()
}

/// Rows of a table: a name, and a value for each run.
type Rows = Vec<(String, Vec<String>)>;

fn figures(runs: &[RunFiles]) -> Rows {
    let last =
        |run: &RunFiles, name: &str| run.rows.iter().rev().find_map(|row: &MetricsRow| row.get(name)).map(number);
    let figure = |name: &&str| {
        let values: Vec<_> = runs.iter().map(|run| last(run, name)).collect();
        let is_known = values.iter().any(Option::is_some);
        is_known.then(|| ((*name).to_owned(), values.into_iter().map(Option::unwrap_or_default).collect()))
    };
    let mut rows: Rows = FIGURES.iter().filter_map(figure).collect();
    let mut results: Vec<&String> = Vec::new();
    for name in runs.iter().filter_map(|run| run.results.as_ref()?.as_object()).flat_map(|results| results.keys()) {
        if !results.contains(&name) {
            results.push(name);
        }
    }
    for name in results {
        let value = |run: &RunFiles| {
            let value = run.results.as_ref()?.get(name)?;
            let text = |value| result_text(name, value);
            match (value.get("before"), value.get("after")) {
                (Some(before), Some(after)) => Some(format!("{} → {}", text(before), text(after))),
                _ => Some(text(value)),
            }
        };
        rows.push((name.clone(), runs.iter().map(|run| value(run).unwrap_or_default()).collect()));
    }
    rows
}

/// Recipe keys whose values differ; nested keys are prefixed with their table.
fn differing_keys(runs: &[RunFiles]) -> Rows {
    let recipes: Vec<Vec<(String, String)>> = runs.iter().map(|run| flat(&run.recipe_yaml)).collect();
    let mut keys: Vec<&String> = Vec::new();
    for (key, _) in recipes.iter().flatten() {
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    let row = |key: &String| {
        let value = |recipe: &Vec<(String, String)>| {
            recipe.iter().find(|(name, _)| name == key).map(|(_, value)| value.clone()).unwrap_or_default()
        };
        let values: Vec<String> = recipes.iter().map(value).collect();
        values.iter().any(|value| *value != values[0]).then(|| (key.clone(), values))
    };
    keys.into_iter().filter_map(row).collect()
}

/// The flattened keys of a recipe with their values as text.
fn flat(yaml: &str) -> Vec<(String, String)> {
    fn add(prefix: &str, value: &Value, entries: &mut Vec<(String, String)>) {
        let Value::Mapping(table) = value else {
            let text = serde_yaml_ng::to_string(value).unwrap_or_default();
            // YAML writes a list with one item a line.
            entries.push((prefix.to_owned(), text.trim().replace('\n', " ")));
            return;
        };
        for (key, value) in table {
            let key = key.as_str().unwrap_or_default();
            add(&if prefix.is_empty() { key.to_owned() } else { format!("{prefix}.{key}") }, value, entries);
        }
    }
    let mut entries = Vec::new();
    if let Ok(value) = serde_yaml_ng::from_str(yaml) {
        add("", &value, &mut entries);
    }
    entries
}

fn comparison_table(corner: &str, names: &[String], rows: &Rows) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let texts =
        |first, rest: &[String]| -> Vec<String> { std::iter::once(first).chain(rest.iter().cloned()).collect() };
    let head = texts(corner.to_owned(), names);
    let mut html = cells("th", head.iter().map(String::as_str));
    for (name, values) in rows {
        html += &cells("td", texts(name.clone(), values).iter().map(String::as_str));
    }
    table("", &html)
}
