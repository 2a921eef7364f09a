//! The results of all runs, as a table and as JSON.

use std::collections::BTreeMap;
use std::fmt::Write;

use anyhow::Result;
use serde_json::{Map, Value, json};

use crate::phase::{PHASES, Phase};
use crate::record::{Interruption, Run};

/// The results of one workload.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tally {
    /// The workload's name.
    pub(crate) workload: &'static str,
    /// Runs that finished and were compared.
    pub(crate) runs: usize,
    /// Processes.
    pub(crate) starts: usize,
    /// Kills that hit a living process, by phase.
    pub(crate) kills: BTreeMap<Phase, usize>,
    /// Signals that asked a living process to end, by phase.
    pub(crate) signals: BTreeMap<Phase, usize>,
    /// Differences from the undisturbed run.
    pub(crate) differences: Vec<String>,
}

impl Tally {
    /// Adds a run.
    pub(crate) fn add(&mut self, run: &Run) {
        self.runs += 1;
        self.starts += run.starts;
        for (all, some) in [(&mut self.kills, run.kills()), (&mut self.signals, run.signals())] {
            some.into_iter().for_each(|(phase, count)| *all.entry(phase).or_default() += count);
        }
        self.differences.extend(run.differences.iter().cloned());
    }

    /// Kills in all phases.
    pub(crate) fn num_kills(&self) -> usize {
        self.kills.values().sum()
    }

    /// Signals in all phases.
    pub(crate) fn num_signals(&self) -> usize {
        self.signals.values().sum()
    }
}

/// All results.
#[derive(Debug, Clone, Default)]
pub(crate) struct Results {
    /// Seed of every draw.
    pub(crate) seed: u64,
    /// Wall-clock time.
    pub(crate) seconds: f64,
    /// Workload by workload.
    pub(crate) tallies: Vec<Tally>,
    /// In chronological order.
    pub(crate) interruptions: Vec<Interruption>,
    /// What was skipped, and why.
    pub(crate) left_out: Vec<String>,
}

impl Results {
    /// Kills of all workloads.
    pub(crate) fn num_kills(&self) -> usize {
        self.tallies.iter().map(Tally::num_kills).sum()
    }

    /// Signals of all workloads.
    pub(crate) fn num_signals(&self) -> usize {
        self.tallies.iter().map(Tally::num_signals).sum()
    }

    /// Differences of all workloads.
    pub(crate) fn num_differences(&self) -> usize {
        self.tallies.iter().map(|work| work.differences.len()).sum()
    }

    /// A table with one line per workload.
    pub(crate) fn table(&self) -> String {
        let mut text = format!("{:<8} {:>5} {:>7} {:>6}", "work", "runs", "starts", "kills");
        for phase in PHASES {
            let _ = write!(text, " {:>10}", phase.name());
        }
        let _ = writeln!(text, " {:>8} {:>12}", "signals", "differences");
        let total = Tally {
            workload: "all",
            runs: self.tallies.iter().map(|work| work.runs).sum(),
            starts: self.tallies.iter().map(|work| work.starts).sum(),
            kills: PHASES.map(|phase| (phase, self.tallies.iter().map(|work| count(&work.kills, phase)).sum())).into(),
            signals: PHASES
                .map(|phase| (phase, self.tallies.iter().map(|work| count(&work.signals, phase)).sum()))
                .into(),
            differences: self.tallies.iter().flat_map(|work| work.differences.clone()).collect(),
        };
        for work in self.tallies.iter().chain([&total]) {
            let _ = write!(text, "{:<8} {:>5} {:>7} {:>6}", work.workload, work.runs, work.starts, work.num_kills());
            for phase in PHASES {
                let _ = write!(text, " {:>10}", count(&work.kills, phase));
            }
            let _ = writeln!(text, " {:>8} {:>12}", work.num_signals(), work.differences.len());
        }
        for reason in &self.left_out {
            let _ = writeln!(text, "NOT RUN: {reason}");
        }
        text
    }

    /// Everything as JSON.
    pub(crate) fn json(&self) -> Result<String> {
        let works: Vec<Value> = self.tallies.iter().map(tally_json).collect();
        let interruptions: Vec<Value> = self.interruptions.iter().map(interruption_json).collect();
        let results = json!({
            "seed": self.seed,
            "seconds": self.seconds,
            "kills": self.num_kills(),
            "signals": self.num_signals(),
            "differences": self.num_differences(),
            "not_run": self.left_out,
            "works": works,
            "interruptions": interruptions,
        });
        Ok(serde_json::to_string_pretty(&results)? + "\n")
    }
}

fn count(counts: &BTreeMap<Phase, usize>, phase: Phase) -> usize {
    counts.get(&phase).copied().unwrap_or(0)
}

/// Formats counts by phase: `steps 3, export 1`.
pub(crate) fn phases(counts: &BTreeMap<Phase, usize>) -> String {
    let parts: Vec<String> = counts.iter().map(|(phase, count)| format!("{} {count}", phase.name())).collect();
    if parts.is_empty() { "none".to_owned() } else { parts.join(", ") }
}

fn tally_json(tally: &Tally) -> Value {
    let counts = |counts: &BTreeMap<Phase, usize>| -> Map<String, Value> {
        counts.iter().map(|(phase, count)| (phase.name().to_owned(), json!(count))).collect()
    };
    json!({
        "work": tally.workload,
        "runs": tally.runs,
        "starts": tally.starts,
        "kills": counts(&tally.kills),
        "signals": counts(&tally.signals),
        "differences": tally.differences,
    })
}

fn interruption_json(one: &Interruption) -> Value {
    json!({
        "work": one.workload,
        "run": one.run,
        "start": one.start,
        "signal": one.signal.name(),
        "trigger": one.trigger.to_string(),
        "phase": one.phase.name(),
        "threads": one.threads,
        "seconds": one.seconds,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::signal::Signal;
    use crate::trigger::Trigger;

    fn results() -> Results {
        let full = Tally {
            workload: "full",
            runs: 2,
            starts: 9,
            kills: [(Phase::Steps, 4), (Phase::Export, 1)].into(),
            signals: [(Phase::Steps, 2)].into(),
            differences: vec!["a \"b\"\nc".to_owned()],
        };
        let lora =
            Tally { workload: "lora", runs: 1, starts: 3, kills: [(Phase::Steps, 2)].into(), ..Tally::default() };
        let interruption = Interruption {
            workload: "full",
            run: 1,
            start: 2,
            signal: Signal::Kill,
            trigger: Trigger::After(Duration::from_millis(3)),
            phase: Phase::Steps,
            threads: 2,
            seconds: 0.0031,
        };
        let left_out = vec!["coupled (no objective)".to_owned()];
        Results { seed: 3, seconds: 1.0, tallies: vec![full, lora], interruptions: vec![interruption], left_out }
    }

    #[test]
    fn the_table_adds_up() {
        let table = results().table();
        let words: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(words[1], ["full", "2", "9", "5", "0", "0", "0", "4", "0", "1", "0", "0", "2", "1"]);
        assert_eq!(words[3], ["all", "3", "12", "7", "0", "0", "0", "6", "0", "1", "0", "0", "2", "1"]);
        assert!(table.ends_with("NOT RUN: coupled (no objective)\n"), "{table}");
    }

    #[test]
    fn json_has_everything() {
        let json: Value = serde_json::from_str(&results().json().expect("text")).expect("JSON");
        assert_eq!((&json["kills"], &json["differences"]), (&json!(7), &json!(1)));
        assert_eq!(json["works"][0]["kills"], json!({"steps": 4, "export": 1}));
        assert_eq!(json["works"][0]["differences"], json!(["a \"b\"\nc"]));
        let expected = json!({
            "work": "full", "run": 1, "start": 2, "signal": "SIGKILL", "trigger": "after 3.0 ms", "phase": "steps",
            "threads": 2, "seconds": 0.0031,
        });
        assert_eq!(json["interruptions"], json!([expected]));
    }

    #[test]
    fn counts_in_words() {
        assert_eq!(phases(&[(Phase::StartUp, 1), (Phase::Steps, 3)].into()), "start-up 1, steps 3");
        assert_eq!(phases(&BTreeMap::new()), "none");
    }
}
