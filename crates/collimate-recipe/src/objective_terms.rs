//! An objective as a sum of terms, each with its parameters.

use collimate_data::counted;
use collimate_objective::registry;
use serde_json::{Map, Value as Json, json};

use crate::objective::ObjectiveSpec;

impl ObjectiveSpec {
    /// A weighted sum of objectives; weights default to 1.
    pub(crate) fn sum(names: &[String], weights: Option<&[f64]>) -> Result<Self, String> {
        if weights.is_some_and(|weights| weights.len() != names.len()) {
            return Err(format!(
                "{} for the {} of loss_type",
                counted(weights.unwrap_or_default().len(), "weight"),
                counted(names.len(), "objective")
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

    /// The terms of a sum, or the objective itself: each name with its parameters.
    pub(crate) fn terms_mut(&mut self) -> Vec<(String, &mut Map<String, Json>)> {
        if self.name != "combine" {
            return vec![(self.name.clone(), &mut self.params)];
        }
        let terms = self.params.get_mut("terms").and_then(Json::as_array_mut).into_iter().flatten();
        terms
            .filter_map(Json::as_object_mut)
            .filter_map(|term| Some((term.get("name")?.as_str()?.to_owned(), term)))
            .collect()
    }

    /// Sets a parameter, in a sum on every term that has it, except where it `is_passed_over`. Returns false if it is set
    /// nowhere; an objective that should not ignore it (it is not `idle`) gets it even if it will refuse it.
    pub(crate) fn set_parameter(
        &mut self,
        parameter: &str,
        value: &Json,
        idle: bool,
        is_passed_over: &dyn Fn(&str) -> bool,
    ) -> bool {
        let is_sum = self.name == "combine";
        let mut taken = false;
        for (name, params) in self.terms_mut() {
            if !is_passed_over(&name) && (has_parameter(&name, parameter) || !(is_sum || idle)) {
                params.insert(parameter.to_owned(), value.clone());
                taken = true;
            }
        }
        taken
    }

    /// Adds a supervised term.
    pub(crate) fn add_supervised(&mut self, weight: f64) {
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

    /// Removes supervised terms that [`Self::add_supervised`] has added.
    pub(crate) fn remove_supervised(&mut self, num_terms: usize) {
        let Some(terms) = self.params.get_mut("terms").and_then(Json::as_array_mut).filter(|_| num_terms > 0) else {
            return;
        };
        terms.truncate(terms.len().saturating_sub(num_terms));
        // The terms of a sum that a recipe asks for have weights.
        let Some(Json::Object(only)) = terms.first().filter(|only| terms.len() == 1 && only.get("weight").is_none())
        else {
            return;
        };
        let mut params = only.clone();
        let name = params.shift_remove("name");
        *self = Self { name: name.as_ref().and_then(Json::as_str).unwrap_or_default().to_owned(), params };
    }
}

/// Whether an objective has a parameter; an unknown objective may have any.
pub(crate) fn has_parameter(objective: &str, parameter: &str) -> bool {
    registry::find(objective).map_or(true, |plugin| plugin.defaults().get(parameter).is_some())
}

/// A parameter's default, if the objective has it.
pub(crate) fn default_of(objective: &str, parameter: &str) -> Option<f64> {
    registry::find(objective).ok()?.defaults().get(parameter)?.as_f64()
}
