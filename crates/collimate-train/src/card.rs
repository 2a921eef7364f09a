//! The model card: `README.md` beside the final model or adapter.

use std::fmt::Write;
use std::path::Path;

use serde_json::Value;

use crate::metrics::MetricsRow;
use crate::recipe::{DataSources, Recipe};

/// What a model card tells.
#[derive(Debug, Clone, Copy)]
pub struct CardInput<'a> {
    /// The recipe of the run.
    pub recipe: &'a Recipe,
    /// Paper of the objective, as the registry gives it.
    pub paper: &'a str,
    /// Prompts that were trained on.
    pub num_groups: usize,
    /// Optimizer steps that were made.
    pub num_steps: usize,
    /// The last step's figures.
    pub last: Option<&'a MetricsRow>,
    /// Results beside the metrics, as in the report.
    pub results: Option<&'a Value>,
}

/// The card as Markdown with YAML metadata. Folders and files are named without their paths.
pub fn render_card(input: &CardInput<'_>) -> String {
    let recipe = input.recipe;
    let base = recipe.model_name_or_path.as_deref().map_or_else(|| "unknown".to_owned(), base_name);
    let data = recipe.data.as_ref().map_or_else(|| "unknown".to_owned(), DataSources::file_names);
    let objective = &recipe.objective.name;
    let (library, kind) = if recipe.use_peft { ("peft", "LoRA adapter") } else { ("transformers", "model") };
    let mut card = format!(
        "---\nbase_model: {}\nlibrary_name: {library}\ntags:\n- collimate\n- alignment\n- {}\n---\n\n# {}\n\n",
        quoted(base.split('@').next().unwrap_or(&base)),
        quoted(objective),
        last_name(&recipe.output_dir),
    );
    let _ = write!(
        card,
        "A {kind} aligned with the objective `{objective}` from explicit rewards.\n\n\
         | | |\n|---|---|\n| Base | {base} |\n| Data | {data}, {} prompts |\n| Objective | {objective}{} |\n\
         | Paper | {} |\n| Steps | {} of {} prompts |\n| Learning rate | {:e}, {} |\n| Seed | {} |\n\
         | Made with | collimate {} |\n",
        input.num_groups,
        parameters(recipe),
        input.paper,
        input.num_steps,
        recipe.groups_per_step(),
        recipe.learning_rate,
        serde_json::to_value(recipe.lr_scheduler_type).ok().as_ref().and_then(Value::as_str).unwrap_or_default(),
        recipe.seed,
        env!("CARGO_PKG_VERSION"),
    );
    card.push_str(&results_section(input.results));
    card.push_str(&figures_section(input.last));
    card.push_str(
        "\n## Method\n\nNoise contrastive alignment of language models with explicit rewards: \
         [arXiv 2402.05369](https://arxiv.org/abs/2402.05369).\n\nThe whole recipe is in `recipe.yaml`, the figures of \
         every step in `metrics.jsonl`, their charts in `report.html`.\n",
    );
    card
}

fn parameters(recipe: &Recipe) -> String {
    let given = recipe.objective.params.iter().map(|(name, value)| format!("{name} {value}"));
    let given: Vec<String> = given.collect();
    if given.is_empty() { String::new() } else { format!(" ({})", given.join(", ")) }
}

fn results_section(results: Option<&Value>) -> String {
    let Some(Value::Object(entries)) = results else { return String::new() };
    let mut text = "\n## Results\n\n| result | before | after |\n|---|---|---|\n".to_owned();
    for (name, value) in entries {
        let (before, after) = match value.as_object() {
            Some(pair) => (pair.get("before"), pair.get("after")),
            None => (None, Some(value)),
        };
        let show = |value: Option<&Value>| value.map(|v| crate::report::result_text(name, v)).unwrap_or_default();
        let _ = writeln!(text, "| {name} | {} | {} |", show(before), show(after));
    }
    text
}

fn figures_section(last: Option<&MetricsRow>) -> String {
    let Some(last) = last else { return String::new() };
    let mut text = "\n## Last step\n\n| figure | value |\n|---|---|\n".to_owned();
    for name in ["loss", "rewards/chosen", "rewards/rejected", "rewards/accuracies", "rewards/margins"] {
        if let Some(value) = last.get(name) {
            let _ = writeln!(text, "| {name} | {value:.4} |");
        }
    }
    text
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
mod tests {
    use std::path::PathBuf;

    use serde_json::json;

    use super::*;

    #[test]
    fn a_card_names_base_data_objective_paper_version_and_results() {
        let recipe = Recipe {
            model_name_or_path: Some(PathBuf::from("/secret/place/tiny: base")),
            data: Some(PathBuf::from("/secret/place/rewards.jsonl").into()),
            use_peft: true,
            ..Recipe::default()
        };
        let results = json!({"greedy accuracy": {"before": 0.25, "after": 0.75}});
        let mut last = MetricsRow::default();
        last.set("loss", 1.25);
        let card = render_card(&CardInput {
            recipe: &recipe,
            paper: "arXiv 2402.05369 (NCA)",
            num_groups: 12,
            num_steps: 3,
            last: Some(&last),
            results: Some(&results),
        });
        let metadata = card.split("---").nth(1).expect("metadata");
        let metadata: serde_yaml_ng::Value = serde_yaml_ng::from_str(metadata).expect("YAML");
        assert_eq!(metadata["base_model"], "tiny: base");
        assert_eq!(metadata["library_name"], "peft");
        for part in ["rewards.jsonl, 12 prompts", "nca", "2402.05369", env!("CARGO_PKG_VERSION"), "75.0%", "1.2500"] {
            assert!(card.contains(part), "{part} in {card}");
        }
        assert!(!card.contains("secret"), "{card}");
    }
}
