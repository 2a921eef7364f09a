//! Keys of other trainers whose meaning depends on several keys here, or that are done by one of another name.

use serde_yaml_ng::Value;

use super::bitsandbytes::BitsAndBytes;
use crate::foreign::Notes;
use crate::recipe::Recipe;
use crate::values::KeyType;

/// These keys with their documentation.
pub(super) const KEYS: &[(&str, &str)] = &[
    (
        "bf16",
        "True sets `compute_dtype: bfloat16` if the backend has bfloat16 products on this machine; if not, a note says so. In \
         a recipe that is not TRL's, or with `torch_dtype: null`, it also sets `torch_dtype: bfloat16`.",
    ),
    ("fp16", "True sets `torch_dtype: float16`; nothing is computed in float16."),
    ("do_eval", "False disables evaluation."),
    ("use_rslora", "True multiplies `lora_alpha` by the square root of `lora_r`."),
    ("disable_dropout", "True, as TRL's default is, sets `lora_dropout: 0`: TRL turns off the adapter's dropout too."),
    (
        "truncation_mode",
        "`keep_start` cuts responses at `max_length` and needs `max_prompt_length: null`; `keep_end` cuts prompts at \
         `max_prompt_length`, which it needs.",
    ),
    ("tokenizer_name_or_path", "Refused unless it is the model: the tokenizer in the model's folder is used."),
    ("tokenizer_name", "The same."),
    ("model_revision", "Branch, tag or commit of a model on the hub."),
    ("train_sampling_strategy", "`random` sets `shuffle: true`, `sequential` sets `shuffle: false`."),
    ("dataset_streaming", "True sets `shuffle: false`: TRL does not shuffle what it streams."),
    ("streaming", "The same."),
    (
        "load_in_4bit",
        "True sets `quantization` to what `bnb_4bit_quant_type` and `use_bnb_nested_quant` say: `nf4` by default.",
    ),
    ("load_in_8bit", "True sets `quantization: int8`."),
    ("bnb_4bit_quant_type", "`nf4`, with `load_in_4bit`; `fp4` is refused."),
    ("use_bnb_nested_quant", "True sets `quantization: nf4-double`, with `load_in_4bit`."),
    ("bnb_4bit_use_double_quant", "The same."),
    (
        "bnb_4bit_compute_dtype",
        "`bfloat16` sets `compute_dtype: bfloat16` if the backend has bfloat16 products on this machine.",
    ),
];

/// The defaults of some keys, which depend on whose recipe it is.
pub(super) struct Defaults {
    pub(super) bf16: bool,
    pub(super) disable_dropout: bool,
}

/// Why a value is not taken.
pub(super) enum Refusal {
    /// It has another type than this one.
    Type(&'static str),
    /// Something else is wrong with it.
    Value(String),
}

/// A key that contradicts others, and in what.
pub(super) struct Contradiction {
    pub(super) key: String,
    pub(super) problem: String,
}

/// The keys read so far.
#[derive(Default)]
pub(super) struct Switches {
    pub(super) do_eval: Option<bool>,
    pub(super) model_revision: Option<String>,
    pub(super) use_rslora: bool,
    bf16: Option<bool>,
    fp16: bool,
    disable_dropout: Option<bool>,
    keeps_start: Option<bool>,
    /// The key that named a tokenizer, and its value.
    tokenizer: Option<(String, String)>,
    bitsandbytes: BitsAndBytes,
}

impl Switches {
    /// Sets a key; `None` if it is another kind of key.
    pub(super) fn set(
        &mut self,
        key: &str,
        value: &Value,
        recipe: &mut Recipe,
        notes: &mut Notes,
    ) -> Option<Result<(), Refusal>> {
        KEYS.iter().any(|(name, _)| *name == key).then(|| self.set_known(key, value, recipe, notes))
    }

    fn set_known(&mut self, key: &str, value: &Value, recipe: &mut Recipe, notes: &mut Notes) -> Result<(), Refusal> {
        let switch = || bool::from_yaml(value).ok_or(Refusal::Type(bool::EXPECTED));
        let optional = || Option::<bool>::from_yaml(value).ok_or(Refusal::Type(bool::EXPECTED));
        let text = || Option::<String>::from_yaml(value).ok_or(Refusal::Type(String::EXPECTED));
        match key {
            "bf16" => self.bf16 = optional()?,
            "fp16" => self.fp16 = optional()?.unwrap_or(false),
            "do_eval" => self.do_eval = optional()?,
            "use_rslora" => self.use_rslora = switch()?,
            "disable_dropout" => self.disable_dropout = Some(switch()?),
            "truncation_mode" => {
                self.keeps_start = match text()?.as_deref() {
                    None => None,
                    Some("keep_start") => Some(true),
                    Some("keep_end") => Some(false),
                    Some(_) => return Err(Refusal::Type("keep_start or keep_end")),
                }
            }
            "load_in_4bit" | "load_in_8bit" | "use_bnb_nested_quant" | "bnb_4bit_use_double_quant" => {
                self.bitsandbytes.switch(key, switch()?);
            }
            "bnb_4bit_quant_type" | "bnb_4bit_compute_dtype" => {
                self.bitsandbytes.name(key, text()?).map_err(Refusal::Type)?;
            }
            "model_revision" => self.model_revision = text()?.filter(|revision| !revision.is_empty()),
            "tokenizer_name_or_path" | "tokenizer_name" => {
                self.tokenizer = text()?.filter(|name| !name.is_empty()).map(|name| (key.to_owned(), name));
            }
            "train_sampling_strategy" => match text()?.as_deref() {
                Some("random") => recipe.shuffle = true,
                Some("sequential") => recipe.shuffle = false,
                Some("group_by_length") => {
                    let problem = "batches are drawn by the seed, whatever their lengths, and computed without padding";
                    return Err(Refusal::Value(format!("group_by_length would change the result: {problem}")));
                }
                _ => return Err(Refusal::Type("random or sequential")),
            },
            _ => {
                if switch()? {
                    recipe.shuffle = false;
                    notes.instead(key, "shuffle: false, since TRL does not shuffle what it streams");
                }
            }
        }
        Ok(())
    }

    /// Resolves the keys; `is_set` tells which keys of ours were set. Returns whether to compute in bfloat16 if possible.
    pub(super) fn finish(
        &self,
        recipe: &mut Recipe,
        is_set: &dyn Fn(&str) -> bool,
        defaults: Defaults,
        notes: &mut Notes,
    ) -> Result<bool, Contradiction> {
        if self.use_rslora {
            recipe.lora_alpha *= (recipe.lora_r as f64).sqrt();
            notes.instead("use_rslora", "lora_alpha is multiplied by the square root of lora_r");
        }
        let bf16 = self.bf16.unwrap_or(defaults.bf16 && !self.fp16);
        let saves_as_it_computes = recipe.torch_dtype.is_none();
        if self.fp16 && (saves_as_it_computes || !is_set("torch_dtype")) {
            recipe.torch_dtype = Some("float16".to_owned());
        } else if bf16 && saves_as_it_computes {
            recipe.torch_dtype = Some("bfloat16".to_owned());
        }
        if self.disable_dropout.unwrap_or(defaults.disable_dropout) && recipe.use_peft && recipe.lora_dropout > 0.0 {
            recipe.lora_dropout = 0.0;
            notes.instead("disable_dropout", "lora_dropout is 0, as TRL's trainer makes it");
        }
        self.check_truncation(recipe)?;
        self.check_tokenizer(recipe)?;
        let contradiction = |(key, problem): (&str, String)| Contradiction { key: key.to_owned(), problem };
        self.bitsandbytes.finish(recipe, is_set, notes).map_err(contradiction)?;
        Ok((bf16 || self.bitsandbytes.computes_in_bfloat16()) && !is_set("compute_dtype"))
    }

    fn check_truncation(&self, recipe: &Recipe) -> Result<(), Contradiction> {
        let refused =
            |problem: &str| Err(Contradiction { key: "truncation_mode".to_owned(), problem: problem.to_owned() });
        match (self.keeps_start, recipe.max_prompt_length.is_some(), recipe.max_length.is_some()) {
            (Some(true), true, _) => refused(
                "keep_start would keep the start of prompts, and max_prompt_length keeps their end: leave one of them out",
            ),
            (Some(false), false, true) => refused(
                "keep_end would cut each response's prompt differently: give max_prompt_length, which cuts all prompts alike, \
                 or leave the key out",
            ),
            _ => Ok(()),
        }
    }

    fn check_tokenizer(&self, recipe: &Recipe) -> Result<(), Contradiction> {
        let Some((key, name)) = &self.tokenizer else { return Ok(()) };
        let model = recipe.model_name_or_path.as_deref().map(|model| model.display().to_string());
        if model.as_deref() == Some(name.as_str()) {
            return Ok(());
        }
        let problem = "the tokenizer in the model's folder is used: copy the other tokenizer's files there".to_owned();
        Err(Contradiction { key: key.clone(), problem })
    }
}
