//! The ablation's part of the page.

use anyhow::Result;
use collimate_report::charts::{Line, LineChart, Point};

use super::{Section, fill, fixed, table};
use crate::ablation::Ablation;
use crate::options::Experiment;
use crate::stats::Estimate;
use crate::task::{MethodResult, Outcome, TaskSize};

pub(super) fn section(found: &Ablation, size: &TaskSize) -> Result<Section> {
    let all = || found.rewards.iter().chain(&found.one_hot).chain(&found.pairs);
    let values = [
        ("problems", size.num_problems.to_string()),
        ("test", size.num_test.to_string()),
        ("validation", size.num_validation.to_string()),
        ("steps", size.num_steps.to_string()),
        ("rates", rates(size)),
        ("tuning_seed", size.tuning_seed.to_string()),
        ("seeds", format!("{:?}", size.seeds).replace(['[', ']'], "")),
        ("base_greedy", fixed(100.0 * found.base.greedy, 1)),
        ("base_sampled", fixed(100.0 * found.base.sampled, 1)),
        ("table", table(&HEAD, all().map(row))),
        ("tried", tried(size, all())),
    ];
    let figures = vec![
        ("ablation-sampled.svg", chart("Held-out problems solved, sampled", found, size, |o| o.sampled)),
        ("ablation-greedy.svg", chart("Held-out problems solved, greedy", found, size, |o| o.greedy)),
    ];
    Ok(Section { experiment: Experiment::Ablation, text: fill(include_str!("ablation.md"), &values)?, figures })
}

/// Validation scores by learning rate.
fn tried<'a>(size: &TaskSize, results: impl Iterator<Item = &'a MethodResult>) -> String {
    let rates: Vec<String> = size.learning_rates.iter().map(|rate| format!("{rate:e}")).collect();
    let head: Vec<&str> = std::iter::once("method").chain(rates.iter().map(String::as_str)).collect();
    let rows = results.map(|result| {
        let scores = result.tried.iter().map(|(_, score)| fixed(100.0 * score, 1));
        std::iter::once(result.method.name.clone()).chain(scores).collect()
    });
    table(&head, rows)
}

/// Head of a table of methods.
pub(super) const HEAD: [&str; 7] =
    ["method", "learning rate", "greedy, %", "sampled, %", "pass@8, %", "mean reward", "chosen log-prob, nats"];

/// A method's row.
pub(super) fn row(result: &MethodResult) -> Vec<String> {
    let reward = result.estimate(|o| o.reward);
    vec![
        result.method.name.clone(),
        format!("{:e}", result.learning_rate),
        result.estimate(|o| o.greedy).percent(),
        result.estimate(|o| o.sampled).percent(),
        result.estimate(|o| o.pass_at_8).percent(),
        format!("{:.3} ± {:.3}", reward.mean, reward.standard_error),
        result.estimate(|o| o.chosen_change).plain(),
    ]
}

/// The learning rates that are tried.
pub(super) fn rates(size: &TaskSize) -> String {
    size.learning_rates.iter().map(|rate| format!("{rate:e}")).collect::<Vec<_>>().join(", ")
}

fn chart(title: &str, found: &Ablation, size: &TaskSize, figure: fn(&Outcome) -> f64) -> String {
    let count = size.num_responses.len();
    let mut categories: Vec<String> = size.num_responses.iter().map(|k| format!("K={k}")).collect();
    categories.extend(["one-hot", "worst", "random", "all"].map(str::to_owned));
    let at = |category: usize, result: &MethodResult| point(category as f64, result.estimate(figure));
    let (nca, infonca) = found.rewards.split_at(count.min(found.rewards.len()));
    let line = |name: &str, color, results: &[MethodResult]| {
        Line::new(name, color, results.iter().enumerate().map(|(category, result)| at(category, result)).collect())
    };
    let dots = |name: &str, color, points: Vec<Point>| Line { dots_only: true, ..Line::new(name, color, points) };
    let cold = |number: usize| found.one_hot.get(number).map(|result| at(count, result)).into_iter().collect();
    let pairs = found.pairs.iter().take(3).enumerate().map(|(i, result)| at(count + 1 + i, result)).collect();
    let best_and_worst =
        |number: usize| found.pairs.get(number).map(|result| at(count + 1, result)).into_iter().collect();
    let base =
        (0..categories.len()).map(|category| Point { x: category as f64, y: 100.0 * figure(&found.base), error: 0.0 });
    let base = Line { dashed: true, ..Line::new("base model", 7, base.collect()) };
    let lines = vec![
        line("NCA, rewards", 0, nca),
        line("InfoNCA, rewards", 1, infonca),
        dots("NCA, α = 1e-4", 3, cold(0)),
        dots("InfoNCA, α = 1e-4", 4, cold(1)),
        dots("DPO, β = 0.3", 2, pairs),
        dots("DPO, β = 1", 6, best_and_worst(3)),
        dots("NCA, pair", 5, best_and_worst(4)),
        base,
    ];
    let (x, y) = ("K of eight, K = 8 one-hot; pairs: best and worst, best and random, all".to_owned(), "%".to_owned());
    LineChart { title: title.to_owned(), x, y, categories, lines, ..LineChart::default() }.svg()
}

/// A share as a point in percent.
pub(super) fn point(x: f64, share: Estimate) -> Point {
    Point { x, y: 100.0 * share.mean, error: 100.0 * share.standard_error }
}
