//! The model card: `README.md` beside the final model or adapter.
//!
//! Folders and files are named without their paths, since a card is published.

mod citation;
mod metadata;
mod sections;

use std::path::Path;

use collimate_recipe::Recipe;
use serde_json::Value;

use crate::history::History;
use crate::metrics::MetricsRow;

/// The exact version of burn that the workspace pins.
const BURN_VERSION: &str = "0.21.0";

/// The contents of a model card.
#[derive(Debug, Clone, Copy)]
pub struct CardInput<'a> {
    /// The recipe of the run.
    pub recipe: &'a Recipe,
    /// Name of the model that training started from: its folder's, or `org/name@commit` on the hub.
    pub base: &'a str,
    /// What the objective does, from the registry.
    pub summary: &'a str,
    /// The objective's paper, from the registry.
    pub paper: &'a str,
    /// BLAKE3 of the base model's weights and settings, in hexadecimal.
    pub base_hash: Option<&'a str>,
    /// Format in which the base model's weights are packed, if they are.
    pub base_packing: Option<&'a str>,
    /// License of the base model, from its own card.
    pub license: Option<&'a str>,
    /// Prompts that were trained on.
    pub num_groups: usize,
    /// Optimizer steps taken.
    pub num_steps: usize,
    /// What `metrics.jsonl` tells of steps and evaluations.
    pub history: &'a History,
    /// The evaluation whose weights are saved, if it is not the last.
    pub saved: Option<&'a MetricsRow>,
    /// Results beyond the metrics, as in the report.
    pub results: Option<&'a Value>,
}

impl CardInput<'_> {
    /// The base without its commit on the hub, which is how other programs name it.
    fn base_name(&self) -> &str {
        self.base.split('@').next().unwrap_or(self.base)
    }

    fn name(&self) -> String {
        last_name(&self.recipe.output_dir)
    }

    /// The first and last value of a figure, or that of the weights that are saved; `None` if no row has it.
    fn ends(&self, figure: &str) -> Option<(f64, f64)> {
        let (first, last) = self.history.ends(figure)?;
        Some((first, self.saved.and_then(|row| row.get(figure)).unwrap_or(last)))
    }
}

/// Renders the card as Markdown with YAML metadata.
pub fn render_card(input: &CardInput<'_>) -> String {
    let mut card = metadata::front_matter(input);
    card.push_str(&sections::overview(input));
    card.push_str(&sections::usage(input));
    card.push_str(&sections::results(input));
    card.push_str(&sections::figures(input));
    card.push_str(&sections::arguments(input));
    card.push_str(&citation::section(input.paper));
    card.push_str(
        "\n## Files\n\nThe whole recipe is in `recipe.yaml`, the figures of every step in `metrics.jsonl`, their charts in \
         `report.html`.\n",
    );
    card
}

/// The license in the metadata of a model card, if it is a plain identifier.
pub fn license_of(card: &str) -> Option<String> {
    let metadata = card.strip_prefix("---\n")?.split("\n---").next()?;
    let license = metadata.lines().find_map(|line| line.strip_prefix("license:"))?.trim().trim_matches(['"', '\'']);
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '+');
    (!license.is_empty() && license.len() <= 64 && license.chars().all(plain)).then(|| license.to_owned())
}

fn last_name(path: &Path) -> String {
    path.file_name().map_or_else(|| path.display().to_string(), |name| name.display().to_string())
}

/// Text as a YAML scalar; a JSON string is one.
fn quoted(text: &str) -> String {
    Value::String(text.to_owned()).to_string()
}

#[cfg(test)]
mod tests;
