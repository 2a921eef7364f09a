//! Ranges of a recipe's values and contradictions between them.

use collimate_backend::ComputeDtype;

use super::limits::{MAX_COUNT, MAX_THREADS};
use super::{Origin, Recipe, RecipeError};

impl Recipe {
    /// Checks every value against its range; `origin` says where a key was set.
    pub(super) fn check(&self, origin: &dyn Fn(&str) -> Origin) -> Result<(), RecipeError> {
        let require = |holds: bool, key: &str, problem: String| {
            if holds { Ok(()) } else { Err(RecipeError::Value { origin: origin(key), key: key.to_owned(), problem }) }
        };
        for (key, value) in [
            ("learning_rate", self.learning_rate),
            ("max_grad_norm", self.max_grad_norm),
            ("weight_decay", self.weight_decay),
            ("alarm_chosen_drop", self.alarm_chosen_drop),
            ("router_aux_loss_coef", self.router_aux_loss_coef.unwrap_or(0.0)),
            ("min_reward_gap", self.min_reward_gap),
        ] {
            require(value >= 0.0, key, format!("must be at least 0, is {value}"))?;
        }
        for (key, value) in [
            ("num_train_epochs", self.num_train_epochs),
            ("adam_epsilon", self.adam_epsilon),
            ("lora_alpha", self.lora_alpha),
        ] {
            require(value > 0.0, key, format!("must be above 0, is {value}"))?;
        }
        require(
            (0.0..=1.0).contains(&self.warmup_ratio),
            "warmup_ratio",
            format!("must be in [0, 1], is {}", self.warmup_ratio),
        )?;
        for (key, value) in
            [("adam_beta1", self.adam_beta1), ("adam_beta2", self.adam_beta2), ("lora_dropout", self.lora_dropout)]
        {
            require((0.0..1.0).contains(&value), key, format!("must be in [0, 1), is {value}"))?;
        }
        for (key, value) in [
            ("per_device_train_batch_size", self.per_device_train_batch_size),
            ("per_device_eval_batch_size", self.per_device_eval_batch_size),
            ("gradient_accumulation_steps", self.gradient_accumulation_steps),
            ("lora_r", self.lora_r),
            ("max_prompt_length", self.max_prompt_length),
            ("logging_steps", self.logging_steps),
        ] {
            require(value > 0, key, "must be at least 1, is 0".to_owned())?;
        }
        for (key, value, most) in [
            ("max_length", self.max_length, MAX_COUNT),
            ("max_prompt_length", self.max_prompt_length, MAX_COUNT),
            ("warmup_steps", self.warmup_steps, MAX_COUNT),
            ("max_steps", usize::try_from(self.max_steps).unwrap_or(0), MAX_COUNT),
            ("per_device_train_batch_size", self.per_device_train_batch_size, MAX_COUNT),
            ("per_device_eval_batch_size", self.per_device_eval_batch_size, MAX_COUNT),
            ("gradient_accumulation_steps", self.gradient_accumulation_steps, MAX_COUNT),
            ("lora_r", self.lora_r, MAX_COUNT),
            ("num_threads", self.num_threads, MAX_THREADS),
        ] {
            require(value <= most, key, format!("must be at most {most}, is {value}"))?;
        }
        require(
            self.num_train_epochs <= MAX_COUNT as f64,
            "num_train_epochs",
            format!("must be at most {MAX_COUNT}, is {}", self.num_train_epochs),
        )?;
        for (key, value) in [
            ("save_total_limit", self.save_total_limit),
            ("max_samples", self.max_samples),
            ("max_completion_length", self.max_completion_length),
        ] {
            require(value != Some(0), key, "must be at least 1, is 0".to_owned())?;
        }
        require(
            (0.0..1.0).contains(&self.eval_fraction),
            "eval_fraction",
            format!("must be in [0, 1), is {}", self.eval_fraction),
        )?;
        require(
            self.eval_fraction == 0.0 || self.eval_data.is_none(),
            "eval_fraction",
            "nothing is held out where eval_data is given; leave one out".to_owned(),
        )?;
        require(
            self.max_steps == -1 || self.max_steps >= 1,
            "max_steps",
            format!("must be at least 1, or -1 for whole epochs, is {}", self.max_steps),
        )?;
        require(
            self.max_length > self.max_prompt_length,
            "max_length",
            format!(
                "must leave room for a response beyond max_prompt_length ({}), is {}",
                self.max_prompt_length, self.max_length
            ),
        )?;
        let dtype = self.torch_dtype.as_deref().unwrap_or("auto");
        require(
            matches!(dtype, "auto" | "float32" | "bfloat16" | "float16"),
            "torch_dtype",
            format!("must be auto, float32, bfloat16 or float16, is \"{dtype}\""),
        )?;
        require(
            ComputeDtype::from_name(&self.compute_dtype).is_some(),
            "compute_dtype",
            format!("must be float32 or bfloat16, is \"{}\"", self.compute_dtype),
        )
    }
}
