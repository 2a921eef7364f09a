//! The workloads: each is short, and together they cover everything that a run does.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::process::{Program, output};
use crate::rows::rows;

/// A kind of run.
#[derive(Debug, Clone, Copy)]
pub struct Workload {
    /// Name for `--work`.
    pub name: &'static str,
    /// What it covers.
    pub about: &'static str,
    /// Candidate objectives; the first one that the program has is used.
    pub objectives: &'static [&'static str],
    /// Keys of the recipe.
    pub settings: &'static [&'static str],
    /// Prompts to train on.
    pub num_prompts: usize,
    /// Held-out prompts, for runs that evaluate.
    pub num_held_out: usize,
}

/// Settings of all runs. The model has 256 positions; the user's reference cache is not touched.
const COMMON: &[&str] =
    // Sample answers that are cut by the clock would differ between runs.
    &[
        "max_length=256",
        "max_prompt_length=128",
        "learning_rate=1e-3",
        "reference_cache=false",
        "seed=7",
        "sample_time_share=1",
    ];

/// Every workload of `cargo xtask chaos`.
pub const WORKLOADS: &[Workload] = &[
    Workload {
        name: "full",
        about: "all weights, accumulated batches, four epochs with an odd end, evaluation, two checkpoints kept",
        objectives: &["nca"],
        settings: &[
            "per_device_train_batch_size=2",
            "gradient_accumulation_steps=2",
            "num_train_epochs=4",
            "eval_steps=5",
            "save_steps=3",
            "save_total_limit=2",
            "weight_decay=0.01",
        ],
        num_prompts: 22,
        num_held_out: 6,
    },
    Workload {
        name: "lora",
        about: "an adapter with dropout, blocks run again, evaluation each epoch, all checkpoints kept",
        objectives: &["infonca"],
        settings: &[
            "use_peft=true",
            "lora_r=4",
            "lora_dropout=0.1",
            "gradient_checkpointing=true",
            "per_device_train_batch_size=3",
            "num_train_epochs=3",
            "eval_strategy=epoch",
            "save_steps=4",
            "lr_scheduler_type=linear",
        ],
        num_prompts: 20,
        num_held_out: 6,
    },
    Workload {
        name: "cache",
        about: "a reference cache that starts empty, a batch in several packs, evaluation, one checkpoint kept",
        objectives: &["nca"],
        settings: &[
            "reference_cache=cache",
            "memory_budget=110MiB",
            "per_device_train_batch_size=2",
            "num_train_epochs=2",
            "per_device_eval_batch_size=1",
            "eval_steps=7",
            "save_steps=5",
            "save_total_limit=1",
        ],
        num_prompts: 24,
        num_held_out: 6,
    },
    Workload {
        name: "saves",
        about: "an adapter, a checkpoint after every step, two kept, no evaluation",
        objectives: &["dpo"],
        settings: &[
            "use_peft=true",
            "lora_r=8",
            "lora_dropout=0",
            "per_device_train_batch_size=4",
            "num_train_epochs=3",
            "save_steps=1",
            "save_total_limit=2",
            "lr_scheduler_type=constant_with_warmup",
        ],
        num_prompts: 30,
        num_held_out: 6,
    },
    Workload {
        name: "coupled",
        about: "an objective over the whole step, accumulated batches, evaluation",
        objectives: &["kto", "aot", "aot_unpaired"],
        settings: &[
            "per_device_train_batch_size=2",
            "gradient_accumulation_steps=3",
            "num_train_epochs=3",
            "eval_steps=4",
            "save_steps=2",
            "save_total_limit=3",
        ],
        num_prompts: 26,
        num_held_out: 6,
    },
    Workload {
        name: "quantized",
        about: "an adapter over a base packed into four bits, with dropout, all checkpoints kept",
        objectives: &["nca"],
        settings: &[
            "quantization=nf4-double",
            "use_peft=true",
            "lora_dropout=0.1",
            "per_device_train_batch_size=4",
            "num_train_epochs=3",
            "save_steps=2",
        ],
        num_prompts: 22,
        num_held_out: 6,
    },
];

impl Workload {
    /// Workloads by name, or all.
    ///
    /// # Errors
    /// An unknown name.
    pub(crate) fn named(names: &[String]) -> Result<Vec<Self>> {
        if names.is_empty() {
            return Ok(WORKLOADS.to_vec());
        }
        let find = |name: &String| {
            let found = Self::find(name);
            found.with_context(|| format!("no work is called \"{name}\"; there are {}", all_names()))
        };
        names.iter().map(find).collect()
    }

    /// The workload of this name.
    pub(crate) fn find(name: &str) -> Option<Self> {
        WORKLOADS.iter().find(|workload| workload.name == name).copied()
    }

    /// The first of its objectives that is among `known`.
    fn objective(&self, known: &[String]) -> Option<&'static str> {
        self.objectives.iter().find(|name| known.iter().any(|known| known == *name)).copied()
    }

    /// Whether it keeps the reference's log-probs.
    pub(crate) fn has_cache(&self) -> bool {
        self.settings.contains(&"reference_cache=cache")
    }

    fn evaluates(&self) -> bool {
        self.settings.iter().any(|setting| setting.starts_with("eval_"))
    }
}

pub(crate) fn all_names() -> String {
    WORKLOADS.iter().map(|workload| workload.name).collect::<Vec<_>>().join(", ")
}

/// Each workload with an objective that the program has; those without one are reported and added to `left_out`.
///
/// # Errors
/// The program fails to list its objectives.
pub(crate) fn with_objectives(
    program: &Program,
    workloads: Vec<Workload>,
    left_out: &mut Vec<String>,
) -> Result<Vec<(Workload, &'static str)>> {
    let list = output(program, &["objectives"])?;
    let known: Vec<String> =
        list.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect();
    let mut chosen = Vec::new();
    for workload in workloads {
        match workload.objective(&known) {
            Some(objective) => chosen.push((workload, objective)),
            None => {
                let reason = format!("{} (this program has no such objective)", workload.name);
                eprintln!("NOT RUN: {reason}");
                left_out.push(reason);
            }
        }
    }
    Ok(chosen)
}

/// A workload with its files, which can be started in any folder.
#[derive(Debug, Clone)]
pub struct Ready {
    pub(crate) workload: Workload,
    objective: &'static str,
    model: PathBuf,
    data: PathBuf,
    eval_data: Option<PathBuf>,
}

impl Ready {
    /// Empties `folder` and writes the workload's data into it. Processes run in folders of their own, so `model` and
    /// `folder` must be absolute paths.
    ///
    /// # Errors
    /// `model` is not a model's folder, or a file cannot be written.
    pub fn new(workload: Workload, objective: &'static str, model: &Path, folder: &Path) -> Result<Self> {
        if !model.join("config.json").is_file() {
            bail!("{} is not a model folder", model.display());
        }
        if folder.exists() {
            std::fs::remove_dir_all(folder).with_context(|| format!("cannot remove {}", folder.display()))?;
        }
        std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        let write = |purpose: &str, count: usize| -> Result<PathBuf> {
            let path = folder.join(format!("{purpose}.jsonl"));
            std::fs::write(&path, rows(1, purpose, count))
                .with_context(|| format!("cannot write {}", path.display()))?;
            Ok(path)
        };
        let data = write("train", workload.num_prompts)?;
        let eval_data = if workload.evaluates() { Some(write("held-out", workload.num_held_out)?) } else { None };
        Ok(Self { workload, objective, model: model.to_owned(), data, eval_data })
    }

    /// The command line of a run into `run` of the current folder; settings in `more` override the workload's.
    pub(crate) fn arguments(&self, more: &[&str]) -> Vec<String> {
        let path = |path: &Path| path.display().to_string();
        let mut arguments: Vec<String> = vec!["train".to_owned()];
        let mut option = |name: &str, value: String| arguments.extend([name.to_owned(), value]);
        option("--model", path(&self.model));
        option("--data", path(&self.data));
        if let Some(eval_data) = &self.eval_data {
            option("--eval-data", path(eval_data));
        }
        option("--objective", self.objective.to_owned());
        option("--output", "run".to_owned());
        for setting in COMMON.iter().chain(self.workload.settings).chain(more) {
            option("--set", (*setting).to_owned());
        }
        arguments
    }
}

/// The command line by which a user resumes: the recipe is the one in the run's folder.
pub(crate) fn short_resume() -> Vec<String> {
    ["train", "--output", "run", "--resume"].map(str::to_owned).to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workloads_are_found_by_name() {
        assert_eq!(Workload::named(&[]).expect("all").len(), WORKLOADS.len());
        let found = Workload::named(&["lora".to_owned()]).expect("there is one");
        assert_eq!(found[0].name, "lora");
        let error = Workload::named(&["lorra".to_owned()]).expect_err("there is none");
        assert!(error.to_string().ends_with("there are full, lora, cache, saves, coupled, quantized"), "{error}");
    }

    #[test]
    fn the_objective_is_one_that_the_program_has() {
        let coupled = Workload::named(&["coupled".to_owned()]).expect("there is one")[0];
        let known = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(coupled.objective(&known(&["nca", "aot"])), Some("aot"));
        assert_eq!(coupled.objective(&known(&["nca"])), None);
    }

    #[test]
    fn added_settings_stand_last_and_win() {
        let ready = Ready {
            workload: WORKLOADS[0],
            objective: "nca",
            model: "/model".into(),
            data: "/train.jsonl".into(),
            eval_data: Some("/held-out.jsonl".into()),
        };
        let words = ready.arguments(&["save_steps=9"]).join(" ");
        assert!(words.starts_with("train --model /model --data /train.jsonl --eval-data /held-out.jsonl "), "{words}");
        assert!(words.ends_with(" --set save_steps=9"), "{words}");
    }
}
