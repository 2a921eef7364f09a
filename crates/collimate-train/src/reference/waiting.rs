//! Scores the reference while the policy trains: each prompt just before the first step that visits it.

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

use collimate_data::counted;

use super::resolve::{Keyed, Resolver, note_found};
use super::{Reference, Visits};
use crate::control::{RunContext, check_stop};
use crate::dataset::DataSet;
use crate::error::TrainError;
use crate::scoring::BatchScorer;
use collimate_collective::Ranks;

/// Responses that are looked up at a time. They stay in memory beside the training, so they are fewer than before it.
const RESPONSES_AT_ONCE: usize = 1 << 14;

/// A reference whose log-probs are computed as steps need them, in the order of the run's micro-batches.
pub(crate) struct Waiting<'a> {
    reference: Reference,
    data: &'a DataSet,
    /// Those that are still to come, and that visit some group for the first time.
    micro_batches: Box<dyn Iterator<Item = Vec<usize>> + 'a>,
    /// The next of them.
    window: VecDeque<Keyed>,
    /// Whether the store has what is known of the window.
    is_looked_up: bool,
    num_scored: usize,
    spent: Duration,
}

impl fmt::Debug for Waiting<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waiting").field("reference", &self.reference).finish_non_exhaustive()
    }
}

impl<'a> Waiting<'a> {
    /// Looks up the first micro-batches. `data` gets room for the log-probs.
    ///
    /// # Errors
    /// There is no room, or the data cannot be read.
    pub(crate) fn begin(
        reference: Reference,
        data: &'a DataSet,
        micro_batches: Box<dyn Iterator<Item = Vec<usize>> + 'a>,
        context: &mut RunContext<'_>,
    ) -> Result<Self, TrainError> {
        *data.reference() = Some(data.no_numbers()?);
        let (window, spent) = (VecDeque::new(), Duration::ZERO);
        let mut waiting = Self { reference, data, micro_batches, window, is_looked_up: false, num_scored: 0, spent };
        waiting.next_window(&context.ranks)?;
        let store = &waiting.reference.store;
        let keys = || waiting.window.iter().flat_map(Keyed::keys);
        let (total, found) = (keys().count(), keys().filter(|key| store.get(*key).is_some()).count());
        let first = if total < RESPONSES_AT_ONCE { "" } else { "the first " };
        note_found(store, found, &format!("{first}{}", counted(total, "response")), context);
        if found < total {
            context
                .observer
                .note("reference log-probs: each prompt's are computed before the first step that visits it");
        }
        Ok(waiting)
    }

    /// Makes sure of the log-probs of the groups that the next step visits; returns how long it took.
    ///
    /// # Errors
    /// As [`Session::score`](collimate_session::Session::score); [`TrainError::Interrupted`] if a stop is requested meanwhile.
    pub(crate) fn before_step(
        &mut self,
        visits: &[usize],
        policy: &mut BatchScorer<'_>,
        context: &mut RunContext<'_>,
    ) -> Result<Duration, TrainError> {
        let begun = Instant::now();
        let is_known = |data: &DataSet| {
            data.reference().as_ref().is_some_and(|numbers| visits.iter().all(|index| numbers.has(data.place(*index))))
        };
        while !is_known(self.data) && self.advance(policy, context)? {}
        let spent = begun.elapsed();
        self.spent += spent;
        if self.window.is_empty() && self.num_scored > 0 && !self.next_window(&context.ranks)? {
            let (scored, seconds) = (counted(self.num_scored, "prompt"), self.spent.as_secs_f64());
            context.observer.note(&format!("reference log-probs: all are known; {scored} scored in {seconds:.1} s"));
            self.num_scored = 0;
        }
        Ok(spent)
    }

    /// Log-probs of all responses of other data, at once.
    ///
    /// # Errors
    /// As [`Waiting::before_step`].
    pub(crate) fn of_all(
        &mut self,
        visits: &Visits<'_>,
        policy: &mut BatchScorer<'_>,
        context: &mut RunContext<'_>,
    ) -> Result<(), TrainError> {
        // The store holds one set of keys at a time.
        self.is_looked_up = false;
        self.reference.logps(policy, visits, context)
    }

    /// Sets the numbers of the next micro-batches; returns whether there was one.
    fn advance(&mut self, policy: &mut BatchScorer<'_>, context: &mut RunContext<'_>) -> Result<bool, TrainError> {
        if self.window.is_empty() && !self.next_window(&context.ranks)? {
            return Ok(false);
        }
        let Reference { store, scorer, .. } = &mut self.reference;
        let mut resolver = Resolver { store, scorer, data: self.data };
        if !self.is_looked_up {
            resolver.look_up(self.window.iter(), &context.ranks)?;
            self.is_looked_up = true;
        }
        let count = context.ranks.at_once().min(self.window.len());
        let batches: Vec<Keyed> = self.window.drain(..count).collect();
        let mut numbers = self.data.reference();
        let Some(numbers) = numbers.as_mut() else { return Ok(false) };
        let score = &mut |groups: &[_]| policy.score(groups, false, None);
        let num_scored = resolver.number(&batches, score, numbers, context)?;
        if num_scored > 0 {
            self.num_scored += num_scored;
            check_stop(context.stop)?;
        }
        Ok(true)
    }

    /// Looks up the next micro-batches; returns whether there are any.
    fn next_window(&mut self, ranks: &Ranks<'_>) -> Result<bool, TrainError> {
        let Reference { store, scorer, .. } = &mut self.reference;
        let mut resolver = Resolver { store, scorer, data: self.data };
        let window = resolver.next_window(&mut *self.micro_batches, RESPONSES_AT_ONCE, ranks)?;
        let Some(window) = window else { return Ok(false) };
        self.window = window.into();
        self.is_looked_up = true;
        Ok(true)
    }
}
