//! The objective of a run: as a table of its own, and as the flat keys of other trainers.

use collimate_objective::registry;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value as Json, json};
use serde_yaml_ng::Value;

use super::foreign::Notes;
use super::values::{KeyType, to_json};

/// Keys of other trainers that set a parameter of the objective, and our name of that parameter.
const PARAMETERS: &[(&str, &str)] = &[
    ("beta", "beta"),
    ("alpha", "alpha"),
    ("temperature_alpha", "alpha"),
    ("label_smoothing", "label_smoothing"),
    ("simpo_gamma", "gamma"),
    ("discopop_tau", "tau"),
];

/// Flat keys beside [`PARAMETERS`].
const OTHERS: &[&str] = &["loss_type", "loss_weights", "rpo_alpha", "cpo_alpha"];

/// TRL's parameters that its recipes carry for other losses too; the objective that has none goes without.
const OFTEN_IDLE: &[&str] = &["gamma", "tau"];

/// An objective's name and its own parameters; the registry of objectives checks both.
#[derive(Debug, Clone, PartialEq)]
pub struct ObjectiveSpec {
    /// The objective's name in the registry.
    pub name: String,
    /// The parameters that were given; the objective has defaults for the rest.
    pub params: Map<String, Json>,
}

impl ObjectiveSpec {
    /// An objective with its own defaults.
    pub fn named(name: &str) -> Self {
        Self { name: name.to_owned(), params: Map::new() }
    }

    /// The reward temperature that the objective is built with, given or its own default; none where it has none.
    pub fn alpha(&self) -> Option<f64> {
        let default = || registry::find(&self.name).ok()?.defaults().get("alpha").and_then(Json::as_f64);
        self.number("alpha").or_else(default)
    }

    /// The parameter of this name as a number, where it was given.
    pub fn number(&self, name: &str) -> Option<f64> {
        self.params.get(name).and_then(Json::as_f64)
    }
}

impl Serialize for ObjectiveSpec {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1 + self.params.len()))?;
        map.serialize_entry("name", &self.name)?;
        for (name, value) in &self.params {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl KeyType for ObjectiveSpec {
    const EXPECTED: &'static str = "an objective's name, or a table with `name` and its parameters";
    fn from_yaml(value: &Value) -> Option<Self> {
        if let Some(name) = value.as_str() {
            return (!name.is_empty()).then(|| Self::named(name));
        }
        let Json::Object(mut params) = to_json(value)? else { return None };
        let name = params.shift_remove("name")?;
        Some(Self { name: name.as_str().filter(|name| !name.is_empty())?.to_owned(), params })
    }

    fn schema() -> Json {
        // The command line puts the objectives that it knows in its place.
        json!({"anyOf": [{"type": "string", "minLength": 1}, {"type": "object", "required": ["name"]}]})
    }
}

/// The objective as flat keys give it; put into a recipe last, whatever the order of the keys.
#[derive(Debug, Default)]
pub(super) struct FlatObjective {
    names: Option<Vec<String>>,
    weights: Option<Vec<f64>>,
    params: Vec<(&'static str, &'static str, f64)>,
    /// Weight of a supervised term: TRL's `rpo_alpha`.
    supervised: Option<f64>,
    /// The same of CPO, where it is a parameter.
    cpo_supervised: Option<f64>,
}

impl FlatObjective {
    /// Every flat key with what it is.
    pub(super) fn keys() -> impl Iterator<Item = (&'static str, String)> {
        let parameters = PARAMETERS.iter().map(|(key, name)| (*key, format!("The objective's parameter `{name}`.")));
        parameters.chain(OTHERS.iter().map(|key| (*key, describe(key).to_owned())))
    }

    /// Takes a flat key: `None` where it is none, or what its value must be.
    pub(super) fn set(&mut self, key: &str, value: &Value) -> Option<Result<(), &'static str>> {
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

    /// Puts what was given into the objective. An error is about `loss_weights`.
    pub(super) fn fold(&mut self, objective: &mut ObjectiveSpec, notes: &mut Notes) -> Result<(), String> {
        let Self { names, weights, params, supervised, cpo_supervised } = std::mem::take(self);
        match names.as_deref() {
            // Parameters of another objective would be refused by this one.
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
    /// A weighted sum of objectives; weights are 1 where none are given.
    fn sum(names: &[String], weights: Option<&[f64]>) -> Result<Self, String> {
        if weights.is_some_and(|weights| weights.len() != names.len()) {
            return Err(format!(
                "{} weights for the {} objectives of loss_type",
                weights.unwrap_or_default().len(),
                names.len()
            ));
        }
        let weight = |at: usize| weights.map_or(1.0, |weights| weights[at]);
        let terms = names.iter().enumerate().map(|(at, name)| json!({"name": name, "weight": weight(at)}));
        Ok(Self::combined(terms.collect()))
    }

    fn combined(terms: Vec<Json>) -> Self {
        let mut params = Map::new();
        params.insert("terms".to_owned(), Json::Array(terms));
        Self { name: "combine".to_owned(), params }
    }

    /// Sets a parameter, in a sum that of every term that has it; false where it is `idle` and nothing has it.
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

    /// Adds the supervised term to what is there.
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

/// Our name of another trainer's `loss_type`, in any case.
fn our_name(loss_type: &str) -> String {
    match loss_type.to_ascii_lowercase().as_str() {
        "sigmoid" => "dpo".to_owned(),
        // The published trainer's name of it.
        "biasednca" => "bco_pair".to_owned(),
        other => other.to_owned(),
    }
}

/// Whether an objective has a parameter; one that is not known may have any.
fn has_parameter(objective: &str, parameter: &str) -> bool {
    registry::find(objective).map_or(true, |plugin| plugin.defaults().get(parameter).is_some())
}

fn describe(key: &str) -> &'static str {
    match key {
        "loss_type" => "The objective by TRL's or the published trainer's name of it, or a list of them to add up.",
        "loss_weights" => "Weights of the objectives of `loss_type`.",
        _ => "Weight of a supervised term on the best response.",
    }
}
