//! Looks up the log-probs of all responses that a run visits, and scores those that are missing.

use collimate_cache::{LogpStore, ResponseKey, response_keys};
use collimate_data::counted;
use collimate_store::GroupNumbers;
use collimate_text::TokenizedGroup;

use crate::control::{RunContext, check_stop};
use crate::dataset::DataSet;
use crate::error::TrainError;
use crate::scoring::{Score, score_dealt};
use collimate_collective::Ranks;

/// Responses that are looked up at a time; keys and numbers of more are never in memory.
const RESPONSES_AT_ONCE: usize = 1 << 17;

/// The micro-batches in which a run visits its groups.
pub(crate) struct Visits<'a> {
    pub(crate) data: &'a DataSet,
    pub(crate) micro_batches: MicroBatches<'a>,
}

/// Begins them anew: the indices of each micro-batch's groups.
pub(crate) type MicroBatches<'a> = &'a dyn Fn() -> Box<dyn Iterator<Item = Vec<usize>> + 'a>;

/// What answers for the log-probs of some micro-batches.
pub(super) struct Resolver<'a> {
    pub(super) store: &'a mut LogpStore,
    pub(super) scorer: &'a blake3::Hash,
    pub(super) data: &'a DataSet,
}

/// A micro-batch.
#[derive(Debug)]
pub(super) struct Keyed {
    indices: Vec<usize>,
    /// Of its responses, by group.
    keys: Vec<Vec<ResponseKey>>,
}

impl Keyed {
    pub(super) fn keys(&self) -> impl Iterator<Item = ResponseKey> {
        self.keys.iter().flatten().copied()
    }

    pub(super) fn num_groups(&self) -> usize {
        self.indices.len()
    }
}

impl Resolver<'_> {
    /// Looks up every response, scores the micro-batches with a missing one, and stores the scores.
    ///
    /// A response that occurs several times gets one number, the first one known, so that a run that reads the cache
    /// reproduces the run that filled it.
    pub(super) fn resolve(
        mut self,
        micro_batches: MicroBatches<'_>,
        score: Score<'_>,
        numbers: &mut GroupNumbers,
        context: &mut RunContext<'_>,
    ) -> Result<(), TrainError> {
        let (mut total, mut missing, mut num_groups, mut num_windows) = (0, 0, 0_usize, 0);
        let mut all = micro_batches();
        let mut first = None;
        while let Some(window) = self.next_window(&mut all, RESPONSES_AT_ONCE, &context.ranks)? {
            let keys = || window.iter().flat_map(Keyed::keys);
            total += keys().count();
            missing += keys().filter(|key| self.store.get(*key).is_none()).count();
            let lacking = window.iter().filter(|batch| self.lacks(batch));
            num_groups += lacking.map(Keyed::num_groups).sum::<usize>();
            num_windows += 1;
            first = Some(window);
        }
        note_found(self.store, total - missing, &counted(total, "response"), context);
        if num_groups > 0 {
            context.observer.stage("reference log-probs", Some(num_groups as u64));
        }
        let mut all = micro_batches();
        // A single window is still at hand.
        let mut at_hand = first.filter(|_| num_windows == 1);
        let is_single = at_hand.is_some();
        loop {
            let window = match at_hand.take() {
                None if is_single => break,
                None => self.next_window(&mut all, RESPONSES_AT_ONCE, &context.ranks)?,
                window => window,
            };
            let Some(window) = window else { break };
            for batches in window.chunks(context.ranks.at_once()) {
                let num_scored = self.number(batches, score, numbers, context);
                let num_scored = num_scored.map_err(|error| self.described(error, context))?;
                if num_scored > 0 {
                    context.observer.advance(num_scored as u64);
                    check_stop(context.stop).map_err(|error| self.described(error, context))?;
                }
            }
        }
        if num_groups > 0 {
            context.observer.finish();
        }
        Ok(())
    }

    /// The next micro-batches, which have some `responses_at_once`, their keys looked up in the first rank's store; `None` at
    /// the end.
    pub(super) fn next_window(
        &mut self,
        micro_batches: &mut dyn Iterator<Item = Vec<usize>>,
        responses_at_once: usize,
        ranks: &Ranks<'_>,
    ) -> Result<Option<Vec<Keyed>>, TrainError> {
        let (mut window, mut num_responses): (Vec<Keyed>, usize) = (Vec::new(), 0);
        while num_responses < responses_at_once {
            let Some(indices) = micro_batches.next() else { break };
            let groups = self.data.select(&indices)?;
            let keys: Vec<_> = groups.iter().map(|group| group_keys(self.scorer, group)).collect();
            num_responses += keys.iter().map(Vec::len).sum::<usize>();
            window.push(Keyed { indices, keys });
        }
        if window.is_empty() {
            return Ok(None);
        }
        self.look_up(window.iter(), ranks)?;
        Ok(Some(window))
    }

    /// Looks up the keys of micro-batches in the store, and on the other ranks what the first one found.
    pub(super) fn look_up<'k>(
        &mut self,
        batches: impl Iterator<Item = &'k Keyed> + Clone,
        ranks: &Ranks<'_>,
    ) -> Result<(), TrainError> {
        let keys = || batches.clone().flat_map(Keyed::keys);
        self.store.load(keys())?;
        if ranks.size() == 1 {
            return Ok(());
        }
        // A number that is not finite is in no file, so it says here that there is none.
        let known = || keys().map(|key| self.store.get(key).unwrap_or(f64::NAN));
        let known = if ranks.is_first() { known().flat_map(f64::to_le_bytes).collect() } else { Vec::new() };
        let all = ranks.share(Ok::<_, TrainError>(known))?;
        let known = all[0].as_chunks().0.iter().map(|bytes| f64::from_le_bytes(*bytes));
        let found: Vec<_> = keys().zip(known).filter(|(_, logp)| logp.is_finite()).collect();
        self.store.insert(found.into_iter())?;
        Ok(())
    }

    /// Whether a response of a micro-batch has no number yet.
    fn lacks(&self, batch: &Keyed) -> bool {
        batch.keys().any(|key| self.store.get(key).is_none())
    }

    /// Sets the numbers of micro-batches that were looked up, after scoring those with a missing one, each on the rank that it is
    /// dealt to; returns how many groups were scored.
    pub(super) fn number(
        &mut self,
        batches: &[Keyed],
        score: Score<'_>,
        numbers: &mut GroupNumbers,
        context: &mut RunContext<'_>,
    ) -> Result<usize, TrainError> {
        let lacking: Vec<&Keyed> = batches.iter().filter(|batch| self.lacks(batch)).collect();
        if !lacking.is_empty() {
            let indices: Vec<&[usize]> = lacking.iter().map(|batch| batch.indices.as_slice()).collect();
            let logps = score_dealt(&context.ranks, self.data, &indices, score)?;
            let scored = lacking.iter().flat_map(|batch| batch.keys()).zip(logps.into_iter().flatten().flatten());
            if let Some(note) = self.store.insert(scored)? {
                context.observer.note(&note);
            }
        }
        for (index, keys) in batches.iter().flat_map(|batch| batch.indices.iter().zip(&batch.keys)) {
            // A group may recur in a later micro-batch; its first number counts.
            let place = self.data.place(*index);
            if !numbers.has(place) {
                let known: Vec<f64> = keys.iter().map(|key| self.store.get(*key).unwrap_or(f64::NAN)).collect();
                numbers.set(place, self.data.head(*index)?.first_response, &known)?;
            }
        }
        Ok(lacking.iter().map(|batch| batch.num_groups()).sum())
    }

    /// An interruption with what is kept; other errors as they are.
    fn described(&self, error: TrainError, context: &mut RunContext<'_>) -> TrainError {
        let TrainError::Interrupted { signal, .. } = error else { return error };
        context.observer.finish();
        let kept = self.store.path().map_or("nothing is kept", |_| "its log-probs so far are in the cache");
        let saved = format!("while the reference was scored; {kept}, and no step was taken");
        TrainError::Interrupted { signal, saved }
    }
}

/// Says how much was found in the cache, if there is one.
pub(super) fn note_found(store: &LogpStore, found: usize, among: &str, context: &mut RunContext<'_>) {
    if let Some(path) = store.path() {
        let path = path.display();
        context.observer.note(&format!("reference log-probs: {found} of {among} from the cache, {path}"));
    }
}

pub(super) fn group_keys(scorer: &blake3::Hash, group: &TokenizedGroup) -> Vec<ResponseKey> {
    response_keys(scorer, &group.prompt_key(), group.responses.iter().map(|response| response.ids.as_slice()))
}
