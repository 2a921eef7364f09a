//! What advice about a run depends on.

use collimate_data::counted;
use collimate_recipe::Recipe;
use serde_yaml_ng::Value;

use crate::numbers::short;
use crate::run_info::RunInfo;

/// Below this rate an adapter hardly moves unless the run is long.
const LOW_LORA_RATE: f64 = 1e-5;

/// The rate to suggest for an adapter.
const LORA_RATE: f64 = 1e-4;

/// A run with as many steps learns even at a low rate; the published recipe has some 2,000.
const MANY_STEPS: usize = 1000;

/// Settings of a run that its advice names. Objectives are known by their properties only.
#[derive(Debug, Clone, PartialEq)]
pub struct RunFacts {
    /// Peak learning rate.
    pub learning_rate: f64,
    /// Whether an adapter is trained.
    pub use_peft: bool,
    /// β, if the objective has it.
    pub beta: Option<f64>,
    /// Whether the objective holds each response's likelihood; `None` if the run's folder does not say.
    pub holds_likelihood: Option<bool>,
    /// Fall of the chosen responses' log-prob to warn at, in nats; zero for never.
    pub alarm_chosen_drop: f64,
}

impl RunFacts {
    /// The facts of a run by its resolved recipe and, if it is there, its `run.json`. What a damaged recipe lacks is taken
    /// from the defaults.
    pub fn new(recipe_yaml: &str, info: Option<&RunInfo>) -> Self {
        let recipe: Value = serde_yaml_ng::from_str(recipe_yaml).unwrap_or_default();
        let number = |key: &str| recipe.get(key).and_then(Value::as_f64);
        let defaults = Recipe::default();
        let given = || recipe.get("objective").and_then(|objective| objective.get("beta")).and_then(Value::as_f64);
        Self {
            learning_rate: number("learning_rate").unwrap_or(defaults.learning_rate),
            use_peft: recipe.get("use_peft").and_then(Value::as_bool).unwrap_or(defaults.use_peft),
            beta: info.and_then(|info| info.parameters.get("beta")?.as_f64()).or_else(given),
            holds_likelihood: info.map(|info| info.holds_likelihood),
            alarm_chosen_drop: number("alarm_chosen_drop").unwrap_or(defaults.alarm_chosen_drop),
        }
    }

    /// A warning before the first step if an adapter would hardly move in `total_steps`.
    pub fn low_rate(&self, total_steps: usize) -> Option<String> {
        let is_low = self.use_peft && self.learning_rate < LOW_LORA_RATE && total_steps < MANY_STEPS;
        is_low.then(|| {
            format!(
                "learning_rate {} is low for an adapter in {}: LoRA needs about ten times the rate of full \
                 fine-tuning, such as {}",
                short(self.learning_rate),
                counted(total_steps, "step"),
                short(LORA_RATE)
            )
        })
    }

    pub(super) fn higher_rate(&self) -> String {
        let now = short(self.learning_rate);
        if self.use_peft && self.learning_rate < LORA_RATE {
            let target = short(LORA_RATE);
            return format!(
                "learning_rate {target} instead of {now}: an adapter needs about ten times the rate of full fine-tuning"
            );
        }
        format!("a learning_rate three to ten times as high (now {now})")
    }

    pub(crate) fn lower_rate(&self) -> String {
        format!("a lower learning_rate (now {})", short(self.learning_rate))
    }

    pub(crate) fn larger_beta(&self) -> Option<String> {
        let beta = self.beta?;
        Some(format!("a larger beta (now {}), which holds the policy nearer to the reference", short(beta)))
    }
}
