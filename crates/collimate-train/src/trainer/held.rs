//! Memory that a run holds besides its model.

use collimate_objective::Needs;
use collimate_store::{GroupStore, memory_of, pair_bytes};

/// Memory of the program, its tokenizer and its threads. Less than the budget's [`OVERHEAD`](collimate_session::OVERHEAD), which
/// also covers what cannot be predicted.
pub(super) const PROGRAM: u64 = 40 << 20;

/// Bytes that an evaluation holds of each response that waits: log-probs, rewards and coefficients.
const EVALUATED_BYTES: u64 = 128;

/// Bytes that are held of the data while a run goes on. An evaluation holds the held-out responses that the objective has to
/// see together.
///
/// `num_orders` is that of [`num_orders`](super::run::num_orders).
pub(super) fn held_bytes(
    training: &GroupStore,
    held_out: Option<&GroupStore>,
    needs: &Needs,
    num_orders: usize,
) -> u64 {
    let evaluated = held_out.map_or(0, |store| {
        let totals = store.totals();
        needs.most_waiting(totals.num_responses as u64, totals.most_responses) * EVALUATED_BYTES
    });
    let pairs = match needs.mismatched_pairs {
        true => pair_bytes(training.len(), num_orders) + held_out.map_or(0, |store| pair_bytes(store.len(), 1)),
        false => 0,
    };
    memory_of(training.len(), false) + training.totals().ahead_bytes() + evaluated + pairs
}
