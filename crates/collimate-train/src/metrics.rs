//! The figures of a step under TRL's names, and the file they go to.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use collimate_data::rewards::{entropy, reward_weights};
use collimate_files::{AtomicFile, WriteError};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::error::TrainError;
use crate::lengths::correlation;
use crate::plain_file::read_text;

/// The largest file of metrics, in bytes: a million rows.
const MAX_METRICS_BYTES: u64 = 1 << 30;

/// Named figures of one step or evaluation, in the order in which they were set.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(transparent)]
pub struct MetricsRow(Map<String, Value>);

impl MetricsRow {
    /// Sets a figure; what is not finite is written as `null`.
    pub fn set(&mut self, name: &str, value: f64) {
        let number = serde_json::Number::from_f64(value);
        self.0.insert(name.to_owned(), number.map_or(Value::Null, Value::Number));
    }

    /// Sets a count.
    pub fn set_count(&mut self, name: &str, count: u64) {
        self.0.insert(name.to_owned(), count.into());
    }

    /// A figure; `None` where it is absent or was not finite.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.0.get(name).and_then(Value::as_f64)
    }

    /// The names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// The same figures under names that begin with `prefix`.
    pub fn prefixed(&self, prefix: &str) -> Self {
        Self(self.0.iter().map(|(name, value)| (format!("{prefix}{name}"), value.clone())).collect())
    }

    /// Adds the figures of another row, replacing those of the same name.
    pub fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// The row as one line of JSON.
    pub fn to_json(&self) -> String {
        Value::Object(self.0.clone()).to_string()
    }
}

impl From<Map<String, Value>> for MetricsRow {
    fn from(figures: Map<String, Value>) -> Self {
        Self(figures)
    }
}

/// What a step computed for the K responses of one prompt, in the file's order.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupOutcome {
    /// Implicit rewards of the objective, \[K\].
    pub implicit_rewards: Vec<f64>,
    /// Rewards of the data, \[K\].
    pub rewards: Vec<f64>,
    /// Policy log-probs summed over each response, in nats, \[K\].
    pub policy_logps: Vec<f64>,
    /// The same of the reference, where the objective has one, \[K\].
    pub reference_logps: Option<Vec<f64>>,
    /// Tokens of each response, \[K\].
    pub num_tokens: Vec<usize>,
}

/// The figures of one optimizer step.
#[derive(Debug, Clone)]
pub struct StepMetrics<'a> {
    /// The step, counted from 1.
    pub step: usize,
    /// How much of the data was seen, in passes.
    pub epoch: f64,
    /// Mean loss over the prompts of the step, with the weighted balance loss of a router where that counts.
    pub loss: f64,
    /// The balance loss itself, where it counts.
    pub aux_loss: Option<f64>,
    /// Global norm of the gradient before clipping.
    pub grad_norm: f64,
    /// Learning rate of the step.
    pub learning_rate: f64,
    /// The prompts of the step, before its update.
    pub groups: &'a [GroupOutcome],
    /// The objective's reward temperature, where it has one.
    pub alpha: Option<f64>,
    /// Tokens seen since the run began.
    pub num_tokens: u64,
    /// Wall-clock time of the step.
    pub step_seconds: f64,
}

impl StepMetrics<'_> {
    /// The row of `metrics.jsonl`.
    pub fn row(&self) -> MetricsRow {
        let mut row = MetricsRow::default();
        row.set_count("step", self.step as u64);
        row.set("epoch", self.epoch);
        row.set("loss", self.loss);
        if let Some(aux_loss) = self.aux_loss {
            row.set("aux_loss", aux_loss);
        }
        row.set("grad_norm", self.grad_norm);
        row.set("learning_rate", self.learning_rate);
        row.extend(group_metrics(self.groups, self.alpha));
        row.set_count("num_tokens", self.num_tokens);
        row.set("step_seconds", self.step_seconds);
        row
    }
}

/// The row of an evaluation: the names of a step with `eval_` before them, `step` and `epoch` without.
pub fn evaluation_row(step: usize, epoch: f64, loss: f64, groups: &[GroupOutcome], alpha: Option<f64>) -> MetricsRow {
    let mut row = MetricsRow::default();
    row.set_count("step", step as u64);
    row.set("epoch", epoch);
    let mut figures = MetricsRow::default();
    figures.set("loss", loss);
    figures.extend(group_metrics(groups, alpha));
    row.extend(figures.prefixed("eval_"));
    row
}

/// Means over prompts of implicit rewards and log-probs.
///
/// `chosen` is the best-scored response (the first of equals), `rejected` the mean of all others, `rank_k` the
/// response at place k by falling reward (equals in the file's order), over the prompts that have one.
/// `rewards/accuracies` is the part of prompts whose chosen implicit reward is above the rejected mean, among the
/// prompts whose rewards are not all equal; `null` where there is none. With a reference also `log_ratios/chosen`, the
/// mean of log π − log π_ref of the chosen responses in nats, whatever β. `lengths/chosen` and `lengths/rejected` are in
/// tokens, and `lengths/correlation` is the mean over prompts of the correlation of a response's tokens with its implicit
/// reward, `lengths/reward_correlation` that with the data's reward: where the first leaves the second behind, the policy
/// learns length. With α also `weights/entropy`, the mean
/// entropy of softmax(reward/α) in nats: near 0 the weights are one-hot and the rewards' sizes are ignored.
pub fn group_metrics(groups: &[GroupOutcome], alpha: Option<f64>) -> MetricsRow {
    let orders: Vec<Vec<usize>> = groups.iter().map(|group| descending(&group.rewards)).collect();
    let rewards = Split::new(groups, &orders, |group| &group.implicit_rewards);
    let logps = Split::new(groups, &orders, |group| &group.policy_logps);
    let decided = groups.iter().zip(rewards.chosen.iter().zip(&rewards.rejected));
    let decided = decided.filter(|(group, _)| group.rewards.iter().any(|reward| *reward != group.rewards[0]));
    let accuracies = decided.map(|(_, (chosen, rejected))| if chosen > rejected { 1.0 } else { 0.0 });

    let mut row = MetricsRow::default();
    row.set("rewards/chosen", mean(rewards.chosen.iter().copied()));
    row.set("rewards/rejected", mean(rewards.rejected.iter().copied()));
    row.set("rewards/accuracies", mean(accuracies));
    row.set("rewards/margins", mean(rewards.chosen.iter().zip(&rewards.rejected).map(|(c, r)| c - r)));
    rewards.set_ranks(&mut row, "rewards");
    row.set("logps/chosen", mean(logps.chosen.iter().copied()));
    row.set("logps/rejected", mean(logps.rejected.iter().copied()));
    logps.set_ranks(&mut row, "logps");
    if groups.iter().any(|group| group.reference_logps.is_some()) {
        row.set(crate::alarm::FIGURE, mean(groups.iter().zip(&orders).filter_map(chosen_log_ratio)));
    }
    row.extend(length_metrics(groups, &orders));
    if let Some(alpha) = alpha {
        row.set("weights/entropy", mean(groups.iter().map(|group| entropy(&reward_weights(&group.rewards, alpha)))));
    }
    row
}

/// Lengths of chosen and rejected responses, and how they go with rewards.
fn length_metrics(groups: &[GroupOutcome], orders: &[Vec<usize>]) -> MetricsRow {
    let lengths: Vec<Vec<f64>> =
        groups.iter().map(|group| group.num_tokens.iter().map(|&n| n as f64).collect()).collect();
    let of = |group: usize, responses: &[usize]| mean(responses.iter().map(|&k| lengths[group][k]));
    let with = |values: fn(&GroupOutcome) -> &[f64]| {
        mean(groups.iter().zip(&lengths).filter_map(move |(group, lengths)| correlation(lengths, values(group))))
    };
    let mut row = MetricsRow::default();
    let chosen = orders.iter().enumerate().filter_map(|(group, order)| Some(of(group, order.get(..1)?)));
    let rejected = orders.iter().enumerate().filter_map(|(group, order)| Some(of(group, order.get(1..)?)));
    row.set("lengths/chosen", mean(chosen));
    row.set("lengths/rejected", mean(rejected));
    row.set("lengths/correlation", with(|group| &group.implicit_rewards));
    row.set("lengths/reward_correlation", with(|group| &group.rewards));
    row
}

/// One quantity of every prompt, split by the order of the data's rewards.
struct Split {
    chosen: Vec<f64>,
    rejected: Vec<f64>,
    ranked: Vec<Vec<f64>>,
}

impl Split {
    fn new(groups: &[GroupOutcome], orders: &[Vec<usize>], values: impl Fn(&GroupOutcome) -> &[f64]) -> Self {
        let ranked = groups.iter().zip(orders);
        let ranked = ranked.map(|(group, order)| order.iter().map(|&k| values(group)[k]).collect());
        let ranked: Vec<Vec<f64>> = ranked.collect();
        Self {
            chosen: ranked.iter().filter_map(|values| values.first().copied()).collect(),
            rejected: ranked.iter().map(|values| mean(values.iter().skip(1).copied())).collect(),
            ranked,
        }
    }

    fn set_ranks(&self, row: &mut MetricsRow, name: &str) {
        let num_ranks = self.ranked.iter().map(Vec::len).max().unwrap_or(0);
        for rank in 0..num_ranks {
            let values = self.ranked.iter().filter_map(|values| values.get(rank).copied());
            row.set(&format!("{name}/rank_{rank}"), mean(values));
        }
    }
}

/// log π − log π_ref of the best-scored response, in nats.
fn chosen_log_ratio((group, order): (&GroupOutcome, &Vec<usize>)) -> Option<f64> {
    let best = *order.first()?;
    Some(group.policy_logps[best] - group.reference_logps.as_ref()?[best])
}

/// Indices by falling value; equals keep their order.
fn descending(values: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[b].total_cmp(&values[a]));
    order
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0usize), |(sum, count), value| (sum + value, count + 1));
    if count == 0 { f64::NAN } else { sum / count as f64 }
}

/// Appends rows to `metrics.jsonl`; each is in the file as soon as it is written.
#[derive(Debug)]
pub struct MetricsWriter {
    file: File,
    path: PathBuf,
}

impl MetricsWriter {
    /// Begins a new file, replacing an old one.
    ///
    /// # Errors
    /// [`TrainError::Write`] where the file cannot be made.
    pub fn create(path: &Path) -> Result<Self, TrainError> {
        Self::open(path, OpenOptions::new().write(true).create(true).truncate(true))
    }

    /// Goes on after the first `num_rows` rows, which stay byte for byte: a resumed run repeats the later ones. `hear` gets
    /// each row that is kept; gives their number, which is smaller where the file is damaged or not there.
    ///
    /// # Errors
    /// [`TrainError::Io`] where the file cannot be read, [`TrainError::Write`] where it cannot be written.
    pub fn resume(path: &Path, num_rows: usize, hear: &mut dyn FnMut(MetricsRow)) -> Result<(Self, usize), TrainError> {
        let mut kept = 0;
        let mut copy = AtomicFile::create(path)?;
        let old = match File::open(path) {
            Ok(old) => Some(BufReader::new(old.take(MAX_METRICS_BYTES))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(source) => return Err(TrainError::io(path, source)),
        };
        // A row at a time: a long run's file is many times larger than anything else that is held of it.
        for line in old.into_iter().flat_map(|old| old.split(b'\n')).take(num_rows) {
            let line = line.map_err(|source| TrainError::io(path, source))?;
            let Ok(figures) = serde_json::from_slice(&line) else { break };
            copy.write_all(&[&line[..], b"\n"].concat()).map_err(WriteError::of(path))?;
            hear(MetricsRow(figures));
            kept += 1;
        }
        copy.commit()?;
        Ok((Self::open(path, OpenOptions::new().append(true))?, kept))
    }

    /// Makes sure that all rows are on the disk.
    ///
    /// # Errors
    /// [`TrainError::Write`], as on a full disk.
    pub fn sync(&self) -> Result<(), TrainError> {
        Ok(self.file.sync_all().map_err(WriteError::of(&self.path))?)
    }

    /// Appends one row.
    ///
    /// # Errors
    /// [`TrainError::Write`], as on a full disk.
    pub fn write(&mut self, row: &MetricsRow) -> Result<(), TrainError> {
        let line = row.to_json() + "\n";
        Ok(self.file.write_all(line.as_bytes()).map_err(WriteError::of(&self.path))?)
    }

    fn open(path: &Path, options: &OpenOptions) -> Result<Self, TrainError> {
        let file = options.open(path).map_err(WriteError::of(path))?;
        Ok(Self { file, path: path.to_owned() })
    }
}

/// Reads the rows of a `metrics.jsonl`; a last line that a crash cut off is left out.
///
/// # Errors
/// [`TrainError::Io`] where the file cannot be read, [`TrainError::Metrics`] where a line is no row.
pub fn read_metrics(path: &Path) -> Result<Vec<MetricsRow>, TrainError> {
    let text = read_text(path, MAX_METRICS_BYTES).map_err(|source| TrainError::io(path, source))?;
    let lines: Vec<&str> = text.lines().collect();
    let mut rows = Vec::with_capacity(lines.len());
    for (index, line) in lines.iter().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        match serde_json::from_str::<Map<String, Value>>(line) {
            Ok(figures) => rows.push(MetricsRow(figures)),
            Err(_) if index + 1 == lines.len() && !text.ends_with('\n') => {}
            Err(error) => {
                let (path, message) = (path.to_owned(), error.to_string());
                return Err(TrainError::Metrics { path, line: index + 1, message });
            }
        }
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use std::f64::consts::LN_2;

    use super::*;

    fn group(implicit_rewards: &[f64], rewards: &[f64]) -> GroupOutcome {
        GroupOutcome {
            implicit_rewards: implicit_rewards.to_vec(),
            rewards: rewards.to_vec(),
            policy_logps: implicit_rewards.iter().map(|h| h - 10.0).collect(),
            reference_logps: None,
            num_tokens: vec![3; rewards.len()],
        }
    }

    #[test]
    fn chosen_is_the_first_best_and_rejected_the_mean_of_the_rest() {
        let row = group_metrics(&[group(&[1.0, 4.0, 3.0], &[0.5, 1.0, 1.0])], None);
        assert_eq!(row.get("rewards/chosen"), Some(4.0));
        assert_eq!(row.get("rewards/rejected"), Some((1.0 + 3.0) / 2.0));
        assert_eq!(row.get("rewards/margins"), Some(4.0 - 2.0));
        assert_eq!(row.get("rewards/accuracies"), Some(1.0));
        assert_eq!(row.get("logps/chosen"), Some(-6.0));
        let ranks: Vec<_> = (0..3).map(|rank| row.get(&format!("rewards/rank_{rank}"))).collect();
        assert_eq!(ranks, [Some(4.0), Some(3.0), Some(1.0)]);
    }

    #[test]
    fn lengths_of_chosen_and_rejected_and_how_they_go_with_rewards() {
        let with = |num_tokens: &[usize]| GroupOutcome {
            num_tokens: num_tokens.to_vec(),
            ..group(&[3.0, 2.0, 1.0], &[0.0, 1.0, 0.0])
        };
        let row = group_metrics(&[with(&[30, 20, 10]), with(&[9, 9, 9])], None);
        assert_eq!(row.get("lengths/chosen"), Some((20.0 + 9.0) / 2.0));
        assert_eq!(row.get("lengths/rejected"), Some(((30.0 + 10.0) / 2.0 + 9.0) / 2.0));
        // Where all are of one length there is nothing to go with; the middle one being best says nothing about length.
        assert!((row.get("lengths/correlation").expect("a figure") - 1.0).abs() < 1e-12);
        assert!(row.get("lengths/reward_correlation").expect("a figure").abs() < 1e-12);
    }

    #[test]
    fn the_chosen_responses_log_ratio_is_there_with_a_reference() {
        let with = |reference: &[f64]| GroupOutcome {
            reference_logps: Some(reference.to_vec()),
            ..group(&[1.0, 4.0], &[0.0, 1.0])
        };
        // Policy log-probs are h - 10: -6 for the chosen one.
        let row = group_metrics(&[with(&[-9.0, -5.0]), with(&[-9.0, -8.0])], None);
        assert_eq!(row.get("log_ratios/chosen"), Some((-1.0 + 2.0) / 2.0));
        assert_eq!(group_metrics(&[group(&[1.0, 4.0], &[0.0, 1.0])], None).get("log_ratios/chosen"), None);
    }

    #[test]
    fn ranks_are_means_over_the_prompts_that_have_them() {
        let row = group_metrics(&[group(&[1.0, 2.0], &[1.0, 0.0]), group(&[3.0, 6.0, 8.0], &[2.0, 1.0, 0.0])], None);
        assert_eq!(row.get("rewards/rank_0"), Some((1.0 + 3.0) / 2.0));
        assert_eq!(row.get("rewards/rank_2"), Some(8.0));
        assert_eq!(row.get("rewards/accuracies"), Some(0.0));
    }

    #[test]
    fn equal_rewards_decide_nothing() {
        let row = group_metrics(&[group(&[1.0, 2.0], &[1.0, 1.0])], Some(1.0));
        assert_eq!(row.get("rewards/accuracies"), None);
        assert!((row.get("weights/entropy").expect("an entropy") - LN_2).abs() < 1e-12);
        let one_hot = group_metrics(&[group(&[1.0, 2.0], &[1.0, 0.0])], Some(1e-4));
        assert_eq!(one_hot.get("weights/entropy"), Some(0.0));
    }

    #[test]
    fn names_and_order_of_a_row() {
        let groups = [group(&[1.0, 2.0], &[1.0, 0.0])];
        let step = StepMetrics {
            step: 1,
            epoch: 0.5,
            loss: LN_2,
            aux_loss: None,
            grad_norm: 1.0,
            learning_rate: 0.0,
            groups: &groups,
            alpha: None,
            num_tokens: 7,
            step_seconds: 0.1,
        };
        let row = step.row();
        let names: Vec<&str> = row.names().collect();
        let expected = "step epoch loss grad_norm learning_rate rewards/chosen rewards/rejected rewards/accuracies \
                        rewards/margins rewards/rank_0 rewards/rank_1 logps/chosen logps/rejected logps/rank_0 \
                        logps/rank_1 lengths/chosen lengths/rejected lengths/correlation \
                        lengths/reward_correlation num_tokens step_seconds";
        assert_eq!(names.join(" "), expected);
        assert_eq!(evaluation_row(1, 0.5, 0.1, &groups, None).get("eval_loss"), Some(0.1));
    }

    #[test]
    fn damaged_rows_and_what_follows_them_are_not_kept() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("metrics.jsonl");
        for (text, kept) in [
            (&b"{\"step\": 1}\n{\"ste\0\0\n{\"step\": 3}\n"[..], 1),
            (b"{\"step\": 1}\n{\"step\": 2}\n{\"step\": ", 2),
            // Whole but for its newline, which it gets.
            (b"{\"step\": 1}\n{\"step\": 2}\n{\"step\": 3}", 3),
            (b"", 0),
        ] {
            std::fs::write(&path, text).expect("a file");
            let (_, found) = MetricsWriter::resume(&path, 3, &mut |_| {}).expect("a file");
            assert_eq!(found, kept);
            assert_eq!(read_metrics(&path).expect("rows").len(), kept);
        }
        std::fs::remove_file(&path).expect("a file");
        assert_eq!(MetricsWriter::resume(&path, 3, &mut |_| {}).expect("a file").1, 0);
    }

    #[test]
    fn a_resumed_file_forgets_the_steps_that_will_be_repeated() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("metrics.jsonl");
        let mut writer = MetricsWriter::create(&path).expect("a file");
        let mut at_checkpoint = Vec::new();
        for step in 1..=4 {
            let mut row = MetricsRow::default();
            row.set_count("step", step);
            writer.write(&row).expect("a row");
            if step == 3 {
                writer.sync().expect("a disk");
                at_checkpoint = std::fs::read(&path).expect("rows");
            }
        }
        drop(writer);
        let cut = std::fs::read_to_string(&path).expect("text") + "{\"step\": 5, \"lo";
        std::fs::write(&path, cut).expect("a file");
        let mut rows = Vec::new();
        let (mut resumed, kept) = MetricsWriter::resume(&path, 3, &mut |row| rows.push(row)).expect("a file");
        assert_eq!((kept, rows.len()), (3, 3));
        assert_eq!(std::fs::read(&path).expect("rows"), at_checkpoint);
        let steps: Vec<_> = read_metrics(&path).expect("rows").iter().map(|row| row.get("step")).collect();
        assert_eq!(steps, [Some(1.0), Some(2.0), Some(3.0)]);
        let mut row = MetricsRow::default();
        row.set_count("step", 4);
        resumed.write(&row).expect("a row");
        assert_eq!(read_metrics(&path).expect("rows").len(), 4);
    }
}
