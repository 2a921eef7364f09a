//! The JSON schema of recipes, for editors: of the same table as the recipe itself.

use collimate_backend::ComputeDtype;
use serde_json::{Map, Value as Json, json};

use super::Recipe;

/// An objective as the schema lists it.
#[derive(Debug, Clone)]
pub struct ObjectiveSchema {
    /// Its name in the registry.
    pub name: String,
    /// What it does.
    pub summary: String,
    /// Its parameters with their default values.
    pub defaults: Json,
}

impl Recipe {
    /// A JSON schema (draft 2020-12) that sound recipes satisfy: every key with its documentation, type and default, and
    /// the values that are known. `objectives` are those of the program. Ranges of numbers and whether a file exists are
    /// left to [`Recipe::load`].
    pub fn schema(objectives: &[ObjectiveSchema]) -> Json {
        let defaults = serde_json::to_value(Self::default()).unwrap_or_default();
        let mut properties = Map::new();
        for key in Self::KEYS {
            let mut schema = match key.name {
                "objective" => objective(objectives),
                "torch_dtype" => json!({"enum": [null, "auto", "float32", "bfloat16", "float16"]}),
                "compute_dtype" => json!({"enum": ComputeDtype::ALL.map(ComputeDtype::name)}),
                _ => key.schema(),
            };
            schema["description"] = json!(key.doc.trim());
            if !defaults[key.name].is_null() {
                schema["default"] = defaults[key.name].clone();
            }
            properties.insert(key.name.to_owned(), schema);
        }
        for (name, doc) in Self::other_keys() {
            properties.insert(name.to_owned(), other(name, &doc, &properties));
        }
        json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": "Collimate recipe",
            "type": "object",
            "properties": properties,
            "additionalProperties": false,
        })
    }
}

/// A key beside the table: another name has the schema of its key, the rest is as free as other trainers leave it.
fn other(name: &str, doc: &str, properties: &Map<String, Json>) -> Json {
    let same = doc.strip_prefix("Another name of `").and_then(|rest| rest.split('`').next());
    let mut schema = match name {
        "bf16" | "fp16" | "do_eval" | "use_rslora" => json!({"type": "boolean"}),
        "beta" | "alpha" | "temperature_alpha" | "label_smoothing" | "simpo_gamma" | "discopop_tau" => {
            json!({"type": "number"})
        }
        "rpo_alpha" | "cpo_alpha" => json!({"type": ["number", "null"]}),
        "optim" => json!({"type": "string"}),
        _ => same.and_then(|key| properties.get(key)).cloned().unwrap_or_else(|| json!({})),
    };
    schema["description"] = json!(doc);
    schema
}

/// A name, or a table of a name and the parameters of that objective.
fn objective(objectives: &[ObjectiveSchema]) -> Json {
    let names: Vec<&str> = objectives.iter().map(|objective| objective.name.as_str()).collect();
    let mut forms = vec![json!({"enum": names})];
    for objective in objectives {
        let mut parameters = Map::new();
        parameters.insert("name".to_owned(), json!({"const": objective.name}));
        for (name, default) in objective.defaults.as_object().into_iter().flatten() {
            let mut schema = match default {
                Json::Number(_) => json!({"type": "number"}),
                Json::Bool(_) => json!({"type": "boolean"}),
                Json::String(_) => json!({"type": "string"}),
                Json::Array(_) => json!({"type": "array"}),
                _ => json!({}),
            };
            schema["default"] = default.clone();
            parameters.insert(name.clone(), schema);
        }
        forms.push(json!({
            "type": "object",
            "description": objective.summary,
            "properties": parameters,
            "required": ["name"],
            "additionalProperties": false,
        }));
    }
    json!({"anyOf": forms})
}
