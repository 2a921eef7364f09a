//! Where a backward pass adds the gradients of parameters.

use std::collections::BTreeMap;

use collimate_backend::{FusedOps, Gradient, plain};
use collimate_routing::BalanceGradient;

/// The gradients of a model's parameters; backward passes add to them.
pub(crate) struct Gradients<'a, B: FusedOps> {
    pub(crate) trainable: &'a [bool],
    held: Held<'a, B>,
    /// The router's balance loss, if it is part of the objective.
    pub(crate) balance: Option<&'a BalanceGradient>,
}

enum Held<'a, B: FusedOps> {
    /// Of all parameters.
    All(&'a mut [Gradient<B>]),
    /// Of those that were taken from them, by parameter.
    Taken(BTreeMap<usize, Gradient<B>>),
}

impl<'a, B: FusedOps> Gradients<'a, B> {
    pub(crate) fn new(
        trainable: &'a [bool],
        held: &'a mut [Gradient<B>],
        balance: Option<&'a BalanceGradient>,
    ) -> Self {
        Self { trainable, held: Held::All(held), balance }
    }

    /// The gradient of a parameter, if it is trained.
    pub(crate) fn get(&mut self, id: usize) -> Option<&mut Gradient<B>> {
        let held = &mut self.held;
        self.trainable[id].then(|| match held {
            Held::All(all) => &mut all[id],
            Held::Taken(taken) => taken.entry(id).or_default(),
        })
    }

    /// Takes the gradients of some parameters out, for work on another thread; [`Gradients::put_back`] undoes it.
    pub(crate) fn take(&mut self, ids: impl Iterator<Item = usize>) -> Gradients<'a, B> {
        let mut taken = BTreeMap::new();
        for id in ids {
            // Layers that share a matrix name it twice.
            if let Some(gradient) = self.get(id) {
                taken.entry(id).or_insert_with(|| gradient.take());
            }
        }
        Gradients { trainable: self.trainable, held: Held::Taken(taken), balance: self.balance }
    }

    /// Puts back what was taken; what was added meanwhile stays.
    pub(crate) fn put_back(&mut self, other: Self) {
        let Held::Taken(taken) = other.held else { return };
        for (id, gradient) in taken {
            if let (Some(held), Some(gradient)) = (self.get(id), gradient) {
                plain::accumulate(held, gradient);
            }
        }
    }
}
