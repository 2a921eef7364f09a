//! The known family that is nearest to an unknown one, by the fields of its configuration.

use serde_json::{Map, Value};

use crate::config::{Family, ModelConfig};
use crate::error::HfError;
use crate::families::FAMILIES;
use crate::fields::{Asked, Fields};
use crate::{limits, wrapped};

/// Fields that say nothing about how a model is computed without dropout.
const ELSEWHERE: &[&str] = &[
    "architectures",
    "attention_dropout",
    "auto_map",
    "bos_token_id",
    "cache_implementation",
    "dtype",
    "embd_pdrop",
    "eos_token_id",
    "hidden_dropout",
    "id2label",
    "initializer_range",
    "label2id",
    "max_window_layers",
    "model_type",
    "output_attentions",
    "output_hidden_states",
    "pad_token_id",
    "pretraining_tp",
    "resid_pdrop",
    "torch_dtype",
    "transformers_version",
    "unsloth_fixed",
    "unsloth_version",
    "use_cache",
];

/// Names of fields in the note.
const SHOWN: usize = 6;

/// Reads a configuration.
type Read = fn(Fields<'_>) -> Result<ModelConfig, HfError>;

/// Names the family that reads most of the fields, and those that it does not read; empty if none reads half of them.
pub(crate) fn nearest(fields: Fields<'_>, read: Read) -> String {
    let Some(found) = fields.get("model_type").and_then(Value::as_str).map(limits::shortened) else {
        return String::new();
    };
    let object: Map<String, Value> = match fields.get(wrapped::TEXT) {
        Some(Value::Object(text)) => text.clone(),
        _ => fields.keys().filter_map(|key| Some((key.to_owned(), fields.get(key)?.clone()))).collect(),
    };
    let told = object.keys().filter(|key| is_telling(key)).count();
    let unknown = |family: &&'static Family| (unknown_fields(family, fields, &object, read), *family);
    let distance = |family: &Family| strsim::damerau_levenshtein(family.model_type, &found);
    // A model of token maps, whose fields have names of its own, is near no language model.
    let families = FAMILIES.iter().filter(|family| family.translate.is_none());
    let Some((unknown, family)) =
        families.map(unknown).min_by_key(|(unknown, family)| (unknown.len(), distance(family)))
    else {
        return String::new();
    };
    if told == 0 || 2 * unknown.len() > told {
        return String::new();
    }
    let shown: Vec<String> = unknown.iter().take(SHOWN).map(|key| format!("\"{key}\"")).collect();
    let more = unknown.len().saturating_sub(SHOWN);
    match (shown.is_empty(), more) {
        (true, _) => format!("; the nearest is {}, which knows all of its fields", family.model_type),
        (false, 0) => format!("; the nearest is {}, which does not know {}", family.model_type, shown.join(", ")),
        (false, more) => {
            format!("; the nearest is {}, which does not know {} and {more} more", family.model_type, shown.join(", "))
        }
    }
}

/// The fields that a family does not ask for.
fn unknown_fields(family: &Family, fields: Fields<'_>, object: &Map<String, Value>, read: Read) -> Vec<String> {
    let mut object = object.clone();
    object.insert("model_type".to_owned(), Value::from(family.model_type));
    // What these say may be refused before the other fields are asked for.
    object.retain(|key, _| !["architectures", "layer_types", "quantization_config"].contains(&key.as_str()));
    let (value, asked) = (Value::Object(object), Asked::default());
    if let Ok(top) = Fields::top(fields.path(), &value) {
        // Where it fails, the fields after that are unknown too.
        let _ = read(top.noting(&asked));
    }
    let (asked, names) = (asked.into_inner(), value.as_object().into_iter().flat_map(Map::keys));
    names.filter(|key| is_telling(key) && !asked.contains(*key)).cloned().collect()
}

/// Whether a field may say how a model is computed.
fn is_telling(key: &str) -> bool {
    !key.starts_with('_') && !ELSEWHERE.contains(&key)
}
