//! The page of pictures, which stands beside the other one: it is another paper.

use anyhow::Result;
use collimate_report::charts::{Line, LineChart, Point};

use super::ablation::point;
use super::{fill, table};
use crate::pictures::{Pictures, Setting, Share};

/// The text of the page, and its figure.
pub(super) struct Page {
    pub(super) text: String,
    pub(super) figure: String,
}

/// The name of the figure.
pub(super) const FIGURE: &str = "pictures-lambda.svg";

pub(super) fn page(found: &Pictures, values: &[(&str, String)]) -> Result<Page> {
    let own = [
        ("seeds", format!("{:?}", found.seeds).replace(['[', ']'], "")),
        ("beta", found.beta.to_string()),
        ("pictures", found.num_pictures.to_string()),
        (
            "aligned",
            settings(
                "λ",
                &found.aligned,
                |value| if value == 0.0 { "0 (`sft`)".to_owned() } else { value.to_string() },
            ),
        ),
        (
            "guided",
            settings(
                "scale",
                &found.guided,
                |value| if value == 1.0 { "1 (none)".to_owned() } else { value.to_string() },
            ),
        ),
    ];
    let text = fill(include_str!("pictures.md"), &[&own, values].concat())?;
    Ok(Page { text, figure: chart(found) })
}

/// A table of settings, one a row.
fn settings(name: &str, all: &[Setting], label: impl Fn(f64) -> String) -> String {
    let row = |setting: &Setting| {
        let percent = |figure: fn(&Share) -> f64| setting.estimate(figure).percent();
        vec![label(setting.value), percent(|share| share.accuracy), percent(|share| share.clean)]
    };
    table(&[name, "show their class, %", "show it cleanly, %"], all.iter().map(row))
}

fn chart(found: &Pictures) -> String {
    let points = |figure: fn(&Share) -> f64| -> Vec<Point> {
        let at = |(x, setting): (usize, &Setting)| point(x as f64, setting.estimate(figure));
        found.aligned.iter().enumerate().map(at).collect()
    };
    let level = |value: f64| -> Vec<Point> {
        let y = 100.0 * value;
        (0..found.aligned.len()).map(|x| Point { x: x as f64, y, error: 0.0 }).collect()
    };
    let mut lines = vec![
        Line::new("show their class", 0, points(|share| share.accuracy)),
        Line::new("show it cleanly", 1, points(|share| share.clean)),
    ];
    let best = |a: &f64, b: &f64| a.total_cmp(b);
    let means = || found.guided.iter().map(|setting| setting.estimate(|share| share.accuracy).mean);
    if let (Some(none), Some(most)) = (means().next(), means().max_by(best)) {
        lines.push(Line { dashed: true, ..Line::new("class, before without guidance", 7, level(none)) });
        lines.push(Line { dashed: true, ..Line::new("class, before with the best guidance", 2, level(most)) });
    }
    let categories = found.aligned.iter().map(|setting| setting.value.to_string()).collect();
    let (x, y) = ("λ (0: supervised training)".to_owned(), "%".to_owned());
    let title = "Pictures drawn without guidance after alignment".to_owned();
    LineChart { title, x, y, categories, lines, ..LineChart::default() }.svg()
}
