//! When to interrupt a process: after some time, or right after a change to its folder.

use std::fmt;
use std::time::Duration;

use rand::Rng;
use rand::seq::IndexedRandom;

use crate::folder::Snapshot;
use crate::random::Random;

/// A change that a run makes to its folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The folder is created.
    Folder,
    /// The reference cache grows.
    Cache,
    /// A row of metrics is written.
    Metrics,
    /// A checkpoint is begun.
    Staging,
    /// A checkpoint is complete; older ones are deleted next.
    Checkpoint,
    /// A temporary file is begun.
    Temporary,
}

const EVENTS: [Event; 6] =
    [Event::Folder, Event::Cache, Event::Metrics, Event::Staging, Event::Checkpoint, Event::Temporary];

impl Event {
    /// The events that can still occur in a run, given the state of its folder.
    pub(crate) fn ahead(has_cache: bool, now: &Snapshot) -> Vec<Self> {
        let is_ahead = |event: &Self| match event {
            Self::Folder => !now.exists,
            // A run with a checkpoint has already filled its cache.
            Self::Cache => has_cache && now.checkpoints.is_empty(),
            _ => true,
        };
        EVENTS.into_iter().filter(is_ahead).collect()
    }

    fn happened(self, before: &Snapshot, now: &Snapshot) -> bool {
        match self {
            Self::Folder => now.exists && !before.exists,
            Self::Cache => now.cache_bytes > before.cache_bytes,
            Self::Metrics => now.metrics_bytes > before.metrics_bytes,
            Self::Staging => now.staging.difference(&before.staging).next().is_some(),
            Self::Checkpoint => now.newest() > before.newest(),
            Self::Temporary => now.temporaries.difference(&before.temporaries).next().is_some(),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Folder => "folder",
            Self::Cache => "cache",
            Self::Metrics => "metrics",
            Self::Staging => "staging",
            Self::Checkpoint => "checkpoint",
            Self::Temporary => "temporary",
        }
    }
}

/// When to interrupt.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Trigger {
    /// A time after the start.
    After(Duration),
    /// A time after an event was seen for the n-th time.
    On {
        /// The event to wait for.
        event: Event,
        /// How many times it must be seen.
        times: usize,
        /// Time to wait after that.
        delay: Duration,
    },
}

/// Longest delay after an event, in seconds: enough to write some checkpoints.
const LONGEST_DELAY: f64 = 0.025;

/// Fraction of the draws that are spread evenly over a whole run.
const ANY_TIME: f64 = 0.35;
/// Fraction of the draws in its first tenth: starting, loading, scoring.
const EARLY: f64 = 0.15;

impl Trigger {
    /// Half of the draws are times up to `whole`, the time of an undisturbed run; the other half follow one of `events`.
    pub(crate) fn draw(random: &mut Random, whole: Duration, events: &[Event]) -> Self {
        let kind: f64 = random.random();
        if kind < ANY_TIME {
            return Self::After(whole.mul_f64(random.random()));
        }
        if kind < ANY_TIME + EARLY {
            // Squared, since the program starts within a small part of that.
            return Self::After(whole.mul_f64(0.1 * random.random::<f64>().powi(2)));
        }
        let Some(&event) = events.choose(random) else { return Self::After(whole) };
        let times = if event == Event::Folder { 1 } else { random.random_range(1..5) };
        // Squared, so that most interrupt what has just begun.
        let delay = Duration::from_secs_f64(LONGEST_DELAY * random.random::<f64>().powi(2));
        Self::On { event, times, delay }
    }
}

impl fmt::Display for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::After(time) => write!(f, "after {:.1} ms", time.as_secs_f64() * 1e3),
            Self::On { event, times, delay } => {
                write!(f, "{} {times} + {:.1} ms", event.name(), delay.as_secs_f64() * 1e3)
            }
        }
    }
}

/// Waits for a trigger.
#[derive(Debug)]
pub(crate) struct Watch {
    trigger: Trigger,
    before: Snapshot,
    seen: usize,
    /// The time at which it is due, once known.
    due: Option<Duration>,
}

impl Watch {
    /// Starts from the state of the folder before the process runs.
    pub(crate) fn new(trigger: Trigger, before: Snapshot) -> Self {
        let due = match trigger {
            Trigger::After(time) => Some(time),
            Trigger::On { .. } => None,
        };
        Self { trigger, before, seen: 0, due }
    }

    /// Whether it is due `elapsed` after the start; calls `look` only while the folder matters.
    pub(crate) fn is_due(&mut self, elapsed: Duration, look: impl FnOnce() -> Snapshot) -> bool {
        if let (Trigger::On { event, times, delay }, None) = (self.trigger, self.due) {
            let now = look();
            self.seen += usize::from(event.happened(&self.before, &now));
            self.before = now;
            if self.seen >= times {
                self.due = Some(elapsed + delay);
            }
        }
        self.due.is_some_and(|due| elapsed >= due)
    }

    /// How long to sleep before asking again.
    pub(crate) fn pause(&self, elapsed: Duration) -> Duration {
        let longest = Duration::from_millis(5);
        match self.due {
            Some(due) => due.saturating_sub(elapsed).min(longest),
            // A checkpoint of a small model takes only milliseconds.
            None => Duration::from_micros(300),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn metrics(bytes: u64) -> Snapshot {
        Snapshot { exists: true, metrics_bytes: bytes, ..Snapshot::default() }
    }

    #[test]
    fn a_time_is_due_without_looking_at_the_folder() {
        let mut watch = Watch::new(Trigger::After(3 * MS), Snapshot::default());
        assert!(!watch.is_due(2 * MS, || panic!("looked")));
        assert_eq!(watch.pause(2 * MS), MS);
        assert!(watch.is_due(3 * MS, || panic!("looked")));
    }

    #[test]
    fn an_event_is_due_after_its_count_and_its_delay() {
        let trigger = Trigger::On { event: Event::Metrics, times: 2, delay: 5 * MS };
        let mut watch = Watch::new(trigger, metrics(10));
        assert!(!watch.is_due(MS, || metrics(10)));
        assert!(!watch.is_due(2 * MS, || metrics(20)), "seen once");
        assert!(!watch.is_due(3 * MS, || metrics(0)), "a new file is no growth");
        assert!(!watch.is_due(4 * MS, || metrics(5)), "seen twice, 9 ms is the time");
        assert!(!watch.is_due(8 * MS, || panic!("looked")));
        assert!(watch.is_due(9 * MS, || panic!("looked")));
    }

    #[test]
    fn each_event_is_a_change_of_its_own() {
        let nothing = Snapshot::default();
        let names = |name: &str| [name.to_owned()].into();
        let changes = [
            Snapshot { exists: true, ..nothing.clone() },
            Snapshot { cache_bytes: 1, ..nothing.clone() },
            Snapshot { metrics_bytes: 1, ..nothing.clone() },
            Snapshot { staging: names(".checkpoint-a"), ..nothing.clone() },
            Snapshot { checkpoints: [3].into(), ..nothing.clone() },
            Snapshot { temporaries: names("a.tmp"), ..nothing.clone() },
        ];
        for (i, event) in EVENTS.into_iter().enumerate() {
            for (j, change) in changes.iter().enumerate() {
                assert_eq!(event.happened(&nothing, change), i == j, "{event:?} {change:?}");
            }
        }
    }

    #[test]
    fn events_that_have_happened_are_not_drawn() {
        assert_eq!(Event::ahead(true, &Snapshot::default()), EVENTS);
        let late = Snapshot { checkpoints: [3].into(), ..metrics(10) };
        let rest = [Event::Metrics, Event::Staging, Event::Checkpoint, Event::Temporary];
        assert_eq!(Event::ahead(true, &late), rest);
        assert_eq!(Event::ahead(false, &metrics(10)), rest);
    }

    #[test]
    fn draws_cover_the_run_and_all_events() {
        let mut random = crate::random::random(1, "triggers");
        let whole = Duration::from_secs(1);
        let draws: Vec<Trigger> = (0..1000).map(|_| Trigger::draw(&mut random, whole, &EVENTS)).collect();
        let times: Vec<f64> = draws
            .iter()
            .filter_map(|draw| match draw {
                Trigger::After(time) => Some(time.as_secs_f64()),
                Trigger::On { .. } => None,
            })
            .collect();
        assert!((450..550).contains(&times.len()), "{}", times.len());
        // Of 1000 draws 0.15 and 0.35 / 10 are in the first tenth.
        let num_early = times.iter().filter(|time| **time < 0.1).count();
        assert!((150..220).contains(&num_early), "{num_early}");
        assert!(times.iter().any(|time| *time > 0.95), "to the end");
        for wanted in EVENTS {
            assert!(draws.iter().any(|draw| matches!(draw, Trigger::On { event, .. } if *event == wanted)));
        }
    }
}
