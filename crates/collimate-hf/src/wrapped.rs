//! Text models inside image-and-text folders: a nested configuration, names with a prefix, and a tower and a projector beside.
//!
//! The text model is trained and scored, and so is a tower that is computed; everything else is kept as it is.

use std::path::Path;

use serde_json::Value;

use crate::config::Family;
use crate::error::HfError;
use crate::fields::Fields;

/// The field with the text model's configuration.
pub(crate) const TEXT: &str = "text_config";
/// The field with the number of layers that predict further tokens.
pub(crate) const PREDICTORS: &str = "num_nextn_predict_layers";

/// An image-and-text architecture whose text model is one of the families.
#[derive(Debug, PartialEq, Eq)]
pub struct Wrapper {
    /// `model_type` in `config.json`.
    pub model_type: &'static str,
    /// The `model_type` of its text model; the first one where the nested configuration has none.
    pub texts: &'static [&'static str],
    /// Prefix of the text model's `embed_tokens`, `layers` and `norm` in transformers and PEFT.
    pub root: &'static str,
    /// Prefixes of the text model and of its output layer in files as most are published.
    pub(crate) stored: [&'static str; 2],
    /// Whether files may have the text model's fields at the top, and its and the tower's names without `model.language_model` and
    /// `model`: those of the hub.
    pub is_flat: bool,
    /// Whether the output layer is the embedding if the file does not say.
    pub(crate) tie_word_embeddings: bool,
}

/// Every known architecture, in the order in which documentation lists them.
pub static WRAPPERS: &[Wrapper] = &[
    Wrapper { model_type: "gemma3", texts: &["gemma3_text"], ..PLAIN },
    Wrapper { model_type: "mistral3", texts: &["mistral", "ministral3"], ..PLAIN },
    Wrapper {
        model_type: "qwen3_5",
        texts: &["qwen3_5_text"],
        stored: ["model.language_model", "lm_head"],
        tie_word_embeddings: false,
        ..PLAIN
    },
    Wrapper {
        model_type: "qwen3_5_moe",
        texts: &["qwen3_5_moe_text"],
        stored: ["model.language_model", "lm_head"],
        tie_word_embeddings: false,
        ..PLAIN
    },
    Wrapper { model_type: "qwen2_vl", texts: &["qwen2_vl_text"], ..QWEN_VL },
    Wrapper { model_type: "qwen2_5_vl", texts: &["qwen2_5_vl_text"], ..QWEN_VL },
];

/// What Qwen's first two image-and-text models have in common.
const QWEN_VL: Wrapper = Wrapper { stored: ["model", "lm_head"], is_flat: true, tie_word_embeddings: false, ..PLAIN };

/// A text model's own parts.
const DECODER: [&str; 3] = ["embed_tokens", "layers.", "norm."];

const PLAIN: Wrapper = Wrapper {
    model_type: "",
    texts: &[],
    root: "model.language_model",
    stored: ["language_model.model", "language_model.lm_head"],
    is_flat: false,
    tie_word_embeddings: true,
};

/// A text model's own fields, and the wrapper around it if there is one.
pub(crate) struct TextFields<'a> {
    pub(crate) fields: Fields<'a>,
    pub(crate) wrapper: Option<&'static Wrapper>,
}

/// Finds the text model's fields: nested ones of an image-and-text model, or those of the whole file.
pub(crate) fn text_fields(top: Fields<'_>) -> Result<TextFields<'_>, HfError> {
    let model_type = top.text("model_type")?;
    let Some(wrapper) = WRAPPERS.iter().find(|wrapper| Some(wrapper.model_type) == model_type) else {
        return Ok(TextFields { fields: top, wrapper: None });
    };
    if wrapper.is_flat && top.nested(TEXT)?.is_none() {
        return Ok(TextFields { fields: top, wrapper: Some(wrapper) });
    }
    let fields = top.nested(TEXT)?.ok_or_else(|| top.wrong(TEXT, "an object with the text model's configuration"))?;
    Ok(TextFields { fields, wrapper: Some(wrapper) })
}

impl TextFields<'_> {
    /// The text model's family, if it is known and fits its wrapper.
    pub(crate) fn family(&self) -> Option<&'static Family> {
        match self.wrapper {
            Some(wrapper) => wrapper.family(self.fields).ok(),
            None => Family::from_model_type(self.fields.text("model_type").ok()??),
        }
    }

    /// Whether the output layer is the embedding: of an image-and-text model, by the outer fields.
    pub(crate) fn is_tied(&self, top: Fields<'_>, family: &Family) -> Result<bool, HfError> {
        let default = self.wrapper.map_or(family.defaults.tie_word_embeddings, |wrapper| wrapper.tie_word_embeddings);
        top.flag_or("tie_word_embeddings", default)
    }
}

/// What a `config.json` says of its text model that the names in its weights' files depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatedText {
    /// Its family.
    pub family: &'static Family,
    /// The image-and-text architecture around it, if there is one.
    pub wrapper: Option<&'static Wrapper>,
    /// Whether its output layer is the embedding.
    pub is_tied: bool,
    /// The number of its layers, where layers that predict further tokens may follow them.
    pub layers_before_predictors: Option<u64>,
}

impl StatedText {
    /// Reads the contents of a `config.json`, whose `path` is for errors only; `None` where no known text model is described.
    pub fn of(path: &Path, config: &Value) -> Option<Self> {
        let top = Fields::top(path, config).ok()?;
        let text = text_fields(top).ok()?;
        let family = text.family()?;
        let count = |key: &str| text.fields.get(key).and_then(Value::as_u64);
        let predicts_further = count(PREDICTORS).is_some_and(|layers| layers > 0);
        Some(Self {
            family,
            wrapper: text.wrapper,
            is_tied: text.is_tied(top, family).unwrap_or(false),
            layers_before_predictors: count("num_hidden_layers").filter(|_| predicts_further),
        })
    }

    /// Prefix of its `embed_tokens`, `layers` and `norm`.
    pub fn root(&self) -> &'static str {
        self.wrapper.map_or(self.family.names.root, |wrapper| wrapper.root)
    }
}

impl Wrapper {
    /// The family of the text model inside.
    pub(crate) fn family(&self, fields: Fields<'_>) -> Result<&'static Family, HfError> {
        let found = fields
            .text("model_type")?
            .filter(|found| *found != self.model_type)
            .or(self.texts.first().copied())
            .unwrap_or_default();
        Family::from_model_type(found).filter(|family| self.texts.contains(&family.model_type)).ok_or_else(|| {
            fields.unsupported("model_type", &format!("inside {} it is {}", self.model_type, self.texts.join(" or ")))
        })
    }

    /// The name that a tensor has in transformers, given that in a file.
    pub fn plain_name(name: &str) -> Option<String> {
        // A flat file's names are also those of plain models, so only its configuration tells.
        WRAPPERS.iter().filter(|wrapper| !wrapper.is_flat).find_map(|wrapper| {
            let [text, head] = wrapper.stored;
            let renamed = |old: &str, new: &str| {
                name.strip_prefix(old).filter(|rest| rest.starts_with('.')).map(|rest| format!("{new}{rest}"))
            };
            let found = renamed(text, wrapper.root).or_else(|| renamed(head, "lm_head"));
            // Some files have transformers' own names.
            found.filter(|found| found != name)
        })
    }

    /// The name that a module or tensor has in this class, given that in another class with the same text model: one without a
    /// tower, or that of older versions.
    pub fn name_here(&self, name: &str) -> String {
        let is_inside = |rest: &&str| DECODER.iter().any(|part| rest.starts_with(part));
        let bare = name.strip_prefix("model.").filter(is_inside).map(|rest| format!("{}.{rest}", self.root));
        let tower = name.strip_prefix("visual.").filter(|_| self.is_flat).map(|rest| format!("model.visual.{rest}"));
        bare.or(tower).or_else(|| Self::plain_name(name)).unwrap_or_else(|| name.to_owned())
    }

    /// The name that a tensor has in a file as most are published, given that in transformers.
    pub fn stored_name(&self, name: &str) -> String {
        let [text, head] = self.stored;
        match (name.strip_prefix(self.root), name.strip_prefix("lm_head")) {
            (Some(rest), _) => format!("{text}{rest}"),
            (_, Some(rest)) => format!("{head}{rest}"),
            _ => name.to_owned(),
        }
    }

    /// Whether a tensor, by its name in transformers, is one of the text model.
    pub fn is_text(&self, name: &str) -> bool {
        self.is_inside(name) || name.starts_with("lm_head.")
    }

    /// Whether it is one of the text model's blocks, embedding or last norm.
    pub fn is_inside(&self, name: &str) -> bool {
        name.strip_prefix(self.root).is_some_and(|rest| rest.starts_with('.'))
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("language_model.model.norm.weight", Some("model.language_model.norm.weight"))]
    #[case("language_model.lm_head.weight", Some("lm_head.weight"))]
    #[case("language_model.models.norm.weight", None)]
    #[case("model.language_model.norm.weight", None)]
    #[case("vision_tower.post_layernorm.weight", None)]
    fn names_of_files_become_those_of_transformers(#[case] name: &str, #[case] expected: Option<&str>) {
        let found = Wrapper::plain_name(name);
        assert_eq!(found.as_deref(), expected);
        if let Some(found) = found {
            assert_eq!(WRAPPERS[0].stored_name(&found), name);
        }
    }
}
