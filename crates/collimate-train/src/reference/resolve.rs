//! Looks up the log-probs of all responses that a run visits, and scores those that are missing.

use collimate_cache::{LogpStore, ResponseKey, response_keys};
use collimate_data::counted;
use collimate_store::GroupNumbers;
use collimate_text::TokenizedGroup;

use super::Score;
use crate::control::RunContext;
use crate::dataset::DataSet;
use crate::error::TrainError;

/// Responses that are looked up at a time; keys and numbers of more are never in memory.
const RESPONSES_AT_ONCE: usize = 1 << 17;

/// The micro-batches in which a run visits its groups.
pub(crate) struct Visits<'a> {
    pub(crate) data: &'a DataSet,
    /// Begins them anew: the indices of each micro-batch's groups.
    pub(crate) micro_batches: &'a dyn Fn() -> Box<dyn Iterator<Item = Vec<usize>> + 'a>,
}

/// What answers for the log-probs of some micro-batches.
pub(super) struct Resolver<'a, 'v> {
    pub(super) store: &'a mut LogpStore,
    pub(super) scorer: &'a blake3::Hash,
    pub(super) visits: &'a Visits<'v>,
}

/// A micro-batch.
struct Keyed {
    indices: Vec<usize>,
    /// Of its responses, by group.
    keys: Vec<Vec<ResponseKey>>,
}

impl Resolver<'_, '_> {
    /// Looks up every response, scores the micro-batches with a missing one, and stores the scores.
    ///
    /// A response that occurs several times gets one number, the first one known, so that a run that reads the cache
    /// reproduces the run that filled it.
    pub(super) fn resolve(
        mut self,
        score: Score<'_>,
        numbers: &mut GroupNumbers,
        context: &mut RunContext<'_>,
    ) -> Result<(), TrainError> {
        let (mut total, mut missing, mut num_groups, mut num_windows) = (0, 0, 0_usize, 0);
        let mut micro_batches = (self.visits.micro_batches)();
        let mut first = None;
        while let Some(window) = self.next_window(&mut micro_batches)? {
            let keys = || window.iter().flat_map(|batch| batch.keys.iter().flatten());
            total += keys().count();
            missing += keys().filter(|key| self.store.get(**key).is_none()).count();
            let lacking = window.iter().filter(|batch| self.lacks(&batch.keys));
            num_groups += lacking.map(|batch| batch.indices.len()).sum::<usize>();
            num_windows += 1;
            first = Some(window);
        }
        if let Some(path) = self.store.path() {
            let (found, path) = (total - missing, path.display());
            context.observer.note(&format!(
                "reference log-probs: {found} of {} from the cache, {path}",
                counted(total, "response")
            ));
        }
        if num_groups > 0 {
            context.observer.stage("reference log-probs", Some(num_groups as u64));
        }
        let mut micro_batches = (self.visits.micro_batches)();
        // A single window is still at hand.
        let mut at_hand = first.filter(|_| num_windows == 1);
        let is_single = at_hand.is_some();
        loop {
            let window = match at_hand.take() {
                None if is_single => break,
                None => self.next_window(&mut micro_batches)?,
                window => window,
            };
            let Some(window) = window else { break };
            window.iter().try_for_each(|keyed| self.number(keyed, score, numbers, context))?;
        }
        if num_groups > 0 {
            context.observer.finish();
        }
        Ok(())
    }

    /// The next micro-batches, their keys looked up in the store; `None` at the end.
    fn next_window(
        &mut self,
        micro_batches: &mut dyn Iterator<Item = Vec<usize>>,
    ) -> Result<Option<Vec<Keyed>>, TrainError> {
        let (mut window, mut num_responses): (Vec<Keyed>, usize) = (Vec::new(), 0);
        while num_responses < RESPONSES_AT_ONCE {
            let Some(indices) = micro_batches.next() else { break };
            let groups = self.visits.data.select(&indices)?;
            let keys: Vec<_> = groups.iter().map(|group| group_keys(self.scorer, group)).collect();
            num_responses += keys.iter().map(Vec::len).sum::<usize>();
            window.push(Keyed { indices, keys });
        }
        if window.is_empty() {
            return Ok(None);
        }
        self.store.load(window.iter().flat_map(|batch| batch.keys.iter().flatten().copied()))?;
        Ok(Some(window))
    }

    fn lacks(&self, keys: &[Vec<ResponseKey>]) -> bool {
        keys.iter().flatten().any(|key| self.store.get(*key).is_none())
    }

    /// Sets the numbers of a micro-batch, after scoring it if one is missing.
    fn number(
        &mut self,
        batch: &Keyed,
        score: Score<'_>,
        numbers: &mut GroupNumbers,
        context: &mut RunContext<'_>,
    ) -> Result<(), TrainError> {
        let Keyed { indices, keys } = batch;
        let is_scored = self.lacks(keys);
        if is_scored {
            let logps = score(&self.visits.data.select(indices)?).map_err(|error| match error {
                TrainError::Interrupted { signal, .. } => self.interrupted(signal, context),
                error => error,
            })?;
            context.observer.advance(indices.len() as u64);
            let scored = keys.iter().flatten().copied().zip(logps.into_iter().flatten());
            if let Some(note) = self.store.insert(scored)? {
                context.observer.note(&note);
            }
        }
        for (index, keys) in indices.iter().zip(keys) {
            // A group may recur in a later micro-batch; its first number counts.
            if !numbers.has(*index) {
                let known: Vec<f64> = keys.iter().map(|key| self.store.get(*key).unwrap_or(f64::NAN)).collect();
                numbers.set(*index, self.visits.data.store.head(*index)?.first_response, &known)?;
            }
        }
        match context.stop.requested().filter(|_| is_scored) {
            None => Ok(()),
            Some(signal) => Err(self.interrupted(signal, context)),
        }
    }

    fn interrupted(&self, signal: usize, context: &mut RunContext<'_>) -> TrainError {
        context.observer.finish();
        let kept = self.store.path().map_or("nothing is kept", |_| "its log-probs so far are in the cache");
        let saved = format!("while the reference was scored; {kept}, and no step was taken");
        TrainError::Interrupted { signal, saved }
    }
}

pub(super) fn group_keys(scorer: &blake3::Hash, group: &TokenizedGroup) -> Vec<ResponseKey> {
    response_keys(scorer, &group.prompt_ids, group.responses.iter().map(|response| response.ids.as_slice()))
}
