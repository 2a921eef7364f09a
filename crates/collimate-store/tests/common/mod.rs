//! A tokenizer of characters, and rows for it.

use std::fs;
use std::path::{Path, PathBuf};

use collimate_data::DataPart;
use collimate_progress::Silent;
use collimate_store::{DataRequest, Encoder, MixOptions, Preparation, PreparedGroups, StoreError, StoreFolder};
use collimate_text::{TextTokenizer, TokenizeOptions};
use serde_json::{Value, json};

/// A tokenizer with one token a character, in a folder of its own.
pub(crate) fn tokenizer(folder: &Path, template: &str) -> TextTokenizer {
    let special = ["<pad>", "<s>", "</s>"];
    let texts = special.iter().map(|text| (*text).to_owned()).chain((' '..='~').map(String::from));
    let vocab: serde_json::Map<String, Value> = texts.enumerate().map(|(id, text)| (text, json!(id))).collect();
    let added = |(id, text): (usize, &&str)| {
        json!({"id": id, "content": text, "single_word": false, "lstrip": false, "rstrip": false,
               "normalized": false, "special": true})
    };
    let added: Vec<Value> = special.iter().enumerate().map(added).collect();
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": null,
        "pre_tokenizer": null, "post_processor": null, "decoder": {"type": "Fuse"},
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": vocab, "merges": []}
    });
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join("tokenizer.json"), tokenizer.to_string()).unwrap();
    let config = json!({"eos_token": "</s>", "chat_template": template});
    fs::write(folder.join("tokenizer_config.json"), config.to_string()).unwrap();
    TextTokenizer::from_model_dir(folder).unwrap()
}

/// Prints each turn's text, and what begins an answer.
pub(crate) const TEMPLATE: &str =
    "{% for m in messages %}{{ m.content }}{% if m.role == 'assistant' %}</s>{% else %}|{% endif %}{% endfor %}";

/// A file of rows with all that is asked of it.
pub(crate) struct Asked {
    pub(crate) parts: Vec<DataPart>,
    pub(crate) mix: MixOptions,
    pub(crate) hold_out: f64,
    pub(crate) options: TokenizeOptions,
    pub(crate) memory: Option<u64>,
}

impl Asked {
    pub(crate) fn new(path: impl Into<PathBuf>) -> Self {
        let parts = vec![DataPart::whole(path)];
        Self { parts, mix: MixOptions::default(), hold_out: 0.0, options: TokenizeOptions::default(), memory: None }
    }

    pub(crate) fn prepare(&self, tokenizer: &TextTokenizer, place: &StoreFolder) -> Result<PreparedGroups, StoreError> {
        let request = DataRequest {
            name: self.parts[0].path.display().to_string(),
            parts: &self.parts,
            mix: self.mix.clone(),
            hold_out: self.hold_out,
            memory: self.memory,
        };
        let encoder = Encoder::Tokenizer { tokenizer, options: self.options.clone(), has_system_prompt: false };
        Preparation::begin(request, encoder, place, true, &mut Silent)?.finish(&mut Silent)
    }
}

/// Whether a run found what an earlier one made.
pub(crate) fn was_found(prepared: &PreparedGroups) -> bool {
    prepared.notes.iter().any(|note| note.contains("as an earlier run made them"))
}
