//! What a trial interrupts: a training run, or another verb.

use std::path::Path;

use anyhow::Result;
use rand::Rng;

use crate::compare::{differences, unlike_folders};
use crate::folder::Snapshot;
use crate::phase::Phase;
use crate::process::Ended;
use crate::random::Random;
use crate::trigger::Event;
use crate::verb::ReadyVerb;
use crate::workload::{Ready, short_resume};

/// A command with its inputs, which can be started in any folder.
#[derive(Debug, Clone)]
pub enum Job {
    /// A training run into `run`.
    Train(Ready),
    /// Another verb.
    Verb(ReadyVerb),
}

impl From<Ready> for Job {
    fn from(ready: Ready) -> Self {
        Self::Train(ready)
    }
}

impl From<ReadyVerb> for Job {
    fn from(ready: ReadyVerb) -> Self {
        Self::Verb(ready)
    }
}

impl Job {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Train(ready) => ready.workload.name,
            Self::Verb(ready) => ready.verb.name,
        }
    }

    /// Whether it saves checkpoints by which its end at a signal can be judged.
    pub(crate) fn saves(&self) -> bool {
        matches!(self, Self::Train(_))
    }

    /// The command line that begins it.
    pub(crate) fn first(&self, folder: &Path) -> Vec<String> {
        match self {
            Self::Train(ready) => ready.arguments(&[]),
            Self::Verb(ready) => ready.arguments(1, folder),
        }
    }

    /// The command line of the process with this number. A training run is resumed either with all of its options or, as a
    /// user would, with its folder alone.
    pub(crate) fn arguments(&self, start: usize, folder: &Path, random: &mut Random) -> Vec<String> {
        let ready = match self {
            Self::Train(ready) => ready,
            Self::Verb(ready) => return ready.arguments(start, folder),
        };
        let short: bool = random.random();
        if start > 1 && short && folder.join("run/recipe.yaml").is_file() {
            return short_resume();
        }
        let mut arguments = ready.arguments(&[]);
        arguments.extend((start > 1).then(|| "--resume".to_owned()));
        arguments
    }

    /// Whether a killed process left nothing to do.
    pub(crate) fn is_finished(&self, folder: &Path) -> bool {
        match self {
            Self::Train(_) => false,
            Self::Verb(ready) => ready.is_finished(folder),
        }
    }

    /// The events that can still occur, given the state of the folder.
    pub(crate) fn events(&self, now: &Snapshot) -> Vec<Event> {
        match self {
            Self::Train(ready) => Event::ahead(ready.workload.has_cache(), now),
            Self::Verb(ready) if ready.trains() => vec![Event::Metrics, Event::Staging, Event::Temporary],
            Self::Verb(_) => vec![Event::Temporary],
        }
    }

    /// What a process was doing when it ended.
    pub(crate) fn phase(&self, ended: &Ended, last_step: usize) -> Phase {
        match self {
            Self::Train(_) => Phase::detect(&ended.log, &ended.before, &ended.after, last_step),
            Self::Verb(_) => Phase::of_verb(&ended.log, &ended.before, &ended.after),
        }
    }

    /// How two folders differ after it; times and logs are ignored.
    pub(crate) fn differences(&self, expected: &Path, found: &Path) -> Result<Vec<String>> {
        match self {
            Self::Train(_) => differences(expected, found),
            Self::Verb(_) => unlike_folders(expected, found),
        }
    }
}
