//! TRL's defaults, which recipes of TRL's have for what they leave out.

use collimate_objective::registry;
use serde_json::Value as Json;
use serde_yaml_ng::Value;

use crate::objective::ObjectiveSpec;
use crate::recipe::Recipe;
use crate::trainer::Trainer;

/// Version of TRL whose defaults are meant.
pub const TRL_VERSION: &str = "1.16";

/// How keys that a recipe leaves out are filled in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum TrlDefaults {
    /// With TRL's defaults if the recipe's file has a key that only TRL has and does not name an `objective`.
    #[default]
    ByFile,
    /// As [`Self::ByFile`], and also if these arguments have such a key.
    ByFileOrArguments(Vec<String>),
    /// With TRL's defaults.
    Always,
    /// With ours.
    Never,
}

/// A key that a recipe here and one of TRL's have both, and its default in TRL.
struct TrlDefault {
    key: &'static str,
    /// TRL's default as a recipe here puts it, in YAML.
    value: &'static str,
    /// Where it comes from, if not from a field of the same name.
    remark: &'static str,
}

const fn same(key: &'static str, value: &'static str) -> TrlDefault {
    TrlDefault { key, value, remark: "" }
}

const fn in_words(key: &'static str, value: &'static str, remark: &'static str) -> TrlDefault {
    TrlDefault { key, value, remark }
}

/// Defaults of TRL's `DPOConfig` and `ModelConfig`, and of transformers' `TrainingArguments`, for every key that there is
/// here too.
const TABLE: [TrlDefault; 34] = [
    in_words("objective", "dpo", "`loss_type: sigmoid`"),
    in_words("torch_dtype", "float32", "`dtype`"),
    same("max_length", "1024"),
    in_words("max_prompt_length", "null", "prompts are not shortened: `truncation_mode: keep_start`"),
    in_words("skip_long_prompts", "true", "such rows are left out"),
    same("learning_rate", "1.0e-6"),
    same("lr_scheduler_type", "linear"),
    same("lr_scheduler_kwargs", "null"),
    in_words("warmup_ratio", "0.0", "`warmup_steps: 0`"),
    same("warmup_steps", "0"),
    same("max_steps", "-1"),
    same("num_train_epochs", "3.0"),
    same("per_device_train_batch_size", "8"),
    same("gradient_accumulation_steps", "1"),
    same("per_device_eval_batch_size", "8"),
    same("dataloader_drop_last", "false"),
    same("max_grad_norm", "1.0"),
    same("weight_decay", "0.0"),
    in_words("decay_norms", "false", "transformers' trainer does not decay norms and biases"),
    same("adam_beta1", "0.9"),
    same("adam_beta2", "0.999"),
    same("adam_epsilon", "1.0e-8"),
    in_words("router_aux_loss_coef", "model", "the weight in the model's configuration"),
    same("use_peft", "false"),
    same("lora_r", "16"),
    same("lora_alpha", "32.0"),
    same("lora_dropout", "0.05"),
    in_words("lora_target_modules", "peft-default", "PEFT's choice for the model's type, mostly `q_proj` and `v_proj`"),
    same("seed", "42"),
    same("logging_steps", "10"),
    same("logging_first_step", "false"),
    same("eval_strategy", "no"),
    same("save_steps", "500"),
    same("save_total_limit", "null"),
];

/// Parameters that TRL has as keys of their own, with its defaults. Objectives here may recommend others.
const PARAMETERS: [(&str, f64); 3] = [("beta", 0.1), ("label_smoothing", 0.0), ("tau", 0.05)];

/// The parameters of TRL's CPO trainer when its loss is SimPO's.
const CPO_SIMPO: [(&str, f64); 2] = [("beta", 0.1), ("gamma", 0.5)];

/// A default that differs between recipes here and recipes of TRL's.
#[derive(Debug, Clone, PartialEq)]
pub struct DifferentDefault {
    /// The key.
    pub key: &'static str,
    /// The default here.
    pub ours: Json,
    /// TRL's default, in the terms of this key.
    pub trl: Json,
    /// How TRL puts it, if it does not have this key.
    pub remark: &'static str,
}

impl Recipe {
    /// Every default of TRL's that differs from ours, in the order of the table.
    pub fn different_trl_defaults() -> Vec<DifferentDefault> {
        let (ours, mut trl) = (Self::default(), Self::default());
        trl.set_trl_defaults(Trainer::Dpo, &|_| false);
        let (ours, trl) = (as_json(&ours), as_json(&trl));
        let row = |default: &TrlDefault| {
            let (ours, trl) = (ours[default.key].clone(), trl[default.key].clone());
            (ours != trl).then_some(DifferentDefault { key: default.key, ours, trl, remark: default.remark })
        };
        TABLE.iter().filter_map(row).collect()
    }

    /// Sets TRL's defaults for all keys that are not set; returns those that changed, as `key value`.
    pub(crate) fn set_trl_defaults(&mut self, trainer: Trainer, is_set: &dyn Fn(&str) -> bool) -> Vec<String> {
        let before = as_json(self);
        let own = trainer.defaults();
        let common = TABLE.iter().map(|default| (default.key, default.value));
        let common = common.filter(|(key, _)| own.iter().all(|(name, _)| name != key));
        let defaults: Vec<_> = common.chain(own.iter().copied()).filter(|(key, _)| !is_set(key)).collect();
        for (key, value) in &defaults {
            // The values are constants, which a test reads.
            self.set_key(key, &serde_yaml_ng::from_str(value).unwrap_or(Value::Null));
        }
        let after = as_json(self);
        let changed = defaults.iter().filter(|(key, _)| before[key] != after[key]);
        changed.map(|(key, value)| format!("{key} {value}")).collect()
    }
}

fn as_json(recipe: &Recipe) -> Json {
    serde_json::to_value(recipe).unwrap_or_default()
}

impl ObjectiveSpec {
    /// Fills in the parameters that a recipe of TRL's leaves out, where its default is another than the objective's own.
    pub(crate) fn set_trl_defaults(&mut self) {
        if self.name == "simpo" {
            return CPO_SIMPO.iter().for_each(|(name, value)| self.fill_in(name, *value));
        }
        PARAMETERS.iter().for_each(|(name, value)| self.fill_in(name, *value));
    }

    fn fill_in(&mut self, parameter: &str, value: f64) {
        for (name, params) in self.terms_mut() {
            let default = registry::find(&name).ok().and_then(|plugin| plugin.defaults().get(parameter)?.as_f64());
            // TRL refuses EXO without smoothing instead of having a default that works.
            let is_refused = name == "exo_pair" && parameter == "label_smoothing";
            if default.is_some_and(|default| default != value) && !is_refused && !params.contains_key(parameter) {
                params.insert(parameter.to_owned(), value.into());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use collimate_objectives as _;

    use super::*;

    #[test]
    fn every_default_of_the_table_is_a_value_of_its_key() {
        for default in &TABLE {
            let value: Value = serde_yaml_ng::from_str(default.value).expect("YAML");
            let mut recipe = Recipe::default();
            assert_eq!(recipe.set_key(default.key, &value), Some(Ok(())), "{}", default.key);
        }
    }

    #[test]
    fn what_differs_is_listed_with_both_defaults() {
        let found = Recipe::different_trl_defaults();
        let of =
            |key: &str| found.iter().find(|default| default.key == key).map(|one| (one.ours.clone(), one.trl.clone()));
        assert_eq!(of("learning_rate"), Some((5e-6.into(), 1e-6.into())));
        assert_eq!(of("lora_alpha"), Some((16.0.into(), 32.0.into())));
        assert_eq!(of("seed"), None);
    }
}
