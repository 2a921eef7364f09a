//! The objective as the flat keys of other trainers give it: `loss_type`, `beta`, `simpo_gamma`, ….

use serde_json::{Value as Json, json};
use serde_yaml_ng::Value;

use crate::foreign::Notes;
use crate::objective::ObjectiveSpec;
use crate::objective_terms::{default_of, has_parameter};
use crate::values::KeyType;

/// Keys of other trainers that set a parameter of the objective, with our name for it.
const PARAMETERS: &[(&str, &str)] = &[
    ("beta", "beta"),
    ("alpha", "alpha"),
    ("temperature_alpha", "alpha"),
    ("label_smoothing", "label_smoothing"),
    ("simpo_gamma", "gamma"),
    ("gamma", "gamma"),
    ("discopop_tau", "tau"),
    ("desirable_weight", "desirable_weight"),
    ("undesirable_weight", "undesirable_weight"),
];

/// Flat keys other than [`PARAMETERS`].
const OTHERS: &[&str] = &["loss_type", "loss_weights", "rpo_alpha", "cpo_alpha", "sft_weight", "gamma_beta_ratio"];

/// Parameters that TRL's recipes set for any loss; objectives without them ignore them.
const OFTEN_IDLE: &[&str] = &["gamma", "tau"];

/// The flat keys read so far. They are folded into the objective last, so their order does not matter.
#[derive(Debug, Default)]
pub(crate) struct FlatObjective {
    names: Option<Vec<String>>,
    /// Whether the keys have named a loss.
    names_a_loss: bool,
    weights: Option<Vec<f64>>,
    /// What has not been folded yet.
    new: Parts,
    /// Everything that was given, for an objective that takes the place of the recipe's.
    given: Parts,
    /// SimPO's `gamma_beta_ratio`, which sets γ from a β that may change later.
    gamma_beta_ratio: Option<f64>,
    /// Whether the recipe is one of SimPO's trainer, which has a `gamma` or a `gamma_beta_ratio`.
    is_simpos: bool,
}

/// Parameters and supervised terms.
#[derive(Debug, Default, Clone)]
struct Parts {
    params: Vec<Parameter>,
    /// TRL's `rpo_alpha`: weight of a supervised term.
    supervised: Option<f64>,
    /// CPO's `cpo_alpha` and SimPO's `sft_weight`: the same, but a parameter if the objective has one.
    cpo_supervised: Option<f64>,
}

#[derive(Debug, Clone)]
struct Parameter {
    key: &'static str,
    name: &'static str,
    value: f64,
    /// Whether an objective without the parameter ignores it.
    is_idle: bool,
}

impl FlatObjective {
    /// Every flat key with its documentation.
    pub(crate) fn keys() -> impl Iterator<Item = (&'static str, String)> {
        let parameters = PARAMETERS.iter().map(|(key, name)| (*key, format!("The objective's parameter `{name}`.")));
        parameters.chain(OTHERS.iter().map(|key| (*key, describe(key).to_owned())))
    }

    /// Sets a flat key. The error is what was expected; `None` means that it is another kind of key.
    pub(crate) fn set(&mut self, key: &str, value: &Value) -> Option<Result<(), &'static str>> {
        if let Some((key, name)) = PARAMETERS.iter().find(|(name, _)| *name == key) {
            return Some(f64::from_yaml(value).map(|value| self.parameter(key, name, value)).ok_or(f64::EXPECTED));
        }
        let number = || Option::<f64>::from_yaml(value);
        let taken = match key {
            "loss_type" => {
                self.names_a_loss = true;
                texts(value).map(|names| self.names = Some(names.iter().map(|name| our_name(name)).collect()))
            }
            "loss_weights" => Option::<Numbers>::from_yaml(value).map(|list| self.weights = list.map(|list| list.0)),
            "rpo_alpha" => number().map(|weight| self.each(|parts| parts.supervised = weight)),
            "cpo_alpha" | "sft_weight" => number().map(|weight| self.each(|parts| parts.cpo_supervised = weight)),
            "gamma_beta_ratio" => number().map(|ratio| {
                self.gamma_beta_ratio = ratio;
                self.is_simpos |= ratio.is_some();
            }),
            _ => return None,
        };
        Some(taken.ok_or(match key {
            "loss_type" => "the name of an objective or a list of names",
            "loss_weights" => "a list of numbers",
            _ => f64::EXPECTED,
        }))
    }

    fn parameter(&mut self, key: &'static str, name: &'static str, value: f64) {
        if name == "gamma" {
            self.gamma_beta_ratio = None;
            self.is_simpos |= key == "gamma";
        }
        let is_idle = OFTEN_IDLE.contains(&name) || (name == "label_smoothing" && value == 0.0);
        self.each(|parts| parts.params.push(Parameter { key, name, value, is_idle }));
    }

    fn each(&mut self, change: impl Fn(&mut Parts)) {
        change(&mut self.new);
        change(&mut self.given);
    }

    /// Whether the keys name a loss.
    pub(crate) fn names_a_loss(&self) -> bool {
        self.names_a_loss
    }

    /// The objective of a recipe of TRL's whose keys name no loss: SimPO's trainer has no other one, nor has DPO's.
    pub(crate) fn default_objective(&self) -> ObjectiveSpec {
        ObjectiveSpec::named(if self.is_simpos { "simpo" } else { "dpo" })
    }

    /// Applies all keys but the name of the loss again: another objective has taken the place of the recipe's.
    pub(crate) fn restore(&mut self) {
        self.new = self.given.clone();
        self.new.params.iter_mut().for_each(|parameter| parameter.is_idle = true);
    }

    /// The user set γ in another way.
    pub(crate) fn forget_ratio(&mut self) {
        self.gamma_beta_ratio = None;
    }

    /// Folds the keys into the objective. The error is about the key that it names.
    pub(crate) fn fold(
        &mut self,
        objective: &mut ObjectiveSpec,
        notes: &mut Notes,
    ) -> Result<(), (&'static str, String)> {
        let names = self.names.take();
        let weights = self.weights.take();
        let names = names.map(|names| self.of_simpos_trainer(names)).transpose()?;
        match names.as_deref() {
            // Starts afresh: this objective would refuse the parameters of another.
            Some([name]) if objective.name != *name => *objective = ObjectiveSpec::named(name),
            Some(names) if names.len() > 1 => {
                *objective =
                    ObjectiveSpec::sum(names, weights.as_deref()).map_err(|problem| ("loss_weights", problem))?;
            }
            _ => {}
        }
        let Parts { params, supervised, cpo_supervised } = std::mem::take(&mut self.new);
        for Parameter { key, name, value, is_idle } in params {
            if !objective.set_parameter(name, value, is_idle) {
                notes.without_effect(key);
            }
        }
        if let Some(ratio) = self.gamma_beta_ratio {
            for (name, params) in objective.terms_mut().into_iter().filter(|(name, _)| name != "sft") {
                let beta = params.get("beta").and_then(Json::as_f64).or_else(|| default_of(&name, "beta"));
                // An objective without the parameter refuses it.
                params.insert("gamma".to_owned(), json!(ratio * beta.unwrap_or_default()));
            }
        }
        let cpo = cpo_supervised.filter(|weight| {
            !(has_parameter(&objective.name, "sft_weight") && objective.set_parameter("sft_weight", *weight, false))
        });
        for weight in [supervised, cpo].into_iter().flatten().filter(|weight| *weight != 0.0) {
            objective.add_supervised(weight);
        }
        Ok(())
    }

    /// Fills in what a recipe of TRL's leaves out.
    pub(crate) fn set_trl_defaults(&self, objective: &mut ObjectiveSpec) {
        // SimPO's own trainer has the defaults that the objective has here.
        if self.is_simpos {
            return;
        }
        objective.set_trl_defaults();
        // With TRL, SimPO is a loss of the CPO trainer, which adds the likelihood of the better response.
        if objective.name == "simpo" && self.given.cpo_supervised.is_none() {
            objective.add_supervised(1.0);
        }
    }

    /// SimPO's trainer has the losses `sigmoid` and `hinge`, both with its margin.
    fn of_simpos_trainer(&self, names: Vec<String>) -> Result<Vec<String>, (&'static str, String)> {
        match (self.is_simpos, names.as_slice()) {
            (true, [name]) if name == "dpo" => Ok(vec!["simpo".to_owned()]),
            (true, [name]) if name == "hinge" => {
                Err(("loss_type", "SimPO's hinge loss is not supported; its sigmoid loss is".to_owned()))
            }
            _ => Ok(names),
        }
    }
}

/// A list of numbers.
struct Numbers(Vec<f64>);

impl KeyType for Numbers {
    const EXPECTED: &'static str = "a list of numbers";
    fn from_yaml(value: &Value) -> Option<Self> {
        value.as_sequence()?.iter().map(f64::from_yaml).collect::<Option<_>>().map(Self)
    }
}

fn texts(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::Sequence(names) if !names.is_empty() => names.iter().map(String::from_yaml).collect(),
        name => String::from_yaml(name).map(|name| vec![name]),
    }
}

/// Our name for another trainer's `loss_type`, whatever its case.
fn our_name(loss_type: &str) -> String {
    match loss_type.to_ascii_lowercase().as_str() {
        "sigmoid" => "dpo".to_owned(),
        // So named by the published trainer.
        "biasednca" => "bco_pair".to_owned(),
        other => other.to_owned(),
    }
}

fn describe(key: &str) -> &'static str {
    match key {
        "gamma_beta_ratio" => "Sets SimPO's `gamma` to this multiple of `beta`; alone it names the objective `simpo`.",
        "loss_type" => "The objective by its name in TRL or the published trainer, or a list of objectives to add up.",
        "loss_weights" => "Weights of the objectives in `loss_type`.",
        _ => "Weight of a supervised term on the best response.",
    }
}
