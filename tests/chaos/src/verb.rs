//! Verbs other than `train`: whoever is killed in one repeats its command, or resumes it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::process::{Program, output};
use crate::rows::{prompts, rows};

/// How a command that was killed is given again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Again {
    /// As it is. An output that is there is whole, so it need not be repeated.
    Unless,
    /// As it is; with `--force` if the output is there.
    Force,
    /// With `--resume`.
    Resume,
}

/// A command and what it writes into its folder.
#[derive(Debug, Clone, Copy)]
pub struct Verb {
    /// Name for `--work`.
    pub name: &'static str,
    /// What it covers.
    pub about: &'static str,
    /// File or folder that it writes.
    output: &'static str,
    again: Again,
    /// The verb with its options. `MODEL`, `ADAPTER`, `ROWS`, `FEW` and `PROMPTS` stand for what [`Inputs`] has, `REWARDER` for a
    /// program.
    words: &'static str,
}

/// A reward that depends on the response alone.
const REWARDER: &str = "while read -r line; do echo $((${#line} % 7)); done";

/// Every verb of `cargo xtask chaos`.
pub const VERBS: &[Verb] = &[
    Verb {
        name: "loop",
        about: "two rounds of sampling, rewards and training, held-out prompts, checkpoints",
        output: "run",
        again: Again::Resume,
        words: "loop --model MODEL --prompts PROMPTS --eval-prompts PROMPTS --rounds 2 --num-responses 2 --eval-responses 1 \
                --max-new-tokens 6 --command REWARDER --shell --output run --objective nca --set num_train_epochs=3 \
                --set save_steps=2 --set per_device_train_batch_size=2 --set max_length=256 --set max_prompt_length=128 \
                --set reference_cache=false --set sample_time_share=1 --set sample_prompts=2 --set sample_max_new_tokens=8",
    },
    Verb {
        name: "sample",
        about: "responses to prompts in one file",
        output: "samples.jsonl",
        again: Again::Force,
        words: "sample --model MODEL --data PROMPTS --num-responses 4 --max-new-tokens 12 --output samples.jsonl",
    },
    Verb {
        name: "reward",
        about: "rewards of a program, two processes of it",
        output: "rewards.jsonl",
        again: Again::Force,
        words: "reward --command REWARDER --shell --workers 2 --data ROWS --output rewards.jsonl",
    },
    Verb {
        name: "score",
        about: "log-probs of responses",
        output: "scores.jsonl",
        again: Again::Force,
        words: "score --model MODEL --data FEW --output scores.jsonl",
    },
    Verb {
        name: "merge",
        about: "an adapter in its model, in several files with an index",
        output: "merged",
        again: Again::Unless,
        words: "merge --model MODEL --adapter ADAPTER --output merged --dtype float32 --max-shard-size 200KB",
    },
    Verb {
        name: "export",
        about: "a GGUF file with an adapter merged",
        output: "model.gguf",
        again: Again::Unless,
        words: "export --model MODEL --adapter ADAPTER --outtype f16 --tokenizer-pre gpt-2 --output model.gguf",
    },
    Verb {
        name: "convert",
        about: "all pairs of rows in the preference layout",
        output: "pairs.jsonl",
        again: Again::Force,
        words: "data convert ROWS --to preference --pairs all_pairs --output pairs.jsonl",
    },
];

/// What verbs read. Processes run in folders of their own, so every path is absolute.
#[derive(Debug, Clone)]
pub struct Inputs {
    model: PathBuf,
    adapter: PathBuf,
    rows: PathBuf,
    few_rows: PathBuf,
    prompts: PathBuf,
}

/// Rows that a verb reads; enough that most of them take longer than starting the program.
const NUM_ROWS: usize = 120;
/// Rows for a verb that computes with all of them.
const NUM_FEW: usize = 12;
const NUM_PROMPTS: usize = 6;

impl Inputs {
    /// Empties `folder`, writes rows and prompts into it, and trains an adapter there.
    ///
    /// # Errors
    /// `model` is not a model's folder, a file cannot be written, or the program cannot train.
    pub fn new(program: &Program, model: &Path, folder: &Path) -> Result<Self> {
        if folder.exists() {
            std::fs::remove_dir_all(folder).with_context(|| format!("cannot remove {}", folder.display()))?;
        }
        std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        let write = |name: &str, text: String| -> Result<PathBuf> {
            let path = folder.join(name);
            std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
            Ok(path)
        };
        let inputs = Self {
            model: model.to_owned(),
            adapter: folder.join("adapter"),
            rows: write("rows.jsonl", rows(2, "verbs", NUM_ROWS))?,
            few_rows: write("few.jsonl", rows(3, "verbs", NUM_FEW))?,
            prompts: write("prompts.jsonl", prompts(NUM_PROMPTS))?,
        };
        let training = inputs.fill(
            "train --model MODEL --data FEW --output ADAPTER --objective nca --set use_peft=true --set lora_r=4 \
             --set max_steps=1 --set sample_prompts=0 --set max_length=256 --set max_prompt_length=128 \
             --set reference_cache=false --quiet",
        );
        output(program, &training.iter().map(String::as_str).collect::<Vec<_>>())?;
        Ok(inputs)
    }

    /// The words of a command line with these inputs.
    fn fill(&self, words: &str) -> Vec<String> {
        let word = |word: &str| match word {
            "MODEL" => self.model.display().to_string(),
            "ADAPTER" => self.adapter.display().to_string(),
            "ROWS" => self.rows.display().to_string(),
            "FEW" => self.few_rows.display().to_string(),
            "PROMPTS" => self.prompts.display().to_string(),
            "REWARDER" => REWARDER.to_owned(),
            other => other.to_owned(),
        };
        words.split_whitespace().map(word).collect()
    }
}

impl Verb {
    /// The verb of this name.
    pub(crate) fn find(name: &str) -> Option<Self> {
        VERBS.iter().find(|verb| verb.name == name).copied()
    }

    /// A verb with its inputs, for a trial.
    pub fn with(self, inputs: &Inputs) -> ReadyVerb {
        ReadyVerb { verb: self, words: inputs.fill(self.words) }
    }
}

/// A verb that can be started in any folder.
#[derive(Debug, Clone)]
pub struct ReadyVerb {
    pub(crate) verb: Verb,
    words: Vec<String>,
}

impl ReadyVerb {
    /// The command line of the process with this number, from 1, in a folder.
    pub(crate) fn arguments(&self, start: usize, folder: &Path) -> Vec<String> {
        let mut words = self.words.clone();
        match self.verb.again {
            Again::Resume if start > 1 => words.push("--resume".to_owned()),
            Again::Force if folder.join(self.verb.output).exists() => words.push("--force".to_owned()),
            _ => {}
        }
        words
    }

    /// Whether a killed process left nothing to do: a file or folder appears whole or not at all.
    pub(crate) fn is_finished(&self, folder: &Path) -> bool {
        self.verb.again == Again::Unless && folder.join(self.verb.output).exists()
    }

    /// Whether it trains.
    pub(crate) fn trains(&self) -> bool {
        self.verb.again == Again::Resume
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready(name: &str) -> ReadyVerb {
        let path = |name: &str| PathBuf::from(format!("/in/{name}"));
        let inputs = Inputs {
            model: path("model"),
            adapter: path("adapter"),
            rows: path("rows"),
            few_rows: path("few"),
            prompts: path("prompts"),
        };
        Verb::find(name).expect("a verb").with(&inputs)
    }

    #[test]
    fn a_command_is_given_again_as_a_user_would() {
        let folder = tempfile::tempdir().expect("a folder");
        let last = |name: &str, start: usize| ready(name).arguments(start, folder.path()).pop();
        assert_eq!(
            (last("loop", 1).as_deref(), last("loop", 2).as_deref()),
            (Some("sample_max_new_tokens=8"), Some("--resume"))
        );
        assert_eq!(last("sample", 2).as_deref(), Some("samples.jsonl"), "nothing is there to replace");
        assert!(!ready("merge").is_finished(folder.path()));
        std::fs::write(folder.path().join("samples.jsonl"), "").expect("a file");
        std::fs::create_dir(folder.path().join("merged")).expect("a folder");
        assert_eq!(last("sample", 2).as_deref(), Some("--force"));
        assert!(ready("merge").is_finished(folder.path()) && !ready("sample").is_finished(folder.path()));
    }

    #[test]
    fn words_are_filled_in() {
        let words = ready("merge").arguments(1, Path::new("/none"));
        assert_eq!(words[..5], ["merge", "--model", "/in/model", "--adapter", "/in/adapter"]);
    }
}
