//! Accumulates the gradients of parameters.

use collimate_backend::{FusedOps, Gradient};

use crate::routing::BalanceGradient;

/// The gradients of a model's parameters; backward passes add to them.
pub(crate) struct Gradients<'a, B: FusedOps> {
    pub(crate) trainable: &'a [bool],
    pub(crate) held: &'a mut [Gradient<B>],
    /// The router's balance loss, if it is part of the objective.
    pub(crate) balance: Option<&'a BalanceGradient>,
}

impl<B: FusedOps> Gradients<'_, B> {
    /// The gradient of a parameter, if it is trained.
    pub(crate) fn get(&mut self, id: usize) -> Option<&mut Gradient<B>> {
        self.trainable[id].then(|| &mut self.held[id])
    }
}
