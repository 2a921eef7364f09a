//! The YAML front matter, in the keys of Hugging Face's model cards.

use std::fmt::Write;

use collimate_recipe::DataSources;

use super::{CardInput, last_name, quoted};

/// Evaluation figures for the model index, with their names there.
const EVALUATED: [(&str, &str); 3] = [
    ("eval_loss", "loss"),
    ("eval_rewards/accuracies", "accuracy of implicit rewards"),
    ("eval_rewards/margins", "margin of implicit rewards"),
];

pub(super) fn front_matter(input: &CardInput<'_>) -> String {
    let recipe = input.recipe;
    let (library, relation) = if recipe.use_peft { ("peft", "adapter") } else { ("transformers", "finetune") };
    let mut text = format!(
        "---\nbase_model: {}\nbase_model_relation: {relation}\nlibrary_name: {library}\npipeline_tag: text-generation\n",
        quoted(input.base_name()),
    );
    if let Some(license) = input.license {
        let _ = writeln!(text, "license: {}", quoted(license));
    }
    let data = recipe.data.as_ref().map(names).unwrap_or_default();
    if !data.is_empty() {
        text.push_str("datasets:\n");
        data.iter().for_each(|name| {
            let _ = writeln!(text, "- {}", quoted(name));
        });
    }
    let lora = if recipe.use_peft { "- lora\n" } else { "" };
    let _ = write!(text, "tags:\n- collimate\n- alignment\n- {}\n{lora}", quoted(&recipe.objective.name));
    text.push_str(&model_index(input));
    text + "---\n\n"
}

/// The last evaluation as a model index; empty if there was none.
fn model_index(input: &CardInput<'_>) -> String {
    let found = EVALUATED.iter().filter_map(|(figure, name)| Some((figure, name, input.ends(figure)?.1)));
    let found: Vec<_> = found.collect();
    if found.is_empty() {
        return String::new();
    }
    let recipe = input.recipe;
    let sources = recipe.eval_data.as_ref().or(recipe.data.as_ref());
    let data = quoted(&sources.map(|sources| names(sources).join(", ")).unwrap_or_default());
    let mut text = format!(
        "model-index:\n- name: {}\n  results:\n  - task:\n      type: text-generation\n    dataset:\n      type: {data}\n      \
         name: {data}\n      split: evaluation\n    metrics:\n",
        quoted(&input.name()),
    );
    for (figure, name, value) in found {
        let _ = write!(text, "    - type: {}\n      name: {}\n      value: {value}\n", quoted(figure), quoted(name));
    }
    text
}

fn names(sources: &DataSources) -> Vec<String> {
    sources.parts().iter().map(|part| last_name(&part.path)).collect()
}
