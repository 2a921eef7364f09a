//! What came of it, for people and as JSON.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::chaos::blow::Blow;
use crate::chaos::phase::{PHASES, Phase};
use crate::chaos::trial::Run;
use crate::chaos::trigger::Trigger;

/// What was done to one work.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tally {
    /// The work's name.
    pub(crate) work: &'static str,
    /// Runs that came to their end and were compared.
    pub(crate) runs: usize,
    /// Processes.
    pub(crate) starts: usize,
    /// Kills that hit a living process, by where they hit it.
    pub(crate) kills: BTreeMap<Phase, usize>,
    /// Signals that asked a living process to end, by where it was.
    pub(crate) signals: BTreeMap<Phase, usize>,
    /// Where runs differ from the one that was left alone.
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

/// One interruption.
#[derive(Debug, Clone)]
pub(crate) struct Interruption {
    /// The work's name.
    pub(crate) work: &'static str,
    /// The run of the work, from 1.
    pub(crate) run: usize,
    /// The process of the run, from 1.
    pub(crate) start: usize,
    /// What was sent.
    pub(crate) blow: Blow,
    /// When it was sent.
    pub(crate) trigger: Trigger,
    /// Where it hit.
    pub(crate) phase: Phase,
    /// Threads of the process.
    pub(crate) threads: usize,
    /// How long the process had lived.
    pub(crate) seconds: f64,
}

/// All results.
#[derive(Debug, Clone, Default)]
pub(crate) struct Results {
    /// Seed of every draw.
    pub(crate) seed: u64,
    /// Wall-clock time.
    pub(crate) seconds: f64,
    /// Work by work.
    pub(crate) works: Vec<Tally>,
    /// In their order.
    pub(crate) interruptions: Vec<Interruption>,
    /// What was not done, and why.
    pub(crate) left_out: Vec<String>,
}

impl Results {
    /// Kills of all works.
    pub(crate) fn num_kills(&self) -> usize {
        self.works.iter().map(Tally::num_kills).sum()
    }

    /// Signals of all works.
    pub(crate) fn num_signals(&self) -> usize {
        self.works.iter().map(Tally::num_signals).sum()
    }

    /// Differences of all works.
    pub(crate) fn num_differences(&self) -> usize {
        self.works.iter().map(|work| work.differences.len()).sum()
    }

    /// A table with a line a work.
    pub(crate) fn table(&self) -> String {
        let mut text = format!("{:<8} {:>5} {:>7} {:>6}", "work", "runs", "starts", "kills");
        for phase in PHASES {
            let _ = write!(text, " {:>10}", phase.name());
        }
        let _ = writeln!(text, " {:>8} {:>12}", "signals", "differences");
        let total = Tally {
            work: "all",
            runs: self.works.iter().map(|work| work.runs).sum(),
            starts: self.works.iter().map(|work| work.starts).sum(),
            kills: PHASES.map(|phase| (phase, self.works.iter().map(|work| of(&work.kills, phase)).sum())).into(),
            signals: PHASES.map(|phase| (phase, self.works.iter().map(|work| of(&work.signals, phase)).sum())).into(),
            differences: self.works.iter().flat_map(|work| work.differences.clone()).collect(),
        };
        for work in self.works.iter().chain([&total]) {
            let _ = write!(text, "{:<8} {:>5} {:>7} {:>6}", work.work, work.runs, work.starts, work.num_kills());
            for phase in PHASES {
                let _ = write!(text, " {:>10}", of(&work.kills, phase));
            }
            let _ = writeln!(text, " {:>8} {:>12}", work.num_signals(), work.differences.len());
        }
        for reason in &self.left_out {
            let _ = writeln!(text, "NOT RUN: {reason}");
        }
        text
    }

    /// Everything as JSON.
    pub(crate) fn json(&self) -> String {
        let works: Vec<String> = self.works.iter().map(tally_json).collect();
        let interruptions: Vec<String> = self.interruptions.iter().map(interruption_json).collect();
        let left_out: Vec<String> = self.left_out.iter().map(|reason| quoted(reason)).collect();
        format!(
            "{{\n  \"seed\": {},\n  \"seconds\": {:.1},\n  \"kills\": {},\n  \"signals\": {},\n  \"differences\": {},\n  \
             \"not_run\": [{}],\n  \"works\": [\n    {}\n  ],\n  \"interruptions\": [\n    {}\n  ]\n}}\n",
            self.seed,
            self.seconds,
            self.num_kills(),
            self.num_signals(),
            self.num_differences(),
            left_out.join(", "),
            works.join(",\n    "),
            interruptions.join(",\n    "),
        )
    }
}

fn of(counts: &BTreeMap<Phase, usize>, phase: Phase) -> usize {
    counts.get(&phase).copied().unwrap_or(0)
}

/// Counts by phase in a few words: `steps 3, export 1`.
pub(crate) fn phases(counts: &BTreeMap<Phase, usize>) -> String {
    let parts: Vec<String> = counts.iter().map(|(phase, count)| format!("{} {count}", phase.name())).collect();
    if parts.is_empty() { "none".to_owned() } else { parts.join(", ") }
}

fn tally_json(tally: &Tally) -> String {
    let counts = |counts: &BTreeMap<Phase, usize>| {
        let parts = counts.iter().map(|(phase, count)| format!("\"{}\": {count}", phase.name()));
        parts.collect::<Vec<_>>().join(", ")
    };
    let differences: Vec<String> = tally.differences.iter().map(|text| quoted(text)).collect();
    format!(
        "{{\"work\": \"{}\", \"runs\": {}, \"starts\": {}, \"kills\": {{{}}}, \"signals\": {{{}}}, \"differences\": [{}]}}",
        tally.work,
        tally.runs,
        tally.starts,
        counts(&tally.kills),
        counts(&tally.signals),
        differences.join(", "),
    )
}

fn interruption_json(one: &Interruption) -> String {
    format!(
        "{{\"work\": \"{}\", \"run\": {}, \"start\": {}, \"signal\": \"{}\", \"trigger\": {}, \"phase\": \"{}\", \
         \"threads\": {}, \"seconds\": {:.4}}}",
        one.work,
        one.run,
        one.start,
        one.blow.name(),
        quoted(&one.trigger.to_string()),
        one.phase.name(),
        one.threads,
        one.seconds,
    )
}

/// Text as JSON has it.
pub(crate) fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            '\n' => quoted.push_str("\\n"),
            control if u32::from(control) < 0x20 => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(control));
            }
            other => quoted.push(other),
        }
    }
    quoted + "\""
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn results() -> Results {
        let full = Tally {
            work: "full",
            runs: 2,
            starts: 9,
            kills: [(Phase::Steps, 4), (Phase::Export, 1)].into(),
            signals: [(Phase::Steps, 2)].into(),
            differences: vec!["a \"b\"\nc".to_owned()],
        };
        let lora = Tally { work: "lora", runs: 1, starts: 3, kills: [(Phase::Steps, 2)].into(), ..Tally::default() };
        let interruption = Interruption {
            work: "full",
            run: 1,
            start: 2,
            blow: Blow::Kill,
            trigger: Trigger::After(Duration::from_millis(3)),
            phase: Phase::Steps,
            threads: 2,
            seconds: 0.0031,
        };
        let left_out = vec!["coupled (no objective)".to_owned()];
        Results { seed: 3, seconds: 1.0, works: vec![full, lora], interruptions: vec![interruption], left_out }
    }

    #[test]
    fn the_table_adds_up() {
        let table = results().table();
        let words: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(words[1], ["full", "2", "9", "5", "0", "0", "0", "4", "0", "1", "2", "1"]);
        assert_eq!(words[3], ["all", "3", "12", "7", "0", "0", "0", "6", "0", "1", "2", "1"]);
        assert!(table.ends_with("NOT RUN: coupled (no objective)\n"), "{table}");
    }

    #[test]
    fn json_has_everything_and_escapes_it() {
        let json = results().json();
        for part in [
            "\"kills\": 7",
            "\"differences\": 1",
            "{\"work\": \"full\", \"runs\": 2, \"starts\": 9, \"kills\": {\"steps\": 4, \"export\": 1}",
            "[\"a \\\"b\\\"\\nc\"]",
            "\"trigger\": \"after 3.0 ms\", \"phase\": \"steps\", \"threads\": 2, \"seconds\": 0.0031",
        ] {
            assert!(json.contains(part), "{part} in {json}");
        }
        assert_eq!(quoted("\u{1}"), "\"\\u0001\"");
    }

    #[test]
    fn counts_in_words() {
        assert_eq!(phases(&[(Phase::StartUp, 1), (Phase::Steps, 3)].into()), "start-up 1, steps 3");
        assert_eq!(phases(&BTreeMap::new()), "none");
    }
}
