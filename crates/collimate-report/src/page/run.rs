//! The page of one run: head, results, figures, charts, answers and recipe.

use std::fmt::Write;

use serde_json::Value;

use super::ReportInput;
use super::answers::answers;
use super::clock::clock;
use super::head::head;
use super::html::{begin_charts, cells, document, table};
use super::names::{FIGURES, value};
use super::pictures::gallery;
use super::series::line_figure;
use super::throughput::{memory, speed};
use crate::charts::{Figure, Marks, Series, escape};
use crate::history::{History, MOST_RANKS};
use crate::lengths::LengthSample;
use crate::numbers::{number, result_texts};
use crate::stats::correlation;

/// A chart of figures over steps.
struct Chart {
    title: &'static str,
    about: &'static str,
    unit: &'static str,
    /// Each line's figure and its name in the legend.
    lines: &'static [(&'static str, &'static str)],
}

const TRAINING: &str = "training";
const HELD_OUT: &str = "held out";

const CHARTS: [Chart; 9] = [
    Chart {
        title: "Loss",
        about: "Mean over prompts. Training steps differ in their prompts, so the held-out line is the one to trust.",
        unit: "loss",
        lines: &[("loss", TRAINING), ("eval_loss", HELD_OUT)],
    },
    Chart {
        title: "Accuracy of implicit rewards",
        about: "Share of prompts whose best response has a higher implicit reward than the mean of the rest.",
        unit: "share of prompts",
        lines: &[("rewards/accuracies", TRAINING), ("eval_rewards/accuracies", HELD_OUT)],
    },
    Chart {
        title: "Margin",
        about: "Chosen minus rejected implicit reward.",
        unit: "implicit reward",
        lines: &[("rewards/margins", TRAINING), ("eval_rewards/margins", HELD_OUT)],
    },
    Chart {
        title: "Chosen against the reference",
        about: "Log-ratio of the chosen responses. Below zero they are less likely than under the reference.",
        unit: "nats",
        lines: &[("log_ratios/chosen", TRAINING), ("eval_log_ratios/chosen", HELD_OUT)],
    },
    Chart {
        title: "Log-probs of chosen and rejected",
        about: "They vary with the prompts of a step.",
        unit: "nats",
        lines: &[("logps/chosen", "chosen"), ("logps/rejected", "rejected")],
    },
    Chart {
        title: "Length and reward",
        about: "Correlation of a response's length with its implicit reward and with the data's reward. If the first is \
                higher, the policy learns length.",
        unit: "correlation",
        lines: &[
            ("lengths/correlation", "implicit reward, training"),
            ("lengths/reward_correlation", "data's reward"),
            ("eval_lengths/correlation", "implicit reward, held out"),
        ],
    },
    Chart {
        title: "Length",
        about: "Of the chosen and the rejected responses.",
        unit: "tokens",
        lines: &[("lengths/chosen", "chosen"), ("lengths/rejected", "rejected")],
    },
    Chart { title: "Gradient norm", about: "Before clipping.", unit: "norm", lines: &[("grad_norm", "gradient")] },
    Chart {
        title: "Entropy of the reward weights",
        about: "Of softmax(reward/α). Near 0 only the best response counts.",
        unit: "nats",
        lines: &[("weights/entropy", "weights")],
    },
];

pub(super) fn render(input: &ReportInput<'_>) -> String {
    let history = input.history;
    let mut body = format!("<h1>{}</h1>{}", escape(input.title), head(input.info, history));
    body.push_str(&warnings(input));
    if let Some(results) = input.results {
        body.push_str(&results_table(results));
    }
    body.extend(input.gallery.map(gallery));
    body.push_str(&figures_table(history));
    body.push_str(&begin_charts());
    let rendered = |chart: &Chart| chart.figure(history).render();
    body.extend(CHARTS[..2].iter().filter_map(rendered));
    body.extend(by_rank(history).render());
    body.extend(CHARTS[2..].iter().filter_map(rendered));
    let rate = vec![Series::line("learning rate", 0, history.points("learning_rate"))];
    body.extend(line_figure("Learning rate", "Of each step.", "rate", Marks::Lines, rate).render());
    for (title, about, unit, series) in [
        (
            "Throughput",
            "Tokens of a step by its time; a shared prompt counts once.",
            "tokens/s",
            speed(history, "tokens/s", 0),
        ),
        ("Memory", "Of the process; a GPU's own memory is not in it.", "MiB", memory(history, "resident", 0)),
    ] {
        let figure = line_figure(title, about, unit, Marks::Lines, vec![series]).render();
        body.extend(figure.map(|figure| clock(&figure)));
    }
    body.extend(input.lengths.into_iter().flat_map(scatter).filter_map(|figure| figure.render()));
    body.push_str("</div>");
    if let Some(samples) = input.samples {
        body.push_str(&answers(samples));
    }
    let _ = write!(body, "<details><summary>Recipe</summary><pre>{}</pre></details>", escape(input.recipe_yaml));
    document(input.title, &body)
}

impl Chart {
    fn figure(&self, history: &History) -> Figure {
        let line = |(color, (figure, name)): (usize, &(&str, &str))| {
            let points = history.points(figure);
            // Evaluations have the same prompts each time: there is no noise to smooth.
            match figure.starts_with("eval_") {
                true => Series::line(name, color, points),
                false => Series::smoothed_line(name, color, points),
            }
        };
        let series = self.lines.iter().enumerate().map(line).collect();
        line_figure(self.title, self.about, self.unit, Marks::Lines, series)
    }
}

fn by_rank(history: &History) -> Figure {
    let line = |(rank, points): (usize, Vec<(f64, f64)>)| {
        let name = if rank == 0 { "rank 0, the best".to_owned() } else { format!("rank {rank}") };
        Series::smoothed_line(&name, rank, points)
    };
    let series: Vec<Series> = history.ranks().enumerate().map(line).collect();
    let first = if series.len() < MOST_RANKS { String::new() } else { format!(" The first {MOST_RANKS} are drawn.") };
    let about = format!("β times the log-ratio of policy and reference; ranks are by the data's reward.{first}");
    line_figure("Implicit rewards by rank", &about, "implicit reward", Marks::Lines, series)
}

/// What went wrong, as the log says it too.
fn warnings(input: &ReportInput<'_>) -> String {
    let mut html = String::new();
    if let Some(verdict) = input.history.verdict() {
        let remedies: String = verdict.remedies.iter().map(|text| format!("<li>{}</li>", escape(text))).collect();
        let finding = escape(&verdict.finding);
        let _ = write!(
            html,
            "<div class=\"alarm\" role=\"alert\"><strong>Warning</strong>: {finding}. To try:<ul>{remedies}</ul></div>"
        );
    }
    if let Some(warning) = input.history.warning() {
        let _ = write!(html, "<p class=\"alarm\" role=\"alert\"><strong>Warning</strong>: {}.</p>", escape(warning));
    }
    html
}

/// Lengths against the data's rewards and, if a model has scored them, against implicit rewards.
fn scatter(lengths: &LengthSample) -> Vec<Figure> {
    let tokens: Vec<f64> = lengths.num_tokens.iter().map(|&count| count as f64).collect();
    let figure = |what: &str, values: &[f64]| {
        let found = correlation(&tokens, values).map_or("none".to_owned(), number);
        let points = tokens.iter().copied().zip(values.iter().copied()).collect();
        Figure {
            title: format!("Length against {what}"),
            about: format!("{}. Correlation {found}.", lengths.source),
            axes: ["tokens".to_owned(), what.to_owned()],
            marks: Marks::Dots,
            series: vec![Series::dots(what, 0, points)],
        }
    };
    let of_data = figure("reward", &lengths.rewards);
    let implicit = lengths.implicit_rewards.as_ref().map(|values| figure("implicit reward", values));
    std::iter::once(of_data).chain(implicit).collect()
}

/// Figures of the first and last step and evaluation.
fn figures_table(history: &History) -> String {
    let is_evaluated = history.ends("eval_loss").is_some();
    let mut html = match is_evaluated {
        true => "<tr><th></th><th colspan=\"2\">training</th><th colspan=\"2\">held out</th></tr>".to_owned(),
        false => String::new(),
    };
    let heads = ["figure", "first step", "last step", "first", "last"];
    html += &cells("th", heads.into_iter().take(if is_evaluated { 5 } else { 3 }));
    let mut found_any = false;
    for (name, label) in FIGURES {
        let (training, held_out) = (history.ends(name), history.ends(&format!("eval_{name}")));
        if training.is_none() && held_out.is_none() {
            continue;
        }
        found_any = true;
        let text = |end: Option<f64>| end.map(|end| value(name, end)).unwrap_or_default();
        let mut texts = vec![text(training.map(|ends| ends.0)), text(training.map(|ends| ends.1))];
        if is_evaluated {
            texts.extend([text(held_out.map(|ends| ends.0)), text(held_out.map(|ends| ends.1))]);
        }
        html += &cells("td", std::iter::once(label).chain(texts.iter().map(String::as_str)));
    }
    if found_any { table("figures", &html) } else { String::new() }
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
