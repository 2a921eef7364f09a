//! The targets of a fresh adapter for a mixture, as PEFT reads them ([`by_name`](crate::by_name)).

use std::collections::BTreeSet;

use collimate_hf::{AdapterError, HfError, ModelConfig};

use crate::by_name::taken_names;
use crate::config::{LoraConfig, LoraTargets, adaptable_modules};
use crate::matching::{ModuleNames, ends_in};
use crate::names::leaf;

impl LoraConfig {
    /// The targets of a fresh adapter as PEFT reads them: where it takes a name for that of experts, all of them are meant, whatever
    /// stands before it; and a pattern is the last parts of all names that it matches, in every layer.
    ///
    /// # Errors
    /// [`AdapterError::NotTogether`] for only one of gate and up, which are one parameter; or for names of experts beside
    /// `target_parameters`.
    pub fn resolved_targets(&self, model: &ModelConfig) -> Result<LoraTargets, HfError> {
        let taken = taken_names(model);
        if taken.is_empty() {
            return Ok(self.targets.clone());
        }
        let is_meant = |name: &str| taken.iter().copied().find(|taken| ends_in(name, taken));
        let targets = match &self.targets {
            LoraTargets::AllLinear => LoraTargets::AllLinear,
            LoraTargets::Names(names) => {
                let names = names.iter().map(|name| is_meant(name).map_or_else(|| name.clone(), str::to_owned));
                LoraTargets::Names(names.collect::<BTreeSet<_>>().into_iter().collect())
            }
            LoraTargets::Pattern(_) => match self.leaves_of_pattern(model) {
                // What matches nothing is reported as such.
                leaves if leaves.is_empty() => self.targets.clone(),
                leaves => LoraTargets::Names(leaves.into_iter().collect()),
            },
        };
        let [gate, up, _] = model.family.expert_names();
        let names =
            |name: &str| matches!(&targets, LoraTargets::Names(names) if names.iter().any(|found| found == name));
        let refused = |what: &'static str| Err(AdapterError::NotTogether { what }.into());
        if names(gate) != names(up) {
            return refused("only one of an expert's gate and up among the target modules: one parameter holds both");
        }
        let has_experts = targets == LoraTargets::AllLinear || taken.iter().any(|name| names(name));
        if has_experts && !self.parameters.is_empty() {
            return refused(
                "target_parameters and names of experts or routers among the target modules, as in all-linear",
            );
        }
        Ok(targets)
    }

    /// The last parts of the names that a pattern matches. Those of experts are tried without their numbers.
    fn leaves_of_pattern(&self, model: &ModelConfig) -> BTreeSet<String> {
        let experts = model.family.experts_name();
        let numbered = format!(".{experts}.");
        let is_excluded = |module: &str| {
            self.is_saved(module)
                || self.exclude.as_ref().is_some_and(|excluded: &ModuleNames| excluded.matches(module))
        };
        let names = adaptable_modules(model).into_iter().map(|linear| match linear.module.split_once(&numbered) {
            Some((block, _)) => format!("{block}.{experts}.{}", leaf(&linear.module)),
            None => linear.module,
        });
        let matched = names.filter(|name| self.targets.matches(name) && !is_excluded(name));
        matched.map(|name| leaf(&name).to_owned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use collimate_hf::HostTensor;
    use rstest::rstest;
    use serde_json::json;

    use super::*;
    use crate::adapter::Adapter;
    use crate::matching::ModulePattern;

    /// A dense layer, then experts with a shared layer beside them.
    fn glm() -> ModelConfig {
        let value = json!({
            "model_type": "glm4_moe", "hidden_size": 8, "intermediate_size": 6, "num_attention_heads": 2, "head_dim": 4,
            "num_key_value_heads": 1, "num_hidden_layers": 2, "first_k_dense_replace": 1, "n_routed_experts": 4,
            "num_experts_per_tok": 2, "moe_intermediate_size": 2, "vocab_size": 9, "n_group": 1, "topk_group": 1,
        });
        ModelConfig::from_json(Path::new("config.json"), value).unwrap()
    }

    fn modules(targets: LoraTargets) -> Vec<String> {
        let model = glm();
        let mut config = LoraConfig::new(2, 4.0, targets);
        config.targets = config.resolved_targets(&model).unwrap();
        config.target_modules(&model).unwrap().into_iter().map(|linear| linear.module).collect()
    }

    /// As PEFT 0.21.2 does: only `experts` and the router of layer 1 have matrices beside the attention's.
    #[test]
    fn names_of_experts_are_theirs_alone() {
        let all = modules(LoraTargets::AllLinear);
        assert_eq!(all.len(), 2 * 4 + 1 + 4 * 3);
        assert!(
            all.iter().all(|module| !module.contains("shared_experts") && !module.starts_with("model.layers.0.mlp"))
        );
        let names = |names: &[&str]| LoraTargets::Names(names.iter().map(|name| (*name).to_owned()).collect());
        assert_eq!(modules(names(&["down_proj", "q_proj"])).len(), 4 + 2);
        assert_eq!(modules(names(&["shared_experts.gate_proj", "mlp.up_proj"])).len(), 4 * 2);
    }

    #[rstest]
    #[case(r".*layers\.0\..*(q_proj|gate_proj|up_proj)", 2 + 4 * 2)]
    #[case(r".*mlp\.experts\.down_proj", 4)]
    #[case(r".*self_attn\.k_proj", 2)]
    fn a_pattern_is_the_last_parts_of_what_it_matches(#[case] pattern: &str, #[case] count: usize) {
        assert_eq!(modules(LoraTargets::Pattern(ModulePattern::new(pattern))).len(), count);
    }

    /// As PEFT saved them with transformers 4.
    #[test]
    fn a_file_with_tensors_of_other_layers_by_these_names_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let factors = |height: usize| (HostTensor::zeros([2, 8]), HostTensor::zeros([height, 2]));
        let experts = (0..4).map(|expert| (format!("model.layers.1.mlp.experts.{expert}.up_proj"), factors(2)));
        let dense = [("model.layers.0.mlp.up_proj".to_owned(), factors(6))];
        let config = LoraConfig::new(2, 4.0, LoraTargets::Names(vec!["up_proj".to_owned()]));
        Adapter::of_factors(config, experts.chain(dense)).write(dir.path()).unwrap();
        let error = Adapter::read(dir.path(), &glm()).unwrap_err().to_string();
        assert!(error.contains("layers.0.mlp.up_proj") && error.contains("for that of experts"), "{error}");
    }

    #[test]
    fn half_of_a_parameter_is_refused() {
        let config = LoraConfig::new(2, 4.0, LoraTargets::Names(vec!["gate_proj".to_owned()]));
        let error = config.resolved_targets(&glm()).unwrap_err().to_string();
        assert!(error.contains("only one of an expert's gate and up"), "{error}");
    }
}
