//! A record of the interruptions of a run.

use std::collections::BTreeMap;

use crate::phase::Phase;
use crate::signal::Signal;
use crate::trigger::Trigger;

/// One interruption.
#[derive(Debug, Clone)]
pub struct Interruption {
    /// The workload's name.
    pub workload: &'static str,
    /// The run of the workload, from 1.
    pub run: usize,
    /// The process of the run, from 1.
    pub start: usize,
    /// What was sent.
    pub signal: Signal,
    /// When it was sent.
    pub trigger: Trigger,
    /// The phase that it hit.
    pub phase: Phase,
    /// Threads of the process.
    pub threads: usize,
    /// How long the process had lived.
    pub seconds: f64,
}

/// The interruptions of one run, and the outcome.
#[derive(Debug, Default)]
pub struct Run {
    /// Processes.
    pub starts: usize,
    /// Kills and signals, in their order.
    pub interruptions: Vec<Interruption>,
    /// Where it differs from the undisturbed run.
    pub differences: Vec<String>,
}

impl Run {
    /// Kills that hit, by phase.
    pub fn kills(&self) -> BTreeMap<Phase, usize> {
        self.by_phase(|signal| signal == Signal::Kill)
    }

    /// Kills that hit, in all.
    pub fn num_kills(&self) -> usize {
        self.kills().values().sum()
    }

    /// Other signals that hit, by phase.
    pub fn signals(&self) -> BTreeMap<Phase, usize> {
        self.by_phase(|signal| signal != Signal::Kill)
    }

    fn by_phase(&self, counts: impl Fn(Signal) -> bool) -> BTreeMap<Phase, usize> {
        let mut by_phase = BTreeMap::new();
        for one in self.interruptions.iter().filter(|one| counts(one.signal)) {
            *by_phase.entry(one.phase).or_default() += 1;
        }
        by_phase
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn kills_and_signals_are_counted_by_phase() {
        let one = |signal, phase| Interruption {
            workload: "full",
            run: 1,
            start: 1,
            signal,
            trigger: Trigger::After(Duration::ZERO),
            phase,
            threads: 1,
            seconds: 0.0,
        };
        let interruptions = vec![
            one(Signal::Kill, Phase::Steps),
            one(Signal::Terminate, Phase::Steps),
            one(Signal::Kill, Phase::Steps),
            one(Signal::Kill, Phase::Export),
        ];
        let run = Run { interruptions, ..Run::default() };
        assert_eq!(run.kills(), [(Phase::Steps, 2), (Phase::Export, 1)].into());
        assert_eq!(run.signals(), [(Phase::Steps, 1)].into());
        assert_eq!(run.num_kills(), 3);
    }
}
