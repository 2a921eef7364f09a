//! The JSON schema of recipes, for editors, from the table of keys.

use serde_json::{Map, Value as Json, json};

use crate::recipe::{COMPUTE_DTYPES, MATMUL_PRECISIONS, MODEL_DROPOUTS, QUANTIZATIONS, Recipe};
use crate::weight_place::WEIGHT_PLACES;

/// An objective for the schema.
#[derive(Debug, Clone)]
pub struct ObjectiveSchema {
    /// Its name in the registry.
    pub name: String,
    /// One sentence on what it does.
    pub summary: String,
    /// Its parameters with their defaults.
    pub defaults: Json,
}

impl Recipe {
    /// The JSON schema (draft 2020-12) of valid recipes: every key with its documentation, type and default, and the
    /// allowed values of keys that have few. `objectives` are those of the program. Ranges of numbers are left to
    /// [`Recipe::parse`], existence of files to the run.
    pub fn schema(objectives: &[ObjectiveSchema]) -> Json {
        let defaults = serde_json::to_value(Self::default()).unwrap_or_default();
        let mut properties = Map::new();
        for key in Self::KEYS {
            let mut schema = match key.name {
                "objective" => objective(objectives),
                "torch_dtype" => json!({"enum": [null, "auto", "float32", "bfloat16", "float16"]}),
                "compute_dtype" => json!({"enum": COMPUTE_DTYPES}),
                "float32_matmul_precision" => json!({"enum": MATMUL_PRECISIONS}),
                "model_dropout" => json!({"enum": MODEL_DROPOUTS}),
                "quantization" => json!({"enum": QUANTIZATIONS}),
                "weights" => json!({"enum": WEIGHT_PLACES}),
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

/// The schema of a key outside the table: an alias has its key's, others accept what their trainers accept.
fn other(name: &str, doc: &str, properties: &Map<String, Json>) -> Json {
    let same = doc.strip_prefix("Alias of `").and_then(|rest| rest.split('`').next());
    let mut schema = match name {
        "bf16" | "fp16" | "do_eval" | "use_rslora" | "load_in_4bit" | "load_in_8bit" | "use_bnb_nested_quant" => {
            json!({"type": "boolean"})
        }
        "beta"
        | "alpha"
        | "temperature_alpha"
        | "label_smoothing"
        | "simpo_gamma"
        | "gamma"
        | "discopop_tau"
        | "f_alpha_divergence_coef" => json!({"type": "number"}),
        "f_divergence_type" => json!({"type": "string"}),
        "rpo_alpha" | "cpo_alpha" | "sft_weight" | "gamma_beta_ratio" => json!({"type": ["number", "null"]}),
        "optim" => json!({"type": "string"}),
        _ => same.and_then(|key| properties.get(key)).cloned().unwrap_or_else(|| json!({})),
    };
    schema["description"] = json!(doc);
    schema
}

/// A name, or a table with a name and the parameters of that objective.
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
