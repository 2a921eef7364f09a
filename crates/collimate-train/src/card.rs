//! The model card: `README.md` beside the final model or adapter.
//!
//! Folders and files are named without their paths: a card is published.

mod citation;
mod metadata;
mod sections;

use std::path::Path;

use serde_json::Value;

use crate::metrics::MetricsRow;
use crate::recipe::Recipe;

/// The exact version of burn that the workspace pins.
const BURN_VERSION: &str = "0.21.0";

/// What a model card tells.
#[derive(Debug, Clone, Copy)]
pub struct CardInput<'a> {
    /// The recipe of the run.
    pub recipe: &'a Recipe,
    /// What the objective does, as the registry says it.
    pub summary: &'a str,
    /// Paper of the objective, as the registry gives it.
    pub paper: &'a str,
    /// BLAKE3 of the base model's weights and settings, in hexadecimal.
    pub base_hash: Option<&'a str>,
    /// Licence of the base model, as its own card names it.
    pub license: Option<&'a str>,
    /// Prompts that were trained on.
    pub num_groups: usize,
    /// Optimizer steps that were made.
    pub num_steps: usize,
    /// Rows of `metrics.jsonl`: steps and evaluations, in order.
    pub rows: &'a [MetricsRow],
    /// Results beside the metrics, as in the report.
    pub results: Option<&'a Value>,
}

impl CardInput<'_> {
    fn base(&self) -> String {
        self.recipe.model_name_or_path.as_deref().map_or_else(|| "unknown".to_owned(), base_name)
    }

    /// The base as others name it: without the commit of the hub.
    fn base_name(&self) -> String {
        let base = self.base();
        base.split('@').next().unwrap_or(&base).to_owned()
    }

    fn name(&self) -> String {
        last_name(&self.recipe.output_dir)
    }

    /// The first and the last row that has a figure; none where no row has it.
    fn ends(&self, figure: &str) -> Option<(f64, f64)> {
        let mut values = self.rows.iter().filter_map(|row| row.get(figure));
        let first = values.next()?;
        Some((first, values.next_back().unwrap_or(first)))
    }
}

/// The card as Markdown with YAML metadata.
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

/// The licence that a model's own card names in its metadata, where it is a plain identifier.
pub(crate) fn license_of(card: &str) -> Option<String> {
    let metadata = card.strip_prefix("---\n")?.split("\n---").next()?;
    let license = metadata.lines().find_map(|line| line.strip_prefix("license:"))?.trim().trim_matches(['"', '\'']);
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '+');
    (!license.is_empty() && license.len() <= 64 && license.chars().all(plain)).then(|| license.to_owned())
}

/// The name of a model: on the hub with its commit where it is in the hub's cache, else its folder's.
fn base_name(path: &Path) -> String {
    collimate_hub::name_of_snapshot(path).unwrap_or_else(|| last_name(path))
}

fn last_name(path: &Path) -> String {
    path.file_name().map_or_else(|| path.display().to_string(), |name| name.display().to_string())
}

/// Text as a YAML scalar: a JSON string is one.
fn quoted(text: &str) -> String {
    Value::String(text.to_owned()).to_string()
}

#[cfg(test)]
mod tests;
