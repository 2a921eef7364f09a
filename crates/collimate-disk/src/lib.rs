//! What a run writes, and whether the disk has room for it.
//!
//! Start with [`PlannedDisk`]. The crate must not know rows of data, steps that are taken, or objectives.

mod dtype;

use std::path::{Path, PathBuf};

use collimate_data::counted;
use collimate_files::{folder_bytes, free_space};
use collimate_progress::format_bytes;
use collimate_recipe::{Recipe, StepCounts};

use collimate_session::Outline;
use serde::Serialize;

pub use dtype::{dtype_is_named, storage_dtype};

use dtype::largest_dtype;

/// Bytes of a number in float32.
const FLOAT: u64 = 4;

/// Bytes of a row of a recorded step, about.
const STEP_ROW: u64 = 1 << 10;
/// Bytes of a row of an evaluation and its lengths, about.
const EVALUATION_ROW: u64 = 16 << 10;
/// Bytes of the recipe, the card and the report without its figures, about.
const DOCUMENTS: u64 = 256 << 10;

/// Disk of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlannedDisk {
    /// One checkpoint: trained parameters and two moments, in float32.
    pub checkpoint: u64,
    /// Checkpoints that are kept; `None` if the number of steps is unknown.
    pub num_checkpoints: Option<usize>,
    /// Most checkpoints at once: one is written before an old one is removed.
    pub most_checkpoints: Option<usize>,
    /// The final model or adapter.
    pub model: u64,
    /// Metrics, report and card, about.
    pub metrics: u64,
    /// Most bytes at once.
    pub peak: Option<u64>,
    /// Bytes that are free where the run will write; `None` if the system does not say.
    pub free: Option<u64>,
}

/// The disk has no room for what the run will write.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {free} are free, and the run needs up to {needed}; {remedy}", path.display())]
pub struct DiskError {
    /// The run's folder.
    pub path: PathBuf,
    /// What it needs, by its parts.
    pub needed: String,
    /// What is free there.
    pub free: String,
    /// What helps.
    pub remedy: String,
}

impl PlannedDisk {
    /// What a run of these steps writes, or of an unknown number of steps.
    pub fn new(recipe: &Recipe, outline: &Outline, steps: Option<&StepCounts>) -> Self {
        let counts = &outline.counts;
        let checkpoint = 3 * FLOAT * counts.trained;
        // Adapters are trained and written in float32.
        let model = match recipe.use_peft {
            true => FLOAT * counts.adapter,
            false => largest_dtype(recipe, &outline.config).num_bytes() as u64 * counts.base,
        };
        let kept = steps.map(|steps| {
            let all = recipe.checkpoints(steps).with_last(steps.total_steps).count(steps.total_steps);
            // One is written before an old one, or one that was due by time or is no longer the best, is removed.
            let by_time = recipe.save_interval().is_some() && steps.total_steps > 1;
            let best = usize::from(recipe.load_best_model_at_end);
            let kept = all.min(recipe.save_total_limit.unwrap_or(all));
            (kept + best, kept + best + usize::from(all > kept || by_time || best > 0))
        });
        let metrics = steps.map_or(0, |steps| metrics_bytes(recipe, steps));
        Self {
            checkpoint,
            num_checkpoints: kept.map(|(kept, _)| kept),
            most_checkpoints: kept.map(|(_, most)| most),
            model,
            metrics,
            peak: kept.map(|(_, most)| checkpoint.saturating_mul(most as u64).saturating_add(model + metrics)),
            free: free_space(&recipe.output_dir),
        }
    }

    /// Checks that the disk has room for the run in its folder; what checkpoints take there now is used again.
    ///
    /// # Errors
    /// It has not.
    pub fn check(&self, recipe: &Recipe) -> Result<(), DiskError> {
        let out = &recipe.output_dir;
        let (Some(needed), Some(free)) = (self.peak, self.free) else { return Ok(()) };
        let reused = collimate_checkpoint::all(out).iter().map(|path| folder_bytes(path)).sum::<u64>();
        match needed <= free.saturating_add(reused) {
            true => Ok(()),
            false => Err(self.refused(recipe, out, needed, reused)),
        }
    }

    /// Whether there is room, as far as is known.
    pub fn fits(&self) -> bool {
        self.peak.zip(self.free).is_none_or(|(needed, free)| needed <= free)
    }

    fn refused(&self, recipe: &Recipe, out: &Path, needed: u64, reused: u64) -> DiskError {
        let most = self.most_checkpoints.unwrap_or(1);
        let mut remedies = vec!["free some, or choose another output_dir".to_owned()];
        if self.num_checkpoints > Some(1) {
            remedies.push("keep fewer checkpoints (save_total_limit: 1)".to_owned());
        }
        if recipe.save_interval().is_some() && self.most_checkpoints > self.num_checkpoints {
            remedies.push("write none by time (save_minutes: 0)".to_owned());
        }
        if !recipe.use_peft {
            remedies.push("train an adapter (use_peft: true)".to_owned());
        }
        DiskError {
            path: out.to_owned(),
            needed: format!(
                "{} ({} of {} at once, the final model of {}, metrics of {})",
                format_bytes(needed),
                counted(most, "checkpoint"),
                format_bytes(self.checkpoint),
                format_bytes(self.model),
                format_bytes(self.metrics),
            ),
            free: format_bytes(self.free.unwrap_or(0).saturating_add(reused)),
            remedy: remedies.join("; "),
        }
    }
}

fn metrics_bytes(recipe: &Recipe, steps: &StepCounts) -> u64 {
    let rows = recipe.logged_steps(steps).count(steps.total_steps) as u64 + 1;
    let evaluates = recipe.eval_data.is_some() || recipe.eval_fraction > 0.0;
    let evaluations = recipe.evaluations(steps).count(steps.total_steps) as u64 + 2;
    // TensorBoard's files copy them.
    let copies = if recipe.tensorboard { 2 } else { 1 };
    let evaluated = if evaluates { evaluations.saturating_mul(EVALUATION_ROW) } else { 0 };
    rows.saturating_mul(STEP_ROW).saturating_add(evaluated).saturating_mul(copies).saturating_add(DOCUMENTS)
}

#[cfg(test)]
mod tests {
    use collimate_backend::{ComputeDtype, WeightCosts};
    use collimate_hf::ModelConfig;
    use collimate_model::{MemoryCosts, ParameterCounts, Trainable};
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    /// A small llama whose weights are trained.
    fn outline() -> Outline {
        let config = json!({
            "model_type": "llama", "vocab_size": 64, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1,
            "num_attention_heads": 2, "num_key_value_heads": 2, "max_position_embeddings": 64,
        });
        let config = ModelConfig::from_json(Path::new("config.json"), config).expect("a configuration");
        let trainable = Trainable::Base;
        let plain = WeightCosts { unpacking: |_, _| 0, prepared: |_, _| None };
        let costs = MemoryCosts::new(&config, None, trainable, ComputeDtype::Float32, plain);
        let counts = ParameterCounts::new(&config, None, trainable);
        Outline { config, lora: None, trainable, costs, counts, device_memory: None }
    }

    fn disk(free: u64) -> PlannedDisk {
        PlannedDisk {
            checkpoint: 100 << 20,
            num_checkpoints: Some(2),
            most_checkpoints: Some(3),
            model: 50 << 20,
            metrics: 1 << 20,
            peak: Some(351 << 20),
            free: Some(free),
        }
    }

    #[test]
    fn too_little_room_is_refused_with_the_numbers_and_what_helps() {
        let folder = tempfile::tempdir().expect("a folder");
        let recipe = Recipe { output_dir: folder.path().to_owned(), save_total_limit: Some(2), ..Recipe::default() };
        assert!(disk(351 << 20).check(&recipe).is_ok());
        let error = disk(300 << 20).check(&recipe).expect_err("too little").to_string();
        for part in [
            "300.0 MiB are free",
            "351.0 MiB (3 checkpoints of 100.0 MiB at once, the final model of 50.0 MiB, metrics of 1.0 MiB)",
            "save_total_limit: 1",
            "save_minutes: 0",
            "use_peft: true",
        ] {
            assert!(error.contains(part), "{part:?} is not in {error}");
        }
        let with = Recipe { save_minutes: 0.0, use_peft: true, ..recipe };
        let error = disk(300 << 20).check(&with).expect_err("too little").to_string();
        assert!(!error.contains("save_minutes") && !error.contains("use_peft"), "{error}");
    }

    #[test]
    fn the_checkpoints_of_a_resumed_run_are_not_needed_twice() {
        let folder = tempfile::tempdir().expect("a folder");
        let recipe = Recipe { output_dir: folder.path().to_owned(), ..Recipe::default() };
        std::fs::create_dir(folder.path().join("checkpoint-4")).expect("a folder");
        std::fs::write(folder.path().join("checkpoint-4/model.safetensors"), vec![0; 1 << 20]).expect("a file");
        assert!(disk(350 << 20).check(&recipe).is_ok());
        assert!(disk(349 << 20).check(&recipe).is_err());
    }

    #[test]
    fn two_billion_steps_are_counted_at_once() {
        let max_steps = i64::from(i32::MAX);
        let recipe = Recipe { save_steps: 1.into(), save_minutes: 0.0, max_steps, ..Recipe::default() };
        let begun = std::time::Instant::now();
        let planned = PlannedDisk::new(&recipe, &outline(), Some(&recipe.step_counts(4)));
        assert_eq!(planned.num_checkpoints, Some(max_steps as usize));
        assert!(begun.elapsed().as_secs_f64() < 1.0, "{:?}", begun.elapsed());
    }

    #[rstest]
    #[case::at_the_end(0, None, 0.0, (1, 1))]
    #[case::at_the_end_and_by_time(0, None, 15.0, (1, 2))]
    #[case::all(3, None, 0.0, (4, 4))]
    #[case::all_and_by_time(3, None, 15.0, (4, 5))]
    #[case::limited(3, Some(2), 0.0, (2, 3))]
    #[case::limited_and_by_time(3, Some(2), 15.0, (2, 3))]
    #[case::one_and_by_time(0, Some(1), 15.0, (1, 2))]
    fn checkpoints_are_counted(
        #[case] save_steps: usize,
        #[case] save_total_limit: Option<usize>,
        #[case] save_minutes: f64,
        #[case] expected: (usize, usize),
    ) {
        let recipe = Recipe {
            save_steps: save_steps.into(),
            save_total_limit,
            save_minutes,
            max_steps: 10,
            ..Recipe::default()
        };
        let steps = recipe.step_counts(4);
        let planned = PlannedDisk::new(&recipe, &outline(), Some(&steps));
        assert_eq!((planned.num_checkpoints, planned.most_checkpoints), (Some(expected.0), Some(expected.1)));
        let bytes = planned.model + planned.metrics + expected.1 as u64 * planned.checkpoint;
        assert_eq!(planned.peak, Some(bytes));
        // The best is kept beside them, and another is written before it is removed.
        let planned = PlannedDisk::new(&Recipe { load_best_model_at_end: true, ..recipe }, &outline(), Some(&steps));
        assert_eq!((planned.num_checkpoints, planned.most_checkpoints), (Some(expected.0 + 1), Some(expected.0 + 2)));
    }
}
