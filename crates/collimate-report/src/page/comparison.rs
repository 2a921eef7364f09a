//! The page that compares runs: last figures, recipe keys that differ, charts of the same figures, and answers.

use serde_yaml_ng::Value;

use super::answers::compared;
use super::clock::clock;
use super::head::{facts, times};
use super::html::{begin_charts, cells, document, table};
use super::names::value;
use super::series::line_figure;
use super::throughput::{memory, speed};
use crate::charts::{Figure, Marks, Series, escape};
use crate::numbers::result_text;
use crate::run_files::RunFiles;
use crate::samples::Samples;

/// Heading, explanation, unit and figure of each chart; each run is a line.
const CHARTS: &[(&str, &str, &str, &str)] = &[
    ("Loss on held-out data", "Losses of different objectives cannot be compared.", "loss", "eval_loss"),
    ("Accuracy on held-out data", ACCURACY, "share of prompts", "eval_rewards/accuracies"),
    ("Margin on held-out data", "Chosen minus rejected implicit reward.", "implicit reward", "eval_rewards/margins"),
    ("Chosen on held-out data", CHOSEN, "nats", "eval_log_ratios/chosen"),
    ("Loss", "Mean over the prompts of a step. Losses of different objectives cannot be compared.", "loss", "loss"),
    ("Accuracy", ACCURACY, "share of prompts", "rewards/accuracies"),
    ("Margin", "Chosen minus rejected implicit reward.", "implicit reward", "rewards/margins"),
    ("Chosen against the reference", CHOSEN, "nats", "log_ratios/chosen"),
    (
        "Length and implicit reward",
        "Correlation of a response's length with its implicit reward.",
        "correlation",
        "lengths/correlation",
    ),
    ("Gradient norm", "Before clipping.", "norm", "grad_norm"),
    ("Learning rate", "Of each step.", "rate", "learning_rate"),
];

const ACCURACY: &str = "Share of prompts whose best response has a higher implicit reward than the mean of the rest.";
const CHOSEN: &str = "Log-ratio of the chosen responses.";

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

/// Runs are drawn over a logarithmic axis if the longest has more than this many times the steps of the shortest.
const MUCH_LONGER: f64 = 2.0;

pub(crate) fn render(runs: &[RunFiles]) -> String {
    let names = names(runs);
    let title = names.join(", ");
    let mut body = format!("<h1>{}</h1>", escape(&title));
    body.push_str(&comparison_table("run", &names, &described(runs)));
    let timed = comparison_table("run", &names, &timed(runs));
    if !timed.is_empty() {
        body.push_str(&clock(&timed));
    }
    body.push_str(&warnings(runs, &names));
    body.push_str(&comparison_table("last figure", &names, &figures(runs)));
    body.push_str(&comparison_table("recipe", &names, &differing_keys(runs)));
    body.push_str(&begin_charts());
    let marks = marks(runs);
    let each = |line: &dyn Fn(&RunFiles, &str, usize) -> Series| {
        let line = |(index, (run, name)): (usize, (&RunFiles, &String))| line(run, name, index);
        runs.iter().zip(&names).enumerate().map(line).collect::<Vec<Series>>()
    };
    for &(title, about, unit, figure) in CHARTS {
        let series = each(&|run, name, color| {
            let points = run.history.points(figure);
            match figure.starts_with("eval_") || figure == "learning_rate" {
                true => Series::line(name, color, points),
                false => Series::smoothed_line(name, color, points),
            }
        });
        body.extend(line_figure(title, about, unit, marks, series).render());
    }
    let speeds = each(&|run, name, color| speed(&run.history, name, color));
    let memories = each(&|run, name, color| memory(&run.history, name, color));
    for figure in [
        line_figure("Throughput", "Tokens of a step by its time.", "tokens/s", marks, speeds),
        line_figure("Memory", "Of the process; a GPU's own memory is not in it.", "MiB", marks, memories),
    ] {
        body.extend(Figure::render(&figure).map(|html| clock(&html)));
    }
    body.push_str("</div>");
    let samples = names.iter().zip(runs).filter_map(|(name, run)| Some((name.as_str(), run.samples.as_ref()?)));
    body.push_str(&compared(&samples.collect::<Vec<(&str, &Samples)>>()));
    document(&title, &body)
}

/// Linear steps for runs of similar length, else logarithmic ones.
fn marks(runs: &[RunFiles]) -> Marks {
    let last = |run: &RunFiles| run.history.ends("step").map(|ends| ends.1).filter(|step| *step > 0.0);
    let lengths: Vec<f64> = runs.iter().filter_map(last).collect();
    let (least, most) = lengths.iter().fold((f64::INFINITY, 0.0f64), |(l, m), &x| (l.min(x), m.max(x)));
    if most > MUCH_LONGER * least { Marks::LinesOverLogSteps } else { Marks::Lines }
}

/// Model, objective, data and device of each run that says.
fn described(runs: &[RunFiles]) -> Rows {
    let known: Vec<_> = runs.iter().map(|run| run.info.as_ref().map(facts)).collect();
    let Some(first) = known.iter().flatten().next() else { return Rows::new() };
    let row = |(index, (name, _)): (usize, &(&str, String))| {
        let value = |facts: &Option<[(&str, String); 4]>| facts.as_ref().map(|facts| facts[index].1.clone());
        ((*name).to_owned(), known.iter().map(|facts| value(facts).unwrap_or_default()).collect())
    };
    first.iter().enumerate().map(row).collect()
}

/// Date and time of each run that says.
fn timed(runs: &[RunFiles]) -> Rows {
    let known: Vec<_> = runs.iter().map(|run| run.info.as_ref().map(times)).collect();
    let Some(first) = known.iter().flatten().next() else { return Rows::new() };
    let row = |(index, (name, _)): (usize, &(&str, String))| {
        let value = |times: &Option<[(&str, String); 2]>| times.as_ref().map(|times| times[index].1.clone());
        ((*name).to_owned(), known.iter().map(|times| value(times).unwrap_or_default()).collect())
    };
    first.iter().enumerate().map(row).collect()
}

/// What went wrong with each run, as its own page says.
fn warnings(runs: &[RunFiles], names: &[String]) -> String {
    let warning = |(run, name): (&RunFiles, &String)| {
        let verdict = run.history.verdict()?.to_string();
        Some(format!("<p class=\"alarm\"><strong>{}</strong>: {}.</p>", escape(name), escape(&verdict)))
    };
    runs.iter().zip(names).filter_map(warning).collect()
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
    let last = |run: &RunFiles, name: &str| run.history.ends(name).map(|ends| value(name, ends.1));
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
    table("runs", &html)
}
