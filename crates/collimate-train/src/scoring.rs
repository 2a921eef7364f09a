//! Scores whole micro-batches without keeping anything for a backward pass.

use collimate_collective::{OwnNumbers, Ranks, StopFlag, deal};
use collimate_model::{DropoutKey, TokenLogps};
use collimate_store::GroupHead;
use collimate_text::{GroupLengths, TokenizedGroup};

use crate::control::check_stop;
use crate::dataset::DataSet;
use crate::error::TrainError;
use crate::packs::{PassBudget, by_group};
use collimate_session::Session;

/// A model and the memory its passes may use.
pub(crate) struct BatchScorer<'a> {
    pub(crate) session: &'a mut dyn Session,
    pub(crate) budget: &'a PassBudget,
    /// Checked between packs: a prompt with thousands of responses has many, each of which may take seconds.
    pub(crate) stop: &'a StopFlag,
}

impl BatchScorer<'_> {
    /// Log-probs of every response, by group and response, in nats. `adapters` and `dropout` are those of
    /// [`Session::score`].
    ///
    /// # Errors
    /// As [`Session::score`]; [`TrainError::Interrupted`] if a stop is requested between two packs.
    pub(crate) fn score(
        &mut self,
        groups: &[TokenizedGroup],
        adapters: bool,
        dropout: Option<DropoutKey>,
    ) -> Result<Vec<Vec<f64>>, TrainError> {
        self.by_response(groups, adapters, dropout, |tokens| response_logps(&tokens))
    }

    /// [`BatchScorer::score`] with what `figure` makes of the log-probs of each pack's tokens, by group and response.
    pub(crate) fn by_response<T>(
        &mut self,
        groups: &[TokenizedGroup],
        adapters: bool,
        dropout: Option<DropoutKey>,
        figure: impl Fn(TokenLogps) -> Vec<Vec<T>>,
    ) -> Result<Vec<Vec<T>>, TrainError> {
        // The packs of a training step, so that policy and reference agree to the bit where bits depend on the pack.
        let packs = self.budget.step_packs(groups)?.0;
        let mut logps = Vec::with_capacity(packs.len());
        for (number, pack) in packs.iter().enumerate() {
            if number > 0 {
                check_stop(self.stop)?;
            }
            let tokens = self.session.score(&self.budget.batch(groups, pack), adapters, dropout)?;
            logps.push(figure(tokens));
        }
        Ok(by_group(&packs, logps, groups.len()))
    }
}

/// Scores one micro-batch: log-probs by group and response, in nats.
pub(crate) type Score<'a> = &'a mut dyn FnMut(&[TokenizedGroup]) -> Result<Vec<Vec<f64>>, TrainError>;

/// Scores micro-batches of `data`, each on the rank that it is dealt to; returns all log-probs, by micro-batch, group and
/// response.
///
/// # Errors
/// As `score`, on any rank; or as [`Ranks::share`].
pub(crate) fn score_dealt(
    ranks: &Ranks<'_>,
    data: &DataSet,
    micro_batches: &[&[usize]],
    score: Score<'_>,
) -> Result<Vec<Vec<Vec<f64>>>, TrainError> {
    let work = |indices: &&[usize]| -> Result<usize, TrainError> {
        let tokens = |head: &GroupHead| {
            head.prompt_tokens()
                + (0..head.num_responses()).map(|response| head.response_tokens(response)).sum::<usize>()
        };
        Ok(data.heads(indices)?.iter().map(tokens).sum())
    };
    let owners = match ranks.size() {
        1 => vec![0; micro_batches.len()],
        size => deal(&micro_batches.iter().map(work).collect::<Result<Vec<_>, _>>()?, size),
    };
    let own = micro_batches.iter().zip(&owners).filter(|(_, owner)| **owner == ranks.rank());
    let mut own = own.map(|(indices, _)| indices).peekable();
    let mut next = || Some((own.next()?, own.peek().copied()));
    let items = std::iter::from_fn(&mut next).try_fold(Vec::new(), |mut items, (indices, next)| {
        let groups = data.select(indices)?;
        data.prefetch(next.copied().unwrap_or_default());
        items.extend(score(&groups)?);
        Ok::<_, TrainError>(items)
    });
    let owner_of_group = micro_batches.iter().zip(&owners).flat_map(|(indices, owner)| vec![*owner; indices.len()]);
    let counts = || Ok(data.heads(&micro_batches.concat())?.iter().map(|head| head.responses.len()).collect());
    let mine = items.map(|items| OwnNumbers { items, beside: Vec::new() });
    let mut all = ranks.share_numbers(&owner_of_group.collect::<Vec<_>>(), counts, mine)?.items.into_iter();
    Ok(micro_batches.iter().map(|indices| all.by_ref().take(indices.len()).collect()).collect())
}

/// Sums the log-probs of each response's tokens, in nats.
pub(crate) fn response_logps(tokens: &TokenLogps) -> Vec<Vec<f64>> {
    tokens.iter().map(|group| group.iter().map(|response| response.iter().sum()).collect()).collect()
}
