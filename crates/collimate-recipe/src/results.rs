//! Which keys decide what a run computes.

use crate::recipe::Recipe;

impl Recipe {
    /// The recipe with defaults for all keys that do not affect what is computed: where a run is written, how often it
    /// reports, and where it finds what it reads. Two runs with the same keys here, the same contents of model, adapter,
    /// reference and data have the same bytes after as many steps.
    ///
    /// The number of steps, what ends a run early and which of its weights are saved are left out too: a run may be extended.
    pub fn of_results(&self) -> Self {
        let neutral = Self::default();
        Self {
            // Hashes of what is in them stand in a checkpoint, so that files may be moved.
            model_name_or_path: neutral.model_name_or_path,
            adapter: neutral.adapter,
            reference: neutral.reference,
            data: neutral.data,
            eval_data: neutral.eval_data,
            chat_template_path: neutral.chat_template_path,
            output_dir: neutral.output_dir,
            logging_steps: neutral.logging_steps,
            logging_strategy: neutral.logging_strategy,
            logging_first_step: neutral.logging_first_step,
            save_strategy: neutral.save_strategy,
            save_steps: neutral.save_steps,
            save_total_limit: neutral.save_total_limit,
            save_minutes: neutral.save_minutes,
            max_shard_size: neutral.max_shard_size,
            log_file: neutral.log_file,
            // More steps extend a run.
            max_steps: neutral.max_steps,
            num_train_epochs: neutral.num_train_epochs,
            num_threads: neutral.num_threads,
            reference_cache: neutral.reference_cache,
            token_cache: neutral.token_cache,
            alarm_chosen_drop: neutral.alarm_chosen_drop,
            sample_prompts: neutral.sample_prompts,
            sample_max_new_tokens: neutral.sample_max_new_tokens,
            sample_time_share: neutral.sample_time_share,
            tensorboard: neutral.tensorboard,
            // Mapped weights have the bits of resident ones.
            weights: neutral.weights,
            trackers: neutral.trackers,
            // They decide when a run ends and which of its weights are saved, and change no step.
            load_best_model_at_end: neutral.load_best_model_at_end,
            metric_for_best_model: neutral.metric_for_best_model,
            greater_is_better: neutral.greater_is_better,
            early_stopping_patience: neutral.early_stopping_patience,
            early_stopping_threshold: neutral.early_stopping_threshold,
            stop_on_drift: neutral.stop_on_drift,
            ..self.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn recipe(settings: &[(&str, &str)]) -> Recipe {
        let settings: Vec<_> = settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Recipe::parse(None, &settings).expect("a recipe").recipe
    }

    #[rstest]
    #[case("output_dir", "elsewhere", true)]
    #[case("model_name_or_path", "models/moved", true)]
    #[case("adapter", "runs/moved", true)]
    #[case("reference", "runs/moved", true)]
    #[case("data", "moved.jsonl", true)]
    #[case("eval_data", "moved.jsonl", true)]
    #[case("max_steps", "99", true)]
    #[case("weights", "mapped", true)]
    #[case("quantization", "nf4", false)]
    #[case("learning_rate", "0.5", false)]
    #[case("seed", "9", false)]
    #[case("share_prompt", "false", false)]
    fn a_place_is_neutral_and_a_setting_is_not(#[case] key: &str, #[case] value: &str, #[case] is_neutral: bool) {
        let here = recipe(&[("model_name_or_path", "models/base"), ("data", "here.jsonl"), ("use_peft", "true")]);
        let there = recipe(&[
            ("model_name_or_path", "models/base"),
            ("data", "here.jsonl"),
            ("use_peft", "true"),
            (key, value),
        ]);
        assert_eq!(here.of_results() == there.of_results(), is_neutral);
    }
}
