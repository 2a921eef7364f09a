//! A loop's settings and the results of its rounds.

use std::fs;
use std::path::{Path, PathBuf};

use collimate_files::{OutputFolder, read_plain, write_atomically};
use collimate_recipe::Recipe;
use collimate_train::{TrainError, hash_of_starts};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::LoopOptions;
use crate::error::RoundsError;

const SETTINGS_FILE: &str = "loop.json";
const ROWS_FILE: &str = "loop.jsonl";
/// The largest of the two, in bytes: a row a round, and a recipe.
const MAX_BYTES: u64 = 16 << 20;

/// The setting that stands for the contents of the model, adapter and reference that the loop starts from.
const START: &str = "start";

/// A finished round; round 0 is the start, which is only measured.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RoundRow {
    /// The round's number.
    pub round: usize,
    /// Responses sampled.
    pub num_responses: Option<usize>,
    /// Sampled responses that the program gave no score for.
    pub num_failed: Option<usize>,
    /// Mean reward of the responses that were sampled, before the round's training.
    pub mean_reward: Option<f64>,
    /// Mean over prompts of the best response's reward.
    pub best_reward: Option<f64>,
    /// Optimizer steps.
    pub num_steps: Option<usize>,
    /// Mean reward on held-out prompts, after the round's training.
    pub eval_mean_reward: Option<f64>,
    /// Wall-clock time.
    pub seconds: f64,
}

impl RoundRow {
    pub(super) fn describe(&self) -> String {
        let part =
            |name: &str, value: Option<f64>| value.map(|value| format!(", {name} {value:.4}")).unwrap_or_default();
        format!(
            "round {}{}{} ({:.0} s)",
            self.round,
            part("mean reward of the samples", self.mean_reward),
            part("mean reward on held-out prompts after it", self.eval_mean_reward),
            self.seconds
        )
    }
}

/// The rounds as a table.
pub fn table(rows: &[RoundRow]) -> String {
    let cell = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.4}"));
    let count = |value: Option<usize>| value.map_or("-".to_owned(), |value| value.to_string());
    let mut text = format!(
        "{:>5}  {:>9}  {:>11}  {:>11}  {:>5}  {:>8}\n",
        "round", "responses", "mean reward", "best reward", "steps", "held out"
    );
    for row in rows {
        text += &format!(
            "{:>5}  {:>9}  {:>11}  {:>11}  {:>5}  {:>8}\n",
            row.round,
            count(row.num_responses),
            cell(row.mean_reward),
            cell(row.best_reward),
            count(row.num_steps),
            cell(row.eval_mean_reward)
        );
    }
    text
}

/// The rows of a loop, written to disk as soon as a round is finished.
#[derive(Debug)]
pub(super) struct Record {
    path: PathBuf,
    pub(super) rows: Vec<RoundRow>,
}

impl Record {
    /// Starts a loop in its folder, or opens the existing one.
    ///
    /// # Errors
    /// The folder holds a loop that is not to be resumed, or that was started with other settings, or rounds of which nothing
    /// says with which; it is a folder that the loop reads, or holds a link or the like where the loop's files should be.
    pub(super) fn open(options: &LoopOptions, hashes: Map<String, Value>) -> Result<Self, RoundsError> {
        let out = &options.recipe.output_dir;
        let (settings, path) = (out.join(SETTINGS_FILE), out.join(ROWS_FILE));
        check_folders(&options.recipe)?;
        let mut wanted = options.settings.clone();
        wanted.extend(hashes);
        wanted.insert("recipe".to_owned(), recipe(options)?);
        wanted.insert(START.to_owned(), hash_of_starts(&options.recipe)?.into());
        if settings.exists() {
            if !options.resume {
                return Err(TrainError::OutputTaken { path: out.clone() }.into());
            }
            let there: Map<String, Value> = read(&settings)?.pop().unwrap_or_default();
            check(&settings, &there, &wanted)?;
            let rows = if path.exists() { read(&path)? } else { Vec::new() };
            return Ok(Self { path, rows });
        }
        // A run of `collimate train` in the same folder would get mixed up with the rounds.
        if out.join("metrics.jsonl").exists() {
            return Err(TrainError::OutputTaken { path: out.clone() }.into());
        }
        if let Some(left) = rounds_of(out).into_iter().chain([path.clone()]).find(|left| left.exists()) {
            let left = left.file_name().unwrap_or_default().display().to_string();
            let message = format!(
                "is missing, and {left} is there: nothing says with which settings it was made; put {SETTINGS_FILE} back, or \
                 choose another --output"
            );
            return Err(damaged(&settings, message));
        }
        write_atomically(&settings, format!("{}\n", Value::Object(wanted)).as_bytes())?;
        Ok(Self { path, rows: Vec::new() })
    }

    pub(super) fn has(&self, round: usize) -> bool {
        self.rows.iter().any(|row| row.round == round)
    }

    pub(super) fn add(&mut self, row: RoundRow) -> Result<(), RoundsError> {
        self.rows.push(row);
        let lines: Vec<String> = self.rows.iter().filter_map(|row| serde_json::to_string(row).ok()).collect();
        Ok(write_atomically(&self.path, (lines.join("\n") + "\n").as_bytes())?)
    }
}

/// The recipe's keys that affect the results. Every round has the same number of steps.
fn recipe(options: &LoopOptions) -> Result<Value, RoundsError> {
    let given = &options.recipe;
    let computed =
        Recipe { max_steps: given.max_steps, num_train_epochs: given.num_train_epochs, ..given.of_results() };
    let yaml = computed.resolved_yaml()?;
    Ok(Value::Object(serde_yaml_ng::from_str(&yaml).map_err(RoundsError::Settings)?))
}

/// Checks that the loop's folder is none of those that it reads, and that its files and those of its rounds are plain ones, so
/// that nothing is read or written elsewhere.
fn check_folders(recipe: &Recipe) -> Result<(), TrainError> {
    let out = &recipe.output_dir;
    let given = [("model", recipe.model_name_or_path.as_deref()), ("adapter", recipe.adapter.as_deref())];
    let reads: Vec<_> = given.into_iter().filter_map(|(what, path)| Some((what, path?))).collect();
    let writes = |name: &str| name == SETTINGS_FILE || name == ROWS_FILE || is_round(Path::new(name));
    OutputFolder { path: out, reads: &reads, writes: &writes }.check(true)?;
    for round in rounds_of(out) {
        OutputFolder { path: &round, reads: &[], writes: &|_| true }.check(true)?;
    }
    Ok(())
}

/// The folders of the rounds.
fn rounds_of(out: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(out).into_iter().flatten().flatten();
    let mut rounds: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| is_round(path)).collect();
    rounds.sort();
    rounds
}

fn is_round(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.strip_prefix("round-").is_some_and(|number| number.parse::<usize>().is_ok())
}

/// Parses every line of a file.
fn read<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<Vec<T>, RoundsError> {
    let text = read_plain(path, MAX_BYTES).map_err(RoundsError::read(path))?;
    let parse = |(index, line): (usize, &str)| {
        serde_json::from_str(line).map_err(|error| damaged(path, format!("line {} is damaged: {error}", index + 1)))
    };
    text.lines().enumerate().map(parse).collect()
}

fn check(path: &Path, there: &Map<String, Value>, here: &Map<String, Value>) -> Result<(), RoundsError> {
    let mut differing = Vec::new();
    for (name, value) in here {
        match (there.get(name), value) {
            (Some(other), value) if other == value => {}
            // Earlier versions wrote the names of model and adapter instead.
            (None, _) if name == START => {}
            (Some(_), _) if name == START => {
                differing.push("the model, adapter or reference to start from has other weights".to_owned());
            }
            (Some(Value::Object(there)), Value::Object(here)) => {
                let other = |key: &str| there.get(key).unwrap_or(&Value::Null);
                let keys = here.iter().filter(|(key, value)| other(key) != *value);
                differing.extend(keys.map(|(key, value)| format!("{key} is {value}, there {}", other(key))));
            }
            (other, value) => {
                differing.push(format!("{name} is {value}, there {}", other.unwrap_or(&Value::Null)));
            }
        }
    }
    if differing.is_empty() {
        return Ok(());
    }
    let message = format!(
        "is of a loop with other settings: {}; go on with the same, or choose another --output",
        differing.join("; ")
    );
    Err(damaged(path, message))
}

fn damaged(path: &Path, message: String) -> RoundsError {
    TrainError::Checkpoint { path: path.to_owned(), message }.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_a_line_a_round() {
        let start = RoundRow { eval_mean_reward: Some(0.5), ..RoundRow::default() };
        let first = RoundRow {
            round: 1,
            num_responses: Some(4096),
            mean_reward: Some(0.25),
            best_reward: Some(0.75),
            num_steps: Some(32),
            ..RoundRow::default()
        };
        let expected = "round  responses  mean reward  best reward  steps  held out\n    \
                        0          -            -            -      -    0.5000\n    \
                        1       4096       0.2500       0.7500     32         -\n";
        assert_eq!(table(&[start, first]), expected);
    }

    #[test]
    fn other_settings_are_named() {
        let map = |text: &str| serde_json::from_str::<Map<String, Value>>(text).expect("JSON");
        let there = map(r#"{"command": "a", "recipe": {"seed": 1, "beta": 2}}"#);
        let path = Path::new("loop.json");
        assert!(check(path, &there, &there).is_ok());
        let here = map(r#"{"command": "b", "recipe": {"seed": 3, "beta": 2}}"#);
        let error = check(path, &there, &here).expect_err("other settings").to_string();
        assert!(error.contains("command is \"b\", there \"a\"; seed is 3, there 1; go on"), "{error}");
        let starts = |hash: &str| map(&format!("{{\"start\": \"{hash}\"}}"));
        assert!(check(path, &there, &starts("a")).is_ok(), "a loop of an earlier version");
        assert!(check(path, &starts("a"), &starts("a")).is_ok());
        let error = check(path, &starts("a"), &starts("b")).expect_err("another model").to_string();
        assert!(error.contains("the model, adapter or reference to start from has other weights"), "{error}");
    }
}
