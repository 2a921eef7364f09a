//! The heat maps' part of the page.

use anyhow::Result;
use collimate_report::charts::HeatMap;

use super::theory::label;
use super::{Section, fill, fixed, table};
use crate::options::Experiment;
use crate::sensitivity::{Grid, Sensitivity};
use crate::task::Outcome;

pub(super) fn section(found: &Sensitivity) -> Result<Section> {
    let values = [
        ("rate", format!("{:e}", found.learning_rate)),
        ("seeds", format!("{:?}", found.seeds).replace(['[', ']'], "")),
        ("table", grid_table(found)),
    ];
    let names = [
        ("sensitivity-nca-sampled.svg", 0, true),
        ("sensitivity-nca-greedy.svg", 0, false),
        ("sensitivity-infonca-sampled.svg", 1, true),
        ("sensitivity-infonca-greedy.svg", 1, false),
    ];
    let figure =
        |(name, grid, sampled): (&'static str, usize, bool)| Some((name, map(found, found.grids.get(grid)?, sampled)));
    let figures = names.into_iter().filter_map(figure).collect();
    Ok(Section { experiment: Experiment::Sensitivity, text: fill(include_str!("sensitivity.md"), &values)?, figures })
}

fn map(found: &Sensitivity, grid: &Grid, sampled: bool) -> String {
    let figure: fn(&Outcome) -> f64 = if sampled { |o| o.sampled } else { |o| o.greedy };
    let values = grid.means(figure).iter().map(|row| row.iter().map(|cell| cell.mean).collect()).collect();
    let how = if sampled { "sampled" } else { "greedy" };
    HeatMap {
        title: format!("{}: held-out problems solved, {how}, %", label(&grid.objective)),
        x: "β".to_owned(),
        y: "α".to_owned(),
        columns: found.betas.iter().map(f64::to_string).collect(),
        rows: found.alphas.iter().map(f64::to_string).collect(),
        values,
    }
    .svg()
}

/// Change of the chosen responses' likelihood, by α and β.
fn grid_table(found: &Sensitivity) -> String {
    let mut rows = Vec::new();
    for grid in &found.grids {
        for (alpha, cells) in found.alphas.iter().zip(grid.means(|o| o.chosen_change)) {
            let mut row = vec![label(&grid.objective).to_owned(), alpha.to_string()];
            row.extend(cells.iter().map(|cell| fixed(cell.mean, 2)));
            rows.push(row);
        }
    }
    let betas = found.betas.iter().map(|beta| format!("β = {beta}"));
    let head: Vec<String> = ["", "α"].map(str::to_owned).into_iter().chain(betas).collect();
    table(&head.iter().map(String::as_str).collect::<Vec<_>>(), rows)
}
