//! The falling likelihood's part of the page.

use anyhow::Result;
use collimate_report::charts::{Line, LineChart, Point};

use super::theory::label;
use super::{Section, fill, fixed, table};
use crate::falling::{Falling, FallingSize, Moment, OBJECTIVES};
use crate::options::Experiment;
use crate::stats::Estimate;

/// Steps that figures of the training questions are averaged over.
const WINDOW: usize = 8;

pub(super) fn section(found: &Falling, size: &FallingSize) -> Result<Section> {
    let source = match found.real {
        true => "GSM8K questions with the published solutions of four models",
        false => "generated problems (the GSM8K file was not there)",
    };
    let logps: Vec<String> = found.base_token_logp.iter().map(|logp| fixed(*logp, 2)).collect();
    let values = [
        ("source", source.to_owned()),
        ("parameters", format!("{:.1}", found.num_parameters as f64 / 1e6)),
        ("sft", size.num_sft.to_string()),
        ("epochs", size.sft_epochs.to_string()),
        ("train", found.num_questions.0.to_string()),
        ("held_out", found.num_questions.1.to_string()),
        ("steps", size.num_steps.to_string()),
        ("batch", size.batch_size.to_string()),
        ("rate", format!("{:e}", size.learning_rate)),
        ("beta", size.beta.to_string()),
        ("alpha", size.alpha.to_string()),
        ("seeds", format!("{:?}", found.seeds).replace(['[', ']'], "")),
        ("token_logps", logps.join(", ")),
        ("table", ends(found, size)),
    ];
    let chosen = |moment: &Moment| moment.chosen;
    let rejected = |moment: &Moment| moment.rejected;
    let pairs: [Figure; 2] = [("chosen", false, chosen), ("rejected", true, rejected)];
    let margin: [Figure; 1] = [("margin", false, |moment| moment.chosen - moment.rejected)];
    let figures = vec![
        ("falling-held-out.svg", chart("Held-out questions: change of log-prob", found, &pairs, held_out)),
        ("falling-training.svg", chart("Training questions: change of log-prob", found, &pairs, training)),
        ("falling-margin.svg", chart("Held-out questions: margin", found, &margin, held_out)),
    ];
    Ok(Section { experiment: Experiment::Falling, text: fill(include_str!("falling.md"), &values)?, figures })
}

/// A name, whether it is drawn dashed, and the figure.
type Figure = (&'static str, bool, fn(&Moment) -> f64);

fn ends(found: &Falling, size: &FallingSize) -> String {
    let rows = OBJECTIVES.iter().map(|name| {
        let held_out = |figure: fn(&Moment) -> f64| found.held_out(name, size.num_steps, figure).plain();
        let training = |figure: fn(&Moment) -> f64| found.at_the_end(name, WINDOW, figure).plain();
        vec![
            label(name).to_owned(),
            held_out(|m| m.chosen),
            held_out(|m| m.rejected),
            held_out(|m| m.chosen - m.rejected),
            found.held_out(name, size.num_steps, |m| m.accuracy).percent(),
            training(|m| m.chosen),
            training(|m| m.rejected),
        ]
    });
    let head = ["", "chosen", "rejected", "margin", "accuracy, %", "chosen, training", "rejected, training"];
    table(&head, rows)
}

/// A figure of an objective over the steps.
type PointsOf = fn(&Falling, &str, fn(&Moment) -> f64) -> Vec<Point>;

/// One line for each objective and figure, over steps, with the error over seeds.
fn chart(title: &str, found: &Falling, figures: &[Figure], points: PointsOf) -> String {
    let mut lines = Vec::new();
    for (name, dashed, figure) in figures {
        for (color, objective) in OBJECTIVES.iter().enumerate() {
            let title = format!("{}, {name}", label(objective));
            // NCA has the color that it has on the rest of the page.
            let line = Line::new(&title, 2 - color, points(found, objective, *figure));
            lines.push(Line { dashed: *dashed, ..line });
        }
    }
    LineChart {
        title: title.to_owned(),
        x: "optimizer steps".to_owned(),
        y: "log π − log π_ref, nats a response".to_owned(),
        lines,
        ..LineChart::default()
    }
    .svg()
}

fn held_out(found: &Falling, objective: &str, figure: fn(&Moment) -> f64) -> Vec<Point> {
    let curves: Vec<&[Moment]> = curves_for(found, objective).map(|curve| curve.held_out.as_slice()).collect();
    over_seeds(&curves, 1, figure)
}

fn training(found: &Falling, objective: &str, figure: fn(&Moment) -> f64) -> Vec<Point> {
    let curves: Vec<&[Moment]> = curves_for(found, objective).map(|curve| curve.training.as_slice()).collect();
    over_seeds(&curves, WINDOW / 2, figure)
}

fn curves_for<'a>(found: &'a Falling, objective: &'a str) -> impl Iterator<Item = &'a crate::falling::Curve> {
    found.curves.iter().filter(move |curve| curve.objective == objective)
}

/// Means over runs of `width` moments, then over the curves.
fn over_seeds(curves: &[&[Moment]], width: usize, figure: fn(&Moment) -> f64) -> Vec<Point> {
    let count = curves.iter().map(|curve| curve.len()).min().unwrap_or(0);
    let points = (0..count).step_by(width).map(|start| {
        let end = (start + width).min(count);
        let mean = |curve: &&[Moment]| curve[start..end].iter().map(figure).sum::<f64>() / (end - start) as f64;
        let over = Estimate::from_values(&curves.iter().map(mean).collect::<Vec<_>>());
        let x = curves[0][start..end].iter().map(|moment| moment.step).sum::<f64>() / (end - start) as f64;
        Point { x, y: over.mean, error: over.standard_error }
    });
    points.collect()
}
