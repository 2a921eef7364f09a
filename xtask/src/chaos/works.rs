//! The runs that are killed: short, and between them all of what a run does.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::chaos::rows::rows;
use crate::workspace::Workspace;

/// A run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Work {
    /// As `--work` names it.
    pub(crate) name: &'static str,
    /// What it is, for people.
    pub(crate) about: &'static str,
    /// Objectives, of which the first that the program has is trained.
    objectives: &'static [&'static str],
    /// Keys of the recipe.
    settings: &'static [&'static str],
    num_prompts: usize,
}

/// What all runs have: a model of 256 positions is trained, and the user's cache is left alone.
const COMMON: &[&str] =
    &["max_length=256", "max_prompt_length=128", "learning_rate=1e-3", "reference_cache=false", "seed=7"];
/// Prompts of the evaluation file.
const NUM_HELD_OUT: usize = 6;

/// Every work.
pub(crate) const WORKS: &[Work] = &[
    Work {
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
    },
    Work {
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
    },
    Work {
        name: "cache",
        about: "a reference cache that starts empty, batches in several packs, evaluation, one checkpoint kept",
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
    },
    Work {
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
    },
    Work {
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
    },
];

impl Work {
    /// Works by name, or all.
    ///
    /// # Errors
    /// A name that is not there.
    pub(crate) fn named(names: &[String]) -> Result<Vec<Self>> {
        if names.is_empty() {
            return Ok(WORKS.to_vec());
        }
        let find = |name: &String| {
            let found = WORKS.iter().find(|work| work.name == name);
            found.copied().with_context(|| format!("no work is called \"{name}\"; there are {}", all_names()))
        };
        names.iter().map(find).collect()
    }

    /// The first of its objectives that is among `known`.
    pub(crate) fn objective(&self, known: &[String]) -> Option<&'static str> {
        self.objectives.iter().find(|name| known.iter().any(|known| known == *name)).copied()
    }

    /// Whether it keeps the reference's log-probs.
    pub(crate) fn has_cache(&self) -> bool {
        self.settings.contains(&"reference_cache=cache")
    }

    /// Whether it is evaluated.
    fn evaluates(&self) -> bool {
        self.settings.iter().any(|setting| setting.starts_with("eval_"))
    }
}

fn all_names() -> String {
    WORKS.iter().map(|work| work.name).collect::<Vec<_>>().join(", ")
}

/// A work with its files, ready to be started in any folder.
#[derive(Debug, Clone)]
pub(crate) struct Ready {
    /// The work.
    pub(crate) work: Work,
    objective: &'static str,
    model: PathBuf,
    data: PathBuf,
    eval_data: Option<PathBuf>,
}

impl Ready {
    /// Writes the work's data into `folder`.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub(crate) fn new(workspace: &Workspace, work: Work, objective: &'static str, folder: &Path) -> Result<Self> {
        let model = workspace.root.join("crates/collimate/assets/quickstart-base");
        if !model.join("config.json").is_file() {
            bail!("{} is no model folder", model.display());
        }
        let write = |purpose: &str, count: usize| -> Result<PathBuf> {
            let path = folder.join(format!("{purpose}.jsonl"));
            std::fs::write(&path, rows(1, purpose, count))
                .with_context(|| format!("cannot write {}", path.display()))?;
            Ok(path)
        };
        let data = write("train", work.num_prompts)?;
        let eval_data = if work.evaluates() { Some(write("held-out", NUM_HELD_OUT)?) } else { None };
        Ok(Self { work, objective, model, data, eval_data })
    }

    /// The command line, whose paths are those of the current folder: the run goes to `run`. `more` wins.
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
        for setting in COMMON.iter().chain(self.work.settings).chain(more) {
            option("--set", (*setting).to_owned());
        }
        arguments
    }
}

/// The command line that a user goes on with: the recipe is the one in the run's folder.
pub(crate) fn short_resume() -> Vec<String> {
    ["train", "--output", "run", "--resume"].map(str::to_owned).to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn works_are_found_by_name() {
        assert_eq!(Work::named(&[]).expect("all").len(), WORKS.len());
        let found = Work::named(&["lora".to_owned()]).expect("there is one");
        assert_eq!(found[0].name, "lora");
        let error = Work::named(&["lorra".to_owned()]).expect_err("there is none");
        assert!(error.to_string().ends_with("there are full, lora, cache, saves, coupled"), "{error}");
    }

    #[test]
    fn the_objective_is_one_that_the_program_has() {
        let coupled = Work::named(&["coupled".to_owned()]).expect("there is one")[0];
        let known = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(coupled.objective(&known(&["nca", "aot"])), Some("aot"));
        assert_eq!(coupled.objective(&known(&["nca"])), None);
    }

    #[test]
    fn what_is_added_wins_by_standing_last() {
        let ready = Ready {
            work: WORKS[0],
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
