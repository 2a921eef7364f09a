//! Keys of axolotl and LLaMA-Factory, whose recipes are not read here: what each is called here.

/// Who else has the key.
const AXOLOTL: &str = "axolotl";
const LLAMA_FACTORY: &str = "LLaMA-Factory";

/// A key, whose it is, and what to write here.
const KEYS: &[(&str, &str, &str)] = &[
    ("base_model", AXOLOTL, "model_name_or_path"),
    ("base_model_config", AXOLOTL, "model_name_or_path"),
    ("tokenizer_config", AXOLOTL, "nothing: the tokenizer is read from the model's folder"),
    ("lora_model_dir", AXOLOTL, "adapter"),
    ("rl", AXOLOTL, "objective, as in `objective: dpo`"),
    ("rl_beta", AXOLOTL, "beta"),
    ("dpo_beta", AXOLOTL, "beta"),
    ("dpo_label_smoothing", AXOLOTL, "label_smoothing"),
    ("dpo_loss_type", AXOLOTL, "loss_type"),
    ("orpo_alpha", AXOLOTL, "objective, as in `objective: {name: orpo, beta: 0.1}`"),
    ("sequence_len", AXOLOTL, "max_length"),
    ("micro_batch_size", AXOLOTL, "per_device_train_batch_size"),
    ("eval_batch_size", AXOLOTL, "per_device_eval_batch_size"),
    ("batch_size", AXOLOTL, "per_device_train_batch_size and gradient_accumulation_steps"),
    ("num_epochs", AXOLOTL, "num_train_epochs"),
    ("optimizer", AXOLOTL, "optim"),
    ("lr_scheduler", AXOLOTL, "lr_scheduler_type"),
    ("cosine_min_lr_ratio", AXOLOTL, "lr_scheduler_type: cosine_with_min_lr, lr_scheduler_kwargs: {min_lr_rate: 0.1}"),
    ("val_set_size", AXOLOTL, "eval_fraction"),
    ("test_datasets", AXOLOTL, "eval_data"),
    ("saves_per_epoch", AXOLOTL, "save_steps, as in `save_steps: 0.25`, or save_strategy: epoch"),
    ("evals_per_epoch", AXOLOTL, "eval_steps, as in `eval_steps: 0.25`, or eval_strategy: epoch"),
    ("lora_target_linear", AXOLOTL, "lora_target_modules: all-linear"),
    ("peft_use_rslora", AXOLOTL, "use_rslora"),
    ("peft_use_dora", AXOLOTL, "use_dora"),
    ("sample_packing", AXOLOTL, "nothing: batches are computed without padding"),
    ("pad_to_sequence_len", AXOLOTL, "nothing: batches are computed without padding"),
    ("flash_attention", AXOLOTL, "nothing: attention never stores its matrix"),
    ("unfrozen_parameters", AXOLOTL, "use_peft: false trains all weights"),
    ("adapter_name_or_path", LLAMA_FACTORY, "adapter"),
    ("stage", LLAMA_FACTORY, "objective, as in `objective: dpo`"),
    ("finetuning_type", LLAMA_FACTORY, "use_peft: true for lora, use_peft: false for full"),
    ("pref_beta", LLAMA_FACTORY, "beta"),
    ("pref_loss", LLAMA_FACTORY, "loss_type"),
    ("pref_ftx", LLAMA_FACTORY, "rpo_alpha"),
    ("dpo_ftx", LLAMA_FACTORY, "rpo_alpha"),
    ("ref_model", LLAMA_FACTORY, "reference"),
    ("lora_rank", LLAMA_FACTORY, "lora_r"),
    ("lora_target", LLAMA_FACTORY, "lora_target_modules; `all` is all-linear"),
    ("additional_target", LLAMA_FACTORY, "lora_modules_to_save"),
    ("dataset", LLAMA_FACTORY, "data, the file itself"),
    ("eval_dataset", LLAMA_FACTORY, "eval_data"),
    ("dataset_dir", LLAMA_FACTORY, "nothing: data is a path"),
    ("cutoff_len", LLAMA_FACTORY, "max_length"),
    ("val_size", LLAMA_FACTORY, "eval_fraction"),
    ("template", LLAMA_FACTORY, "nothing: the chat template in the model's folder is used"),
    ("pure_bf16", LLAMA_FACTORY, "compute_dtype: bfloat16"),
    ("plot_loss", LLAMA_FACTORY, "nothing: every run writes report.html"),
    ("overwrite_cache", LLAMA_FACTORY, "nothing: caches are keyed by what is in them"),
    ("quantization_bit", LLAMA_FACTORY, "quantization: nf4, or int8 for 8"),
];

/// What is wrong with a key of another trainer's, and what to write instead.
pub(crate) fn problem(key: &str) -> Option<String> {
    let (_, trainer, instead) = KEYS.iter().find(|(known, ..)| *known == key)?;
    Some(format!("is {trainer}'s; here it is {instead}"))
}

/// What is wrong with the first of a recipe's keys that is another trainer's, with what to write instead of the others.
pub(crate) fn problem_of<'k>(keys: impl Iterator<Item = &'k str>) -> Option<(&'k str, String)> {
    let mut found = keys.filter_map(|key| KEYS.iter().find(|(known, ..)| *known == key));
    let (first, ..) = found.next()?;
    let others: String = found.map(|(key, _, instead)| format!("\n  {key}: {instead}")).collect();
    let more = if others.is_empty() { String::new() } else { format!("\nas for its other keys:{others}") };
    Some((first, problem(first)? + &more))
}

#[cfg(test)]
mod tests {
    use collimate_objectives as _;

    use super::*;
    use crate::Recipe;

    #[test]
    fn all_keys_of_a_recipe_are_answered_at_once() {
        let keys = ["learning_rate", "base_model", "micro_batch_size", "num_epochs"];
        let expected = "is axolotl's; here it is model_name_or_path\nas for its other keys:\n  micro_batch_size: \
                        per_device_train_batch_size\n  num_epochs: num_train_epochs";
        assert_eq!(problem_of(keys.into_iter()), Some(("base_model", expected.to_owned())));
        assert_eq!(problem_of(keys.into_iter().take(2)).map(|(_, text)| text.lines().count()), Some(1));
        assert_eq!(problem_of(["learning_rate"].into_iter()), None);
    }

    #[test]
    fn no_key_is_known_here_and_elsewhere_and_the_first_word_of_advice_is_a_key() {
        let mut ours: Vec<&str> = Recipe::KEYS.iter().map(|key| key.name).collect();
        ours.extend(Recipe::other_keys().iter().map(|(name, _)| *name));
        for (key, _, instead) in KEYS {
            assert!(!ours.contains(key), "{key}");
            let first = instead.split([' ', ':', ',', ';']).next().expect("a word");
            assert!(first == "nothing" || ours.contains(&first), "{key}: {first}");
        }
    }
}
