//! The theory's part of the page.

use anyhow::Result;
use collimate_report::charts::{Line, LineChart, Point};

use super::{Section, fill, fixed, table, tiny};
use crate::options::Experiment;
use crate::stats::Estimate;
use crate::theory::Theory;
use crate::theory::convergence::{Curve, Feedback};
use crate::theory::responses::{Path, STRIDE, WEIGHTS};

pub(super) fn section(found: &Theory) -> Result<Section> {
    let (over, whole) = (&found.responses, &found.population);
    let counted = |(seen, moved): (usize, usize)| format!("{moved} of {seen}");
    let values = [
        ("cases", over.num_cases.to_string()),
        ("worlds", whole.num_worlds.to_string()),
        ("dpo_loss", tiny(over.dpo_loss_difference)),
        ("dpo_gradient", tiny(over.dpo_gradient_difference)),
        ("nca_optimum", tiny(over.nca_optimum_error)),
        ("infonca_optimum", tiny(over.infonca_optimum_error)),
        ("above", counted(over.above)),
        ("below", counted(over.below)),
        ("drift", tiny(over.infonca_level_drift)),
        ("starts", tiny(over.nca_start_difference)),
        ("population_nca", tiny(whole.nca_error)),
        ("population_infonca", tiny(whole.infonca_error)),
        ("limits", limits(found)),
        ("by_beta", by_beta(found)),
        ("by_responses", by_responses(found)),
        ("slopes", slopes(&found.convergence.curves)),
    ];
    let curves = &found.convergence.curves;
    let figures = vec![
        ("theory-descent.svg", descent(&over.paths)),
        ("theory-beta.svg", beta_chart(found)),
        ("theory-responses.svg", responses_chart(found)),
        (
            "theory-rewards.svg",
            convergence_chart("Distance from π*, told the rewards", curves, |c| c.feedback == Feedback::Rewards),
        ),
        (
            "theory-preferences.svg",
            convergence_chart("Distance from π*, told a preference (DPO: the best and the worst)", curves, |c| {
                c.feedback != Feedback::Rewards
            }),
        ),
    ];
    Ok(Section { experiment: Experiment::Theory, text: fill(include_str!("theory.md"), &values)?, figures })
}

fn limits(found: &Theory) -> String {
    let rows = found.responses.limits.iter().map(|limit| {
        let (best, second) = limit.best_two;
        let loss = fixed(limit.loss, 6);
        vec![limit.alpha.to_string(), fixed(limit.effective_responses, 3), fixed(best, 3), fixed(second, 3), loss]
    });
    table(&["α", "responses that count, e^entropy", "h of the best", "h of the second", "lowest loss"], rows)
}

fn by_beta(found: &Theory) -> String {
    let rows = found.population.by_beta.iter().map(|at| {
        vec![
            at.beta.to_string(),
            short(at.infonca),
            short(at.nca),
            fixed(at.infonca_moved.mean, 3),
            fixed(at.nca_moved.mean, 3),
        ]
    });
    let head = [
        "β",
        "InfoNCA: distance",
        "NCA: distance",
        "InfoNCA: mean Δ under π_ref, nats",
        "NCA: mean Δ under π_ref, nats",
    ];
    table(&head, rows)
}

fn by_responses(found: &Theory) -> String {
    let rows = found.population.by_responses.iter();
    table(&["K", "InfoNCA", "NCA"], rows.map(|at| vec![at.num_responses.to_string(), short(at.infonca), short(at.nca)]))
}

/// A distance with its standard error; rounding is called so.
fn short(distance: Estimate) -> String {
    if distance.mean < 1e-6 {
        "< 1e−6".to_owned()
    } else {
        format!("{:.4} ± {:.4}", distance.mean, distance.standard_error)
    }
}

fn slopes(curves: &[Curve]) -> String {
    let rows = curves.iter().map(|curve| {
        let at = |point: Option<&(usize, Estimate)>| point.map_or(String::new(), |(_, tv)| short(*tv));
        let (first, last) = (at(curve.points.first()), at(curve.points.last()));
        // Rounding has no slope.
        let is_rounding = curve.points.last().is_some_and(|(_, tv)| tv.mean < 1e-6);
        let slope = if is_rounding { "—".to_owned() } else { fixed(curve.slope, 2) };
        let feedback = feedback_label(curve.feedback).to_owned();
        vec![label(&curve.objective).to_owned(), feedback, curve.num_responses.to_string(), first, last, slope]
    });
    let ends = |at: fn(&Curve) -> Option<&(usize, Estimate)>| curves.first().and_then(at).map_or(0, |point| point.0);
    let (few, most) = (ends(|curve| curve.points.first()), ends(|curve| curve.points.last()));
    table(&["objective", "told", "K", &format!("{few} prompts"), &format!("{most} prompts"), "slope"], rows)
}

fn feedback_label(feedback: Feedback) -> &'static str {
    match feedback {
        Feedback::Rewards => "rewards",
        Feedback::Preference => "a preference",
        Feedback::BestAndWorst => "best and worst",
    }
}

pub(super) fn label(objective: &str) -> &str {
    match objective {
        "nca" => "NCA",
        "infonca" => "InfoNCA",
        "dpo" => "DPO",
        other => other,
    }
}

fn descent(paths: &[Path]) -> String {
    let mut lines = Vec::new();
    for path in paths {
        for (k, weight) in WEIGHTS.iter().enumerate() {
            let points = path.steps.iter().enumerate();
            let points = points.map(|(i, h)| Point { x: (i * STRIDE) as f64, y: h[k], error: 0.0 }).collect();
            let name = format!("{}, w = {weight}", label(&path.objective));
            lines.push(Line { dashed: path.objective == "infonca", ..Line::new(&name, k, points) });
        }
    }
    LineChart {
        title: "Implicit rewards over gradient descent, K = 4".to_owned(),
        x: "steps".to_owned(),
        y: "h, nats".to_owned(),
        lines,
        ..LineChart::default()
    }
    .svg()
}

/// Distances that are rounding are drawn at this.
const LEAST: f64 = 1e-8;

fn point(x: f64, distance: Estimate) -> Point {
    let y = distance.mean.max(LEAST);
    // On a scale of decades a bar that reaches below a tenth says nothing.
    Point { x, y, error: if y > LEAST { distance.standard_error.min(0.9 * y) } else { 0.0 } }
}

fn beta_chart(found: &Theory) -> String {
    let line = |name: &str, color, of: fn(&crate::theory::population::ByBeta) -> Estimate| {
        Line::new(name, color, found.population.by_beta.iter().map(|at| point(at.beta, of(at))).collect())
    };
    LineChart {
        title: "Distance of the optimum from π_ref · e^{r/(αβ)}".to_owned(),
        x: "β".to_owned(),
        y: "total variation".to_owned(),
        log_x: true,
        log_y: true,
        lines: vec![line("NCA", 0, |at| at.nca), line("InfoNCA", 1, |at| at.infonca)],
        ..LineChart::default()
    }
    .svg()
}

fn responses_chart(found: &Theory) -> String {
    let line = |name: &str, color, of: fn(&crate::theory::population::ByResponses) -> Estimate| {
        let points = found.population.by_responses.iter();
        Line::new(name, color, points.map(|at| point(at.num_responses as f64, of(at))).collect())
    };
    LineChart {
        title: "Distance from π* with infinitely many prompts".to_owned(),
        x: "K, responses of a prompt".to_owned(),
        y: "total variation".to_owned(),
        log_y: true,
        lines: vec![line("NCA", 0, |at| at.nca), line("InfoNCA", 1, |at| at.infonca)],
        ..LineChart::default()
    }
    .svg()
}

fn convergence_chart(title: &str, curves: &[Curve], shown: impl Fn(&Curve) -> bool) -> String {
    let ks: Vec<usize> = curves.iter().map(|curve| curve.num_responses).collect();
    let lines = curves.iter().filter(|curve| shown(curve)).map(|curve| {
        let color = ks.iter().position(|k| *k == curve.num_responses).unwrap_or(0);
        let points = curve.points.iter().map(|(count, tv)| point(*count as f64, *tv)).collect();
        let name = format!("{}, K = {}", label(&curve.objective), curve.num_responses);
        let (dashed, apart) = (curve.objective == "infonca", curve.objective == "dpo");
        Line { dashed, ..Line::new(&name, if apart { 4 + color } else { color }, points) }
    });
    LineChart {
        title: title.to_owned(),
        x: "prompts".to_owned(),
        y: "total variation".to_owned(),
        log_x: true,
        log_y: true,
        lines: lines.collect(),
        ..LineChart::default()
    }
    .svg()
}
