//! Which modules PEFT adapts by their names, in models whose experts transformers holds in one tensor a block.
//!
//! transformers 5 has no modules for experts and routers. For some families PEFT takes their old names among
//! `target_modules` for the parameters that hold them, wherever else a module has the same name: of `gate_proj`, `up_proj` and
//! `down_proj` in a mixture, only the experts are adapted, not the dense layers before and beside them. It looks at the last
//! part of a name alone (`_convert_peft_config_moe` of PEFT 0.21).

use collimate_hf::ModelConfig;

use crate::matching::ends_in;
use crate::names::leaf;

/// The router in transformers 5.
const ROUTER: &str = "mlp.gate";

/// The last parts of names that PEFT takes for those of experts and routers; none where it does not.
pub(crate) fn taken_names(model: &ModelConfig) -> Vec<&'static str> {
    let family = model.family;
    if model.experts.is_none() || !family.adapts_experts() {
        return Vec::new();
    }
    family.expert_names().into_iter().chain([leaf(family.router_name())]).collect()
}

/// Whether PEFT adapts a module by its name. All others it can only adapt as parameters.
pub(crate) fn has_name(model: &ModelConfig, module: &str) -> bool {
    if model.experts.is_none() {
        return true;
    }
    let family = model.family;
    let is_expert = module.contains(&format!(".{}.", family.experts_name()));
    match is_expert || ends_in(module, family.router_name()) {
        true => family.adapts_experts(),
        false => !taken_names(model).contains(&leaf(module)),
    }
}

/// The name of a router in the model's files, given that in transformers 5, where every mixture's is `mlp.gate`; `None` for any
/// other module, and where both are the same.
pub(crate) fn router_here(model: &ModelConfig, module: &str) -> Option<String> {
    let name = model.family.router_name();
    let is_other = model.experts.is_some() && model.family.adapts_experts() && name != ROUTER;
    let block = module.strip_suffix(ROUTER).filter(|block| is_other && block.ends_with('.'))?;
    Some(format!("{block}{name}"))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::*;

    #[test]
    fn routers_have_the_names_of_the_models_files() {
        let here = |model_type: &str| {
            let config = json!({"model_type": model_type, "num_hidden_layers": 1, "vocab_size": 9});
            let config = ModelConfig::from_json(Path::new("config.json"), config).unwrap();
            router_here(&config, "model.layers.0.mlp.gate")
        };
        assert_eq!(here("mixtral").as_deref(), Some("model.layers.0.block_sparse_moe.gate"));
        assert_eq!((here("qwen3_moe"), here("llama")), (None, None));
    }
}
