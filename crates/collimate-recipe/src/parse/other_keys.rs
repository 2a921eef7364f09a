//! Keys that a recipe may have besides those of the table.

use super::switches;
use crate::flat_objective::FlatObjective;
use crate::foreign;
use crate::mixture::MixtureKeys;
use crate::recipe::Recipe;

/// Aliases of keys, each with the key that it stands for.
const ALIASES: &[(&str, &str)] = &[
    ("dtype", "torch_dtype"),
    ("evaluation_strategy", "eval_strategy"),
    ("max_seq_length", "max_length"),
    ("per_gpu_train_batch_size", "per_device_train_batch_size"),
    ("per_gpu_eval_batch_size", "per_device_eval_batch_size"),
];

/// Keys that set one field in a way of their own, with their documentation.
const OTHER_KEYS: &[(&str, &str)] = &[
    ("optim", "A form of AdamW by its name in transformers."),
    (
        "report_to",
        "`tensorboard` or `all`, also in a list, sets `tensorboard: true`; `wandb`, `mlflow` and `trackio` set `trackers`; a note names others.",
    ),
    ("push_to_hub", "True is an error with the command that uploads the run: nothing is uploaded from here."),
];

impl Recipe {
    /// Every key that is understood beside [`Recipe::KEYS`], with its documentation: aliases, and keys of other trainers.
    pub fn other_keys() -> Vec<(&'static str, String)> {
        let aliases = ALIASES.iter().map(|(name, key)| (*name, format!("Alias of `{key}`.")));
        let others = OTHER_KEYS.iter().chain(switches::KEYS).map(|(name, doc)| (*name, (*doc).to_owned()));
        aliases.chain(others).chain(FlatObjective::keys()).chain(MixtureKeys::keys()).chain(foreign::keys()).collect()
    }
}

/// The key that a key of other trainers stands for under another name.
pub(super) fn our_name(key: &str) -> &str {
    ALIASES.iter().find(|(alias, _)| *alias == key).map_or(key, |(_, name)| name)
}

/// Up to three known keys with a similar spelling.
pub(super) fn nearest(key: &str) -> Vec<String> {
    let known = Recipe::KEYS.iter().map(|known| known.name);
    let known = known.chain(Recipe::other_keys().into_iter().map(|(name, _)| name));
    let mut scored: Vec<_> = known.map(|name| (strsim::jaro_winkler(key, name), name)).collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0));
    let best = scored.first().map_or(0.0, |first| first.0);
    let close = |score: f64| score > 0.8 && score > best - 0.03;
    scored.into_iter().filter(|(score, _)| close(*score)).take(3).map(|(_, name)| name.to_owned()).collect()
}
