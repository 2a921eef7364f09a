//! The objective as the flat keys of other trainers give it: `loss_type`, `beta`, `simpo_gamma`, ….

use collimate_objective::registry;
use serde_json::{Map, Value as Json, json};
use serde_yaml_ng::Value;

use crate::foreign::Notes;
use crate::objective::ObjectiveSpec;
use crate::values::KeyType;

/// Keys of other trainers that set a parameter of the objective, with our name for it.
const PARAMETERS: &[(&str, &str)] = &[
    ("beta", "beta"),
    ("alpha", "alpha"),
    ("temperature_alpha", "alpha"),
    ("label_smoothing", "label_smoothing"),
    ("simpo_gamma", "gamma"),
    ("discopop_tau", "tau"),
];

/// Flat keys other than [`PARAMETERS`].
const OTHERS: &[&str] = &["loss_type", "loss_weights", "rpo_alpha", "cpo_alpha"];

/// Parameters that TRL's recipes set for any loss; objectives without them ignore them.
const OFTEN_IDLE: &[&str] = &["gamma", "tau"];

/// The flat keys read so far. They are folded into the objective last, so their order does not matter.
#[derive(Debug, Default)]
pub(crate) struct FlatObjective {
    names: Option<Vec<String>>,
    weights: Option<Vec<f64>>,
    params: Vec<(&'static str, &'static str, f64)>,
    /// TRL's `rpo_alpha`: weight of a supervised term.
    supervised: Option<f64>,
    /// CPO's `cpo_alpha`: the same, but a parameter if the objective has one.
    cpo_supervised: Option<f64>,
}

impl FlatObjective {
    /// Every flat key with its documentation.
    pub(crate) fn keys() -> impl Iterator<Item = (&'static str, String)> {
        let parameters = PARAMETERS.iter().map(|(key, name)| (*key, format!("The objective's parameter `{name}`.")));
        parameters.chain(OTHERS.iter().map(|key| (*key, describe(key).to_owned())))
    }

    /// Sets a flat key. The error is what was expected; `None` means that it is another kind of key.
    pub(crate) fn set(&mut self, key: &str, value: &Value) -> Option<Result<(), &'static str>> {
        if let Some((key, parameter)) = PARAMETERS.iter().find(|(name, _)| *name == key) {
            return Some(match f64::from_yaml(value) {
                Some(number) => {
                    self.params.push((key, parameter, number));
                    Ok(())
                }
                None => Err(f64::EXPECTED),
            });
        }
        let taken = match key {
            "loss_type" => {
                texts(value).map(|names| self.names = Some(names.iter().map(|name| our_name(name)).collect()))
            }
            "loss_weights" => Option::<Numbers>::from_yaml(value).map(|list| self.weights = list.map(|list| list.0)),
            "rpo_alpha" => Option::<f64>::from_yaml(value).map(|weight| self.supervised = weight),
            "cpo_alpha" => Option::<f64>::from_yaml(value).map(|weight| self.cpo_supervised = weight),
            _ => return None,
        };
        Some(taken.ok_or(match key {
            "loss_type" => "the name of an objective or a list of names",
            "loss_weights" => "a list of numbers",
            _ => f64::EXPECTED,
        }))
    }

    /// Folds the keys into the objective. An error is about `loss_weights`.
    pub(crate) fn fold(&mut self, objective: &mut ObjectiveSpec, notes: &mut Notes) -> Result<(), String> {
        let Self { names, weights, params, supervised, cpo_supervised } = std::mem::take(self);
        match names.as_deref() {
            // Starts afresh: this objective would refuse the parameters of another.
            Some([name]) if objective.name != *name => *objective = ObjectiveSpec::named(name),
            Some(names) if names.len() > 1 => *objective = ObjectiveSpec::sum(names, weights.as_deref())?,
            _ => {}
        }
        for (key, parameter, value) in params {
            let idle = OFTEN_IDLE.contains(&parameter) || (parameter == "label_smoothing" && value == 0.0);
            if !objective.set_parameter(parameter, value, idle) {
                notes.without_effect(key);
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
}

impl ObjectiveSpec {
    /// A weighted sum of objectives; weights default to 1.
    fn sum(names: &[String], weights: Option<&[f64]>) -> Result<Self, String> {
        if weights.is_some_and(|weights| weights.len() != names.len()) {
            return Err(format!(
                "{} weights for the {} objectives of loss_type",
                weights.unwrap_or_default().len(),
                names.len()
            ));
        }
        let weight = |index: usize| weights.map_or(1.0, |weights| weights[index]);
        let terms = names.iter().enumerate().map(|(index, name)| json!({"name": name, "weight": weight(index)}));
        Ok(Self::combined(terms.collect()))
    }

    fn combined(terms: Vec<Json>) -> Self {
        let mut params = Map::new();
        params.insert("terms".to_owned(), Json::Array(terms));
        Self { name: "combine".to_owned(), params }
    }

    /// Sets a parameter, in a sum on every term that has it. Returns false if it is `idle` and no objective has it.
    fn set_parameter(&mut self, parameter: &str, value: f64, idle: bool) -> bool {
        let terms = self.params.get_mut("terms").and_then(Json::as_array_mut).filter(|_| self.name == "combine");
        let Some(terms) = terms else {
            let takes = !idle || has_parameter(&self.name, parameter);
            if takes {
                self.params.insert(parameter.to_owned(), json!(value));
            }
            return takes;
        };
        let mut taken = false;
        for term in terms.iter_mut().filter_map(Json::as_object_mut) {
            if term.get("name").and_then(Json::as_str).is_some_and(|name| has_parameter(name, parameter)) {
                term.insert(parameter.to_owned(), json!(value));
                taken = true;
            }
        }
        taken
    }

    /// Adds a supervised term.
    fn add_supervised(&mut self, weight: f64) {
        let supervised = json!({"name": "sft", "weight": weight});
        if let Some(terms) =
            self.params.get_mut("terms").and_then(Json::as_array_mut).filter(|_| self.name == "combine")
        {
            return terms.push(supervised);
        }
        let mut first = Map::new();
        first.insert("name".to_owned(), json!(self.name));
        first.append(&mut self.params);
        *self = Self::combined(vec![Json::Object(first), supervised]);
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

/// Whether an objective has a parameter; an unknown objective may have any.
fn has_parameter(objective: &str, parameter: &str) -> bool {
    registry::find(objective).map_or(true, |plugin| plugin.defaults().get(parameter).is_some())
}

fn describe(key: &str) -> &'static str {
    match key {
        "loss_type" => "The objective by its name in TRL or the published trainer, or a list of objectives to add up.",
        "loss_weights" => "Weights of the objectives in `loss_type`.",
        _ => "Weight of a supervised term on the best response.",
    }
}
