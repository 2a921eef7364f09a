//! The modules that are adapted if none are named.

use std::collections::BTreeSet;

use collimate_hf::{LinearSpec, ModelConfig, linear_modules};

use crate::config::LoraTargets;
use crate::matching::ModulePattern;

/// All linear layers; of an image-and-text model those of the text part, by a pattern that PEFT reads, too.
///
/// PEFT's own `all-linear` would reach the tower, which trainers that publish recipes leave as it is.
pub fn all_linear(model: &ModelConfig) -> LoraTargets {
    let Some(vision) = &model.vision else { return LoraTargets::AllLinear };
    let is_text = |linear: &LinearSpec| !vision.is_inside(&linear.module);
    let layers = linear_modules(model).into_iter().filter(is_text);
    let leaves: BTreeSet<String> =
        layers.filter_map(|linear| Some(linear.module.rsplit_once('.')?.1.to_owned())).collect();
    let leaves: Vec<String> = leaves.into_iter().collect();
    LoraTargets::Pattern(ModulePattern::new(&format!(r"^(?!.*visual).*\.({})", leaves.join("|"))))
}

/// PEFT's default targets for models of a type, if it has any (`TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING` of PEFT
/// 0.21).
pub fn peft_default_targets(model_type: &str) -> Option<&'static [&'static str]> {
    const QUERIES_AND_VALUES: [&str; 9] =
        ["gemma", "gemma2", "gemma3_text", "llama", "mistral", "mixtral", "qwen2", "qwen3", "stablelm"];
    match model_type {
        "phi" => Some(&["q_proj", "v_proj", "fc1", "fc2"]),
        other => QUERIES_AND_VALUES.contains(&other).then_some(&["q_proj", "v_proj"]),
    }
}

#[cfg(test)]
mod tests {
    use collimate_hf::FAMILIES;

    use super::*;

    #[test]
    fn types_without_a_default_in_peft_have_none_here() {
        let without =
            FAMILIES.iter().map(|family| family.model_type).filter(|name| peft_default_targets(name).is_none());
        let expected = [
            "ministral3",
            "qwen3_moe",
            "phi3",
            "olmo2",
            "olmo3",
            "smollm3",
            "granite",
            "glm4_moe",
            "gpt_oss",
            "llamagen",
            "var",
            "qwen3_5_text",
            "qwen3_5_moe_text",
            "qwen2_vl_text",
            "qwen2_5_vl_text",
        ];
        assert_eq!(without.collect::<Vec<_>>(), expected);
        assert_eq!(peft_default_targets("llama"), Some(["q_proj", "v_proj"].as_slice()));
    }
}
