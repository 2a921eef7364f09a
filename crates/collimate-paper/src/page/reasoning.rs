//! The reasoning task's part of the page.

use anyhow::Result;
use collimate_report::charts::{Line, LineChart, Point};

use super::ablation::{HEAD, point, row};
use super::{Section, fill, fixed, table};
use crate::options::Experiment;
use crate::reasoning::Reasoning;
use crate::task::{Outcome, TaskSize};

pub(super) fn section(found: &Reasoning, size: &TaskSize) -> Result<Section> {
    let base = &found.base;
    let share = |value: f64| fixed(100.0 * value, 1);
    let start = vec![
        "base model".to_owned(),
        "—".to_owned(),
        share(base.greedy),
        share(base.sampled),
        share(base.pass_at_8),
        fixed(base.reward, 3),
        "0".to_owned(),
    ];
    let rejected = found.methods.iter().map(|result| {
        vec![
            result.method.name.clone(),
            result.estimate(|o| o.chosen_change).plain(),
            result.estimate(|o| o.rejected_change).plain(),
        ]
    });
    let values = [
        ("table", table(&HEAD, std::iter::once(start).chain(found.methods.iter().map(row)))),
        ("likelihoods", table(&["method", "chosen, nats", "the others, nats"], rejected)),
        ("steps", size.num_steps.to_string()),
    ];
    let figures = vec![("reasoning.svg", chart(found))];
    Ok(Section { experiment: Experiment::Reasoning, text: fill(include_str!("reasoning.md"), &values)?, figures })
}

fn chart(found: &Reasoning) -> String {
    let short = |name: &str| name.split([',', ' ']).next().unwrap_or(name).to_owned();
    let mut categories = vec!["base".to_owned()];
    categories.extend(found.methods.iter().map(|result| short(&result.method.name)));
    let line = |name: &str, color, figure: fn(&Outcome) -> f64| {
        let base = Point { x: 0.0, y: 100.0 * figure(&found.base), error: 0.0 };
        let others = found.methods.iter().enumerate().map(|(i, result)| point((i + 1) as f64, result.estimate(figure)));
        Line { dots_only: true, ..Line::new(name, color, std::iter::once(base).chain(others).collect()) }
    };
    LineChart {
        title: "Held-out problems solved".to_owned(),
        x: String::new(),
        y: "%".to_owned(),
        categories,
        lines: vec![
            line("pass@8, sampled", 2, |o| o.pass_at_8),
            line("pass@1, greedy", 0, |o| o.greedy),
            line("pass@1, sampled", 1, |o| o.sampled),
        ],
        ..LineChart::default()
    }
    .svg()
}
