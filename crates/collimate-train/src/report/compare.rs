//! Several runs on one page.

use std::fmt::Write;

use serde_yaml_ng::Value;

use super::RunFiles;
use super::chart::{Series, number};
use super::page::{document, escape, lines, result, series_of};
use crate::metrics::MetricsRow;

/// Heading, explanation and figure of each chart; a run is a line.
const CHARTS: &[(&str, &str, &str)] = &[
    ("Loss", "Mean over the prompts of a step. Losses of different objectives cannot be compared.", "loss"),
    ("Loss on held-out data", "Of the objective that is trained with.", "eval_loss"),
    ("Accuracy", "Part of the prompts whose best response is above the mean of the rest.", "rewards/accuracies"),
    ("Accuracy on held-out data", "The same, on prompts that are not trained on.", "eval_rewards/accuracies"),
    ("Margin", "Chosen minus rejected implicit reward.", "rewards/margins"),
    ("Margin on held-out data", "The same, on prompts that are not trained on.", "eval_rewards/margins"),
    ("Chosen against the reference", "Log-ratio of the chosen responses, in nats.", "log_ratios/chosen"),
    ("Chosen on held-out data", "The same, on prompts that are not trained on.", "eval_log_ratios/chosen"),
    (
        "Length and implicit reward",
        "Correlation of a response's tokens with its implicit reward.",
        "lengths/correlation",
    ),
    ("Gradient norm", "Before clipping.", "grad_norm"),
    ("Learning rate", "Of each step.", "learning_rate"),
];

/// Figures of the table, of a run's last step and last evaluation.
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

pub(super) fn render(runs: &[RunFiles]) -> String {
    let names = names(runs);
    let title = names.join(", ");
    let mut body = format!("<h1>{}</h1>", escape(&title));
    body.push_str(&table("last figure", &names, &figures(runs)));
    body.push_str(&table("recipe", &names, &differing_keys(runs)));
    body.push_str("<div class=\"charts\">");
    for (title, about, figure) in CHARTS {
        let series = runs.iter().zip(&names).filter_map(|(run, name)| {
            let line = series_of(&run.rows, figure).into_iter().next()?;
            Some(Series { name: name.clone(), ..line })
        });
        body.extend(lines(title, about, series.collect()).render());
    }
    body.push_str("</div>");
    document(&title, &body)
}

/// The folders' names, with a number where two are the same.
fn names(runs: &[RunFiles]) -> Vec<String> {
    let of_run = |(place, run): (usize, &RunFiles)| {
        let earlier = runs[..place].iter().filter(|other| other.title == run.title).count();
        if earlier == 0 { run.title.clone() } else { format!("{} ({})", run.title, earlier + 1) }
    };
    runs.iter().enumerate().map(of_run).collect()
}

/// Rows of a name and a value a run.
type Rows = Vec<(String, Vec<String>)>;

fn figures(runs: &[RunFiles]) -> Rows {
    let last =
        |run: &RunFiles, name: &str| run.rows.iter().rev().find_map(|row: &MetricsRow| row.get(name)).map(number);
    let figure = |name: &&str| {
        let values: Vec<_> = runs.iter().map(|run| last(run, name)).collect();
        let there = values.iter().any(Option::is_some);
        there.then(|| ((*name).to_owned(), values.into_iter().map(Option::unwrap_or_default).collect()))
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
            let text = |value| result(name, value);
            match (value.get("before"), value.get("after")) {
                (Some(before), Some(after)) => Some(format!("{} → {}", text(before), text(after))),
                _ => Some(text(value)),
            }
        };
        rows.push((name.clone(), runs.iter().map(|run| value(run).unwrap_or_default()).collect()));
    }
    rows
}

/// Keys whose values differ between the recipes; what is within a table has the table's name before it.
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

/// The keys of a recipe with their values as text.
fn flat(yaml: &str) -> Vec<(String, String)> {
    fn add(prefix: &str, value: &Value, entries: &mut Vec<(String, String)>) {
        let Value::Mapping(table) = value else {
            let text = serde_yaml_ng::to_string(value).unwrap_or_default();
            // A list has a line an item.
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

fn table(corner: &str, names: &[String], rows: &Rows) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let mut html = format!("<div class=\"scroll\"><table><tr><th>{corner}</th>");
    names.iter().for_each(|name| html.push_str(&format!("<th>{}</th>", escape(name))));
    html.push_str("</tr>");
    for (name, values) in rows {
        let _ = write!(html, "<tr><td>{}</td>", escape(name));
        values.iter().for_each(|value| html.push_str(&format!("<td>{}</td>", escape(value))));
        html.push_str("</tr>");
    }
    html + "</table></div>"
}
