//! A forward pass waiting for its coefficients.

use std::ops::Range;

use collimate_backend::FusedOps;
use collimate_routing::{BalanceGradient, RouterLoad};
use collimate_text::GroupBatch;

use super::images::ImageTape;
use crate::dropout::{Dropout, DropoutKey};
use crate::engine::{Activations, HeadTape, PackInputs};
use crate::kept_inputs::{InputPlace, KeptInput};
use crate::router_load::PackLoad;
use crate::targets::Targets;

/// A forward pass over one pack or several, waiting for its coefficients.
pub struct Tape<B: FusedOps> {
    pub(super) packs: Vec<PackTape<B>>,
    /// By block and pack.
    pub(super) blocks: Vec<Vec<SavedBlock<B>>>,
    /// Where inputs of blocks wait.
    pub(super) inputs: InputPlace,
    /// The packs of a model of token maps, whose backward pass computes them again.
    pub(super) pictures: Vec<(GroupBatch, Option<Dropout>)>,
}

/// What is kept of a pack besides its blocks.
pub(super) struct PackTape<B: FusedOps> {
    pub(super) pack: PackInputs<B>,
    pub(super) targets: Targets,
    pub(super) dropout: Option<Dropout>,
    pub(super) images: PackImages<B>,
    pub(super) head: HeadTape<B>,
    pub(super) load: Option<PackLoad>,
    pub(super) balance: Option<BalanceGradient>,
}

/// The images of a pack.
pub(super) struct PackImages<B: FusedOps> {
    /// Rows of the pack that are images'.
    pub(super) rows: Vec<Range<usize>>,
    /// What the tower's backward pass reads, if anything of it is trained.
    pub(super) tape: Option<ImageTape<B>>,
}

/// What a forward pass saves for a block.
pub(super) enum SavedBlock<B: FusedOps> {
    /// Everything the backward pass reads.
    Activations(Activations<B>),
    /// Only the block's input: the backward pass runs the block again.
    Input(KeptInput<B>),
}

impl<B: FusedOps> Tape<B> {
    /// The pass's router load: how its tokens are spread over experts, if the model has any.
    pub fn router_load(&self) -> Option<RouterLoad> {
        let mut loads = self.packs.iter().filter_map(|pack| pack.load.as_ref().map(PackLoad::load));
        let first = loads.next()?.clone();
        Some(loads.fold(first, |mut sum, load| {
            sum.add(load);
            sum
        }))
    }

    /// Adds to the objective `weight` times the balance loss of the whole micro-batch, given its load.
    pub fn balance(&mut self, batch: &RouterLoad, weight: f64) {
        for pack in &mut self.packs {
            pack.balance = pack.load.take().map(|load| load.balance_gradient(batch, weight));
        }
    }
}

/// Options of a training forward pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ForwardOptions {
    /// Number of blocks, counted from the last, whose activations are kept. The others keep only their input and are
    /// recomputed in the backward pass, bit-identically.
    pub kept_blocks: usize,
    /// Key of dropout's draws; `None` turns dropout off.
    pub dropout: Option<DropoutKey>,
}

impl ForwardOptions {
    /// All activations kept, no dropout.
    pub const PLAIN: Self = Self { kept_blocks: usize::MAX, dropout: None };
}
