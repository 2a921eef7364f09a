//! What a process was doing, inferred from its log and folder.

use crate::folder::Snapshot;

/// The phase of a run's process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Reading, tokenizing, loading, up to the first computation.
    StartUp,
    /// Scoring the reference.
    Reference,
    /// Evaluating.
    Evaluation,
    /// Training steps.
    Steps,
    /// Writing a checkpoint.
    Checkpoint,
    /// Writing the final model, card and report, after the last checkpoint.
    Export,
    /// Drawing responses, or waiting for their rewards.
    Sampling,
    /// Writing what a verb is for.
    Output,
}

/// Every phase, in the order of a run.
pub(crate) const PHASES: [Phase; 8] = [
    Phase::StartUp,
    Phase::Reference,
    Phase::Evaluation,
    Phase::Steps,
    Phase::Checkpoint,
    Phase::Export,
    Phase::Sampling,
    Phase::Output,
];

/// Prefixes of the log lines that start a stage.
const STAGES: [(&str, Phase); 8] = [
    ("reading ", Phase::StartUp),
    ("tokenizing ", Phase::StartUp),
    ("reference log-probs (", Phase::Reference),
    ("evaluation (", Phase::Evaluation),
    ("training with ", Phase::Steps),
    ("sampling", Phase::Sampling),
    ("rewards (", Phase::Sampling),
    ("scoring", Phase::Sampling),
];

impl Phase {
    /// Its name in logs and results.
    pub fn name(self) -> &'static str {
        match self {
            Self::StartUp => "start-up",
            Self::Reference => "reference",
            Self::Evaluation => "evaluation",
            Self::Steps => "steps",
            Self::Checkpoint => "checkpoint",
            Self::Export => "export",
            Self::Sampling => "sampling",
            Self::Output => "output",
        }
    }

    /// The phase in which a process stopped, from its log and its folder at start and end.
    pub(crate) fn detect(log: &str, before: &Snapshot, after: &Snapshot, last_step: usize) -> Self {
        if after.staging.difference(&before.staging).next().is_some() {
            return Self::Checkpoint;
        }
        let last = last_stage(log);
        // Once the last checkpoint is in place, only the export remains.
        let reached_it = before.newest() < last_step || log.contains("resuming after step");
        if after.newest() >= last_step && reached_it { Self::Export } else { last }
    }

    /// The same for a verb other than `train`.
    pub(crate) fn of_verb(log: &str, before: &Snapshot, after: &Snapshot) -> Self {
        if after.staging.difference(&before.staging).next().is_some() {
            return Self::Checkpoint;
        }
        match after.temporaries.difference(&before.temporaries).next() {
            Some(_) => Self::Output,
            None => last_stage(log),
        }
    }
}

/// The stage that the log says was begun last.
fn last_stage(log: &str) -> Phase {
    let stage = |line: &str| STAGES.iter().find(|(start, _)| line.starts_with(start)).map(|(_, phase)| *phase);
    log.lines().rev().find_map(stage).unwrap_or(Phase::StartUp)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(step: usize) -> Snapshot {
        Snapshot { checkpoints: [step].into(), ..Snapshot::default() }
    }

    #[test]
    fn the_last_stage_that_was_begun_counts() {
        let none = Snapshot::default();
        let phase = |log: &str| Phase::detect(log, &none, &none, 9);
        assert_eq!(phase(""), Phase::StartUp);
        assert_eq!(phase("reading a\ntokenizing a (3)\n"), Phase::StartUp);
        assert_eq!(phase("reading a\nreference log-probs: 3 of 4 responses from the cache\n"), Phase::StartUp);
        assert_eq!(phase("reference log-probs (3)\nreference log-probs: 3/3, 9/s\n"), Phase::Reference);
        assert_eq!(phase("training with nca (3)\nevaluation (2)\n"), Phase::Evaluation);
        assert_eq!(phase("evaluation (2)\nevaluation: 2/2, 9/s\ntraining with nca (3)\n"), Phase::Steps);
    }

    #[test]
    fn a_checkpoint_that_was_begun_shows_in_the_folder() {
        let staged = Snapshot { staging: [".checkpoint-a".to_owned()].into(), ..at(3) };
        assert_eq!(Phase::detect("training with nca (3)\n", &at(3), &staged, 9), Phase::Checkpoint);
        assert_eq!(Phase::detect("training with nca (3)\n", &staged, &staged, 9), Phase::Steps, "an earlier one");
    }

    #[test]
    fn a_verb_writes_what_is_under_a_hidden_name() {
        let none = Snapshot::default();
        let writing = Snapshot { temporaries: [".samples.jsonl.7.tmp".to_owned()].into(), ..Snapshot::default() };
        let phase = |log: &str, after: &Snapshot| Phase::of_verb(log, &none, after);
        assert_eq!(phase("", &none), Phase::StartUp);
        assert_eq!(phase("sampling (3)\n", &none), Phase::Sampling);
        assert_eq!(phase("sampling (3)\n", &writing), Phase::Output);
        assert_eq!(Phase::of_verb("", &writing, &writing), Phase::StartUp, "an earlier one");
    }

    #[test]
    fn after_the_last_checkpoint_comes_the_export() {
        assert_eq!(Phase::detect("evaluation (2)\n", &at(6), &at(9), 9), Phase::Export);
        assert_eq!(Phase::detect("reading a\n", &at(9), &at(9), 9), Phase::StartUp);
        assert_eq!(Phase::detect("reading a\nresuming after step 9\n", &at(9), &at(9), 9), Phase::Export);
    }
}
