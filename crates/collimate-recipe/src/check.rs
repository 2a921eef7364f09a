//! Checks the ranges of a recipe's values, and contradictions between them.

use crate::error::{Origin, RecipeError};
use crate::limits::{MAX_COUNT, MAX_THREADS};
use crate::recipe::{COMPUTE_DTYPES, MATMUL_PRECISIONS, MODEL_DROPOUTS, QUANTIZATIONS, Recipe};
use crate::weight_place::WEIGHT_PLACES;

impl Recipe {
    /// Checks every value; `origin` says where a key was set.
    pub(crate) fn check(&self, origin: &dyn Fn(&str) -> Origin) -> Result<(), RecipeError> {
        let check = Check { origin };
        self.check_ranges(&check)?;
        self.check_counts(&check)?;
        self.check_contradictions(&check)?;
        self.check_names(&check)
    }

    fn check_ranges(&self, check: &Check<'_>) -> Result<(), RecipeError> {
        for (key, value) in [
            ("learning_rate", self.learning_rate),
            ("max_grad_norm", self.max_grad_norm),
            ("weight_decay", self.weight_decay),
            ("alarm_chosen_drop", self.alarm_chosen_drop),
            ("router_aux_loss_coef", self.router_aux_loss_coef.weight(0.0, false)),
            ("min_reward_gap", self.min_reward_gap),
            ("save_minutes", self.save_minutes),
        ] {
            check.that(value >= 0.0, key, || format!("must be at least 0, is {value}"))?;
        }
        for (key, value) in [
            ("num_train_epochs", self.num_train_epochs),
            ("adam_epsilon", self.adam_epsilon),
            ("lora_alpha", self.lora_alpha),
            ("lora_alpha_pattern", self.lora_alpha_pattern.0.iter().map(|(_, alpha)| *alpha).fold(1.0, f64::min)),
        ] {
            check.that(value > 0.0, key, || format!("must be above 0, is {value}"))?;
        }
        let ratio = self.warmup_ratio;
        check.that((0.0..=1.0).contains(&ratio), "warmup_ratio", || format!("must be in [0, 1], is {ratio}"))?;
        for (key, value) in
            [("adam_beta1", self.adam_beta1), ("adam_beta2", self.adam_beta2), ("lora_dropout", self.lora_dropout)]
        {
            check.that((0.0..1.0).contains(&value), key, || format!("must be in [0, 1), is {value}"))?;
        }
        let share = self.sample_time_share;
        check.that(share > 0.0 && share <= 1.0, "sample_time_share", || format!("must be in (0, 1], is {share}"))?;
        let held_out = self.eval_fraction;
        let is_count = held_out > 1.0 && held_out.fract() == 0.0;
        check.that((0.0..1.0).contains(&held_out) || is_count, "eval_fraction", || {
            format!("must be in [0, 1) or a whole number above 1, is {held_out}")
        })
    }

    fn check_counts(&self, check: &Check<'_>) -> Result<(), RecipeError> {
        for (key, value) in [
            ("per_device_train_batch_size", self.per_device_train_batch_size),
            ("per_device_eval_batch_size", self.per_device_eval_batch_size),
            ("gradient_accumulation_steps", self.gradient_accumulation_steps),
            ("lora_r", self.lora_r),
            ("lora_rank_pattern", self.lora_rank_pattern.0.iter().map(|(_, r)| *r).min().unwrap_or(1)),
            ("max_prompt_length", self.max_prompt_length.unwrap_or(1)),
            ("logging_steps", self.logging_steps.resolve(1)),
            ("save_total_limit", self.save_total_limit.unwrap_or(1)),
            ("max_samples", self.max_samples.unwrap_or(1)),
            ("max_completion_length", self.max_completion_length.unwrap_or(1)),
        ] {
            check.that(value > 0, key, || "must be at least 1, is 0".to_owned())?;
        }
        for (key, value, most) in [
            ("max_length", self.max_length.unwrap_or(1), MAX_COUNT),
            ("max_prompt_length", self.max_prompt_length.unwrap_or(1), MAX_COUNT),
            ("warmup_steps", self.warmup_steps.resolve(1), MAX_COUNT),
            ("max_steps", usize::try_from(self.max_steps).unwrap_or(0), MAX_COUNT),
            ("per_device_train_batch_size", self.per_device_train_batch_size, MAX_COUNT),
            ("per_device_eval_batch_size", self.per_device_eval_batch_size, MAX_COUNT),
            ("gradient_accumulation_steps", self.gradient_accumulation_steps, MAX_COUNT),
            ("lora_r", self.lora_r, MAX_COUNT),
            ("lora_rank_pattern", self.lora_rank_pattern.0.iter().map(|(_, r)| *r).max().unwrap_or(1), MAX_COUNT),
            ("num_threads", self.num_threads, MAX_THREADS),
        ] {
            check.that(value <= most, key, || format!("must be at most {most}, is {value}"))?;
        }
        let epochs = self.num_train_epochs;
        check.that(epochs <= MAX_COUNT as f64, "num_train_epochs", || {
            format!("must be at most {MAX_COUNT}, is {epochs}")
        })?;
        check.that(self.max_steps == -1 || self.max_steps >= 1, "max_steps", || {
            format!("must be at least 1, or -1 for whole epochs, is {}", self.max_steps)
        })
    }

    fn check_contradictions(&self, check: &Check<'_>) -> Result<(), RecipeError> {
        check.that(
            self.lora_layers_pattern.0.is_empty() || !self.lora_layers_to_transform.0.is_empty(),
            "lora_layers_pattern",
            || "is for the layers of lora_layers_to_transform, which names none".to_owned(),
        )?;
        check.that(self.eval_fraction == 0.0 || self.eval_data.is_none(), "eval_fraction", || {
            "nothing is held out where eval_data is given; leave one out".to_owned()
        })?;
        if let Some((key, problem)) = self.problem_with_best() {
            check.that(false, key, || problem)?;
        }
        check.that(self.chat_template.is_none() || self.chat_template_path.is_none(), "chat_template", || {
            "is given beside chat_template_path; leave one out".to_owned()
        })?;
        let is_template = |text: &String| text.contains("{{") || text.contains("{%");
        check.that(self.chat_template.as_ref().is_none_or(is_template), "chat_template", || {
            "expected the text of a Jinja template, which has {{ or {%: the model's own is used without this key, and \
             chat_template_path names a file or a model's folder"
                .to_owned()
        })?;
        let (all, prompt) = (self.max_length.unwrap_or(usize::MAX), self.max_prompt_length.unwrap_or(0));
        check.that(all > prompt, "max_length", || {
            format!("must leave room for a response beyond max_prompt_length ({prompt}), is {all}")
        })?;
        let problem = self.lr_scheduler_kwargs.problem(self.lr_scheduler_type, self.learning_rate);
        check.that(problem.is_none(), "lr_scheduler_kwargs", || problem.unwrap_or_default())
    }

    fn check_names(&self, check: &Check<'_>) -> Result<(), RecipeError> {
        let dtype = self.torch_dtype.as_deref().unwrap_or("auto");
        check.that(matches!(dtype, "auto" | "float32" | "bfloat16" | "float16"), "torch_dtype", || {
            format!("must be auto, float32, bfloat16 or float16, is \"{dtype}\"")
        })?;
        let one_of = |key: &str, names: &[&str], name: &str| {
            check.that(names.contains(&name), key, || format!("must be {}, is \"{name}\"", names.join(" or ")))
        };
        one_of("model_dropout", &MODEL_DROPOUTS, &self.model_dropout)?;
        one_of("quantization", &QUANTIZATIONS, &self.quantization)?;
        one_of("weights", &WEIGHT_PLACES, &self.weights)?;
        one_of("compute_dtype", &COMPUTE_DTYPES, &self.compute_dtype)?;
        one_of("float32_matmul_precision", &MATMUL_PRECISIONS, &self.float32_matmul_precision)
    }
}

/// Creates the error for a violated condition.
struct Check<'a> {
    origin: &'a dyn Fn(&str) -> Origin,
}

impl Check<'_> {
    fn that(&self, holds: bool, key: &str, problem: impl FnOnce() -> String) -> Result<(), RecipeError> {
        match holds {
            true => Ok(()),
            false => {
                let (origin, key) = ((self.origin)(key), key.to_owned());
                Err(RecipeError::Value { origin, key, problem: problem() })
            }
        }
    }
}
