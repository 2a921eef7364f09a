//! Keys of TRL, transformers and the alignment handbook that recipes here do not need.
//!
//! They are known by name, so that their recipes load as they are, and sorted by whether leaving them out would change the
//! result.

pub(crate) mod elsewhere;
mod names;

use serde_yaml_ng::Value;

use crate::values::show;
use names::{INSTEAD, OPTIMIZERS, REFUSED, SMALL_STATES, WITHOUT_EFFECT};

/// A key that could change the result.
struct Meaningful {
    name: &'static str,
    /// Values without effect, besides empty, false and zero.
    neutral: &'static [&'static str],
    /// What is done instead, or why the key is refused.
    remark: &'static str,
}

fn without_effect() -> impl Iterator<Item = &'static str> {
    WITHOUT_EFFECT.iter().flat_map(|keys| keys.split_whitespace())
}

/// What to tell the user about a recipe's keys of other trainers.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    trl_defaults: Option<String>,
    without_effect: Vec<String>,
    instead: Vec<String>,
}

impl Notes {
    /// Notes a key that changes nothing.
    pub(crate) fn without_effect(&mut self, key: &str) {
        let key = key.to_owned();
        if !self.without_effect.contains(&key) {
            self.without_effect.push(key);
        }
    }

    /// Notes what is done instead of what a key asks for.
    pub(crate) fn instead(&mut self, key: &str, what: &str) {
        let note = format!("{key} ({what})");
        if !self.instead.contains(&note) {
            self.instead.push(note);
        }
    }

    /// Notes that TRL's defaults apply, and why.
    pub(crate) fn trl_defaults(&mut self, line: String) {
        self.trl_defaults = Some(line);
    }

    /// One line for each kind of note.
    pub(crate) fn lines(&self) -> Vec<String> {
        let kinds = [("without effect here", &self.without_effect), ("done differently here", &self.instead)];
        let present = kinds.into_iter().filter(|(_, keys)| !keys.is_empty());
        let lines = present.map(|(kind, keys)| format!("{kind}: {}", keys.join(", ")));
        self.trl_defaults.iter().cloned().chain(lines).collect()
    }
}

/// Accepts a key of another trainer; an error if it asks for something unsupported, `None` if it is unknown.
pub(crate) fn accept(key: &str, value: &Value, notes: &mut Notes) -> Option<Result<(), String>> {
    if without_effect().any(|known| known == key) {
        notes.without_effect(key);
        return Some(Ok(()));
    }
    let find = |table: &'static [Meaningful]| table.iter().find(|known| known.name == key);
    if let Some(known) = find(INSTEAD) {
        if known.asks_for_something(value) {
            notes.instead(key, known.remark);
        }
        return Some(Ok(()));
    }
    let known = find(REFUSED)?;
    let is_asked_for = match key {
        // The one key that asks for something by saying no.
        "completion_only_loss" => value.as_bool() == Some(false),
        "model_init_kwargs" => !only_concerns_loading(value),
        _ => known.asks_for_something(value),
    };
    Some(match is_asked_for {
        true => Err(format!("{} would change the result: {}", show(value), known.remark)),
        false => Ok(()),
    })
}

/// Whether arguments of `from_pretrained` say only how weights are loaded, and not which or in which precision.
fn only_concerns_loading(value: &Value) -> bool {
    const LOADING: [&str; 5] =
        ["attn_implementation", "device_map", "low_cpu_mem_usage", "trust_remote_code", "use_cache"];
    match value {
        Value::Null => true,
        Value::Mapping(entries) => entries.keys().all(|key| key.as_str().is_some_and(|key| LOADING.contains(&key))),
        _ => false,
    }
}

/// Accepts the name of an optimizer if it is a form of AdamW.
pub(crate) fn optimizer(name: &str, notes: &mut Notes) -> Result<(), String> {
    if OPTIMIZERS.contains(&name) {
        return Ok(());
    }
    if SMALL_STATES.contains(&name) {
        notes.instead("optim", "AdamW's moments are in float32");
        return Ok(());
    }
    let nearest = OPTIMIZERS.iter().map(|known| (strsim::jaro_winkler(name, known), known));
    match nearest.max_by(|a, b| a.0.total_cmp(&b.0)).filter(|(score, _)| *score > 0.8) {
        Some((_, nearest)) => Err(format!("\"{name}\" is not a form of AdamW; did you mean \"{nearest}\"?")),
        None => Err(format!(
            "only AdamW is supported, not \"{name}\": write `optim: adamw_torch`, and a learning rate that suits it"
        )),
    }
}

impl Meaningful {
    fn asks_for_something(&self, value: &Value) -> bool {
        let (is_nothing, text) = match value {
            Value::Null => (true, String::new()),
            Value::Bool(flag) => (!flag, flag.to_string()),
            Value::Number(number) => (number.as_f64() == Some(0.0), number.to_string()),
            Value::String(text) => (text.is_empty(), text.clone()),
            Value::Sequence(items) => (items.is_empty(), String::new()),
            Value::Mapping(entries) => (entries.is_empty(), String::new()),
            Value::Tagged(_) => (false, String::new()),
        };
        !is_nothing && !self.neutral.contains(&text.as_str())
    }
}

/// Every key of these tables with its documentation.
pub(crate) fn keys() -> impl Iterator<Item = (&'static str, String)> {
    let without = without_effect().map(|name| (name, "Without effect here.".to_owned()));
    let instead = INSTEAD.iter().map(|key| (key.name, format!("Done differently here: {}.", key.remark)));
    let refused = REFUSED.iter().map(|key| (key.name, format!("Refused unless it asks for nothing: {}.", key.remark)));
    without.chain(instead).chain(refused)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("run_name: first", Some(Ok(())), &["without effect here: run_name"])]
    #[case("data_seed: 7", Some(Ok(())), &["done differently here: data_seed (seed determines the order of the data)"])]
    #[case("data_seed: 0", Some(Ok(())), &[])]
    #[case("completion_only_loss: true", Some(Ok(())), &[])]
    #[case("model_init_kwargs: {use_cache: false}", Some(Ok(())), &[])]
    #[case("neftune_noise_alpha: null", Some(Ok(())), &[])]
    #[case("adafactor: true", Some(Err("true would change the result: only AdamW is supported")), &[])]
    #[case("learning_rat: 1", None, &[])]
    fn keys_are_told_apart(#[case] yaml: &str, #[case] expected: Option<Result<(), &str>>, #[case] lines: &[&str]) {
        let document: serde_yaml_ng::Mapping = serde_yaml_ng::from_str(yaml).expect("YAML");
        let (key, value) = document.iter().next().expect("a key");
        let mut notes = Notes::default();
        let found = accept(key.as_str().expect("text"), value, &mut notes);
        assert_eq!(found, expected.map(|result| result.map_err(str::to_owned)));
        assert_eq!(notes.lines(), lines);
    }
}
