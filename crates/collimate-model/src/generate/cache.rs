//! What each layer keeps of the tokens so far, one row per sequence: keys and values, or states.

use std::ops::Range;

use burn::tensor::backend::Backend;
use burn::tensor::{Int, Tensor, TensorData};
use collimate_backend::FusedOps;
use collimate_text::EncodedPrompt;

use crate::engine::DeltaMemory;

/// Added to the scores of masked slots; its exponential is exactly zero in every dtype.
const MASKED: f32 = -3.0e4;

/// Slots for generated tokens that a cache begins with. They double when they are full, so memory follows the answers that
/// are drawn, not the longest that may be.
const FIRST_SLOTS: usize = 64;

/// What one layer keeps.
enum LayerCache<B: FusedOps> {
    /// [S, H_kv, T, head_dim].
    Attention {
        keys: Option<Tensor<B, 4>>,
        values: Option<Tensor<B, 4>>,
    },
    Delta(DeltaMemory<B>),
}

/// Writes [S, H_kv, 1, head_dim] to a slot; returns all slots up to and including it.
///
/// The stored tensor is moved out first, so that it has a single owner and is updated in place.
fn write<B: Backend>(stored: &mut Option<Tensor<B, 4>>, new: Tensor<B, 4>, slot: usize) -> Tensor<B, 4> {
    let Some(all) = stored.take() else { return new };
    let [count, heads, _, dim] = all.dims();
    let all = all.slice_assign([0..count, 0..heads, slot..slot + 1, 0..dim], new);
    let seen = all.clone().narrow(2, 0, slot + 1);
    *stored = Some(all);
    seen
}

/// [S, H_kv, T, head_dim] with this many more slots.
fn with_slots<B: Backend>(all: Tensor<B, 4>, more: usize) -> Tensor<B, 4> {
    let [count, heads, _, dim] = all.dims();
    let empty = Tensor::zeros([count, heads, more, dim], (&all.device(), all.dtype()));
    Tensor::cat(vec![all, empty], 2)
}

/// The caches of all layers. Prompts begin at slot 0, generated tokens at the end of the longest prompt.
pub(super) struct Cache<B: FusedOps> {
    layers: Vec<LayerCache<B>>,
    /// Prompt tokens of each row, [S].
    prompt_lengths: Vec<usize>,
    /// The position after each row's prompt, [S]: less than its tokens where it has images.
    next_positions: Vec<u32>,
    num_samples: usize,
    longest: usize,
    /// Slots of each row, T.
    capacity: usize,
    /// Slots that a row will ever need.
    most: usize,
    generated: usize,
}

impl<B: FusedOps> Cache<B> {
    pub(super) fn new(prompts: &[EncodedPrompt], num_samples: usize, max_new_tokens: usize) -> Self {
        let samples = || prompts.iter().flat_map(|prompt| std::iter::repeat_n(prompt, num_samples));
        let prompt_lengths = samples().map(EncodedPrompt::len).collect();
        let next_positions = samples().map(EncodedPrompt::next_position).collect();
        let longest = prompts.iter().map(EncodedPrompt::len).max().unwrap_or(0);
        let capacity = longest + max_new_tokens.min(FIRST_SLOTS);
        let most = longest.saturating_add(max_new_tokens);
        Self { layers: Vec::new(), prompt_lengths, next_positions, num_samples, longest, capacity, most, generated: 0 }
    }

    /// Appends a layer from packed prompts, [N, H_kv, head_dim].
    pub(super) fn push_layer(&mut self, k: &Tensor<B, 3>, v: &Tensor<B, 3>, spans: &[Range<usize>]) {
        let rows = |packed: &Tensor<B, 3>| {
            let [_, heads, dim] = packed.dims();
            let rows = spans.iter().map(|span| {
                let prompt = packed.clone().narrow(0, span.start, span.len()).swap_dims(0, 1);
                let empty = Tensor::zeros([heads, self.capacity - span.len(), dim], (&packed.device(), packed.dtype()));
                Tensor::cat(vec![prompt, empty], 1).unsqueeze::<4>().repeat_dim(0, self.num_samples)
            });
            Some(Tensor::cat(rows.collect(), 0))
        };
        let layer = LayerCache::Attention { keys: rows(k), values: rows(v) };
        self.layers.push(layer);
    }

    /// Appends a layer from what it keeps of each prompt.
    pub(super) fn push_memory(&mut self, memory: DeltaMemory<B>) {
        let for_samples = |x: Tensor<B, 2>| {
            let [prompts, width] = x.dims();
            let repeated: Tensor<B, 3> = x.unsqueeze_dim::<3>(1).repeat_dim(1, self.num_samples);
            repeated.reshape([prompts * self.num_samples, width])
        };
        let memory = DeltaMemory { tail: for_samples(memory.tail), state: for_samples(memory.state) };
        self.layers.push(LayerCache::Delta(memory));
    }

    /// What a layer without keys and values keeps.
    pub(super) fn memory(&mut self, layer: usize) -> Option<&mut DeltaMemory<B>> {
        match &mut self.layers[layer] {
            LayerCache::Delta(memory) => Some(memory),
            LayerCache::Attention { .. } => None,
        }
    }

    /// Position of the next token of each row, [S].
    pub(super) fn positions(&self) -> Vec<u32> {
        self.next_positions.iter().map(|next| next + self.generated as u32).collect()
    }

    /// Additive mask [S, 1, 1, T] over the slots up to the token being decoded.
    pub(super) fn mask(&self, window: Option<usize>, device: &B::Device) -> Tensor<B, 4> {
        let slots = self.longest + self.generated + 1;
        let mut mask = Vec::with_capacity(self.prompt_lengths.len() * slots);
        for &prompt in &self.prompt_lengths {
            let now = prompt + self.generated;
            mask.extend((0..slots).map(|slot| {
                let position = match slot {
                    s if s < prompt => s,
                    s if s >= self.longest => prompt + (s - self.longest),
                    _ => return MASKED,
                };
                if window.is_none_or(|w| now < position + w) { 0.0 } else { MASKED }
            }));
        }
        Tensor::from_data(TensorData::new(mask, [self.prompt_lengths.len(), 1, 1, slots]), device)
    }

    /// Makes room for the next token; a layer is copied only while no other is.
    pub(super) fn make_room(&mut self) {
        if self.longest + self.generated < self.capacity {
            return;
        }
        let slots = self.capacity - self.longest;
        let more = slots.max(FIRST_SLOTS).min(self.most.saturating_sub(self.capacity).max(1));
        self.capacity += more;
        for layer in &mut self.layers {
            if let LayerCache::Attention { keys, values } = layer {
                for stored in [keys, values] {
                    *stored = stored.take().map(|all| with_slots(all, more));
                }
            }
        }
    }

    /// Appends keys and values of the token being decoded, [S, H_kv, 1, head_dim]; returns those of all tokens so far.
    pub(super) fn append(
        &mut self,
        layer: usize,
        keys: Tensor<B, 4>,
        values: Tensor<B, 4>,
    ) -> (Tensor<B, 4>, Tensor<B, 4>) {
        let slot = self.longest + self.generated;
        match &mut self.layers[layer] {
            LayerCache::Attention { keys: all_keys, values: all_values } => {
                (write(all_keys, keys, slot), write(all_values, values, slot))
            }
            LayerCache::Delta(_) => (keys, values),
        }
    }

    /// Advances to the next token, once every layer has the current one.
    pub(super) fn advance(&mut self) {
        self.generated += 1;
    }

    /// Keeps only these rows.
    pub(super) fn keep(&mut self, rows: &[usize], device: &B::Device) {
        self.prompt_lengths = rows.iter().map(|&row| self.prompt_lengths[row]).collect();
        self.next_positions = rows.iter().map(|&row| self.next_positions[row]).collect();
        if rows.is_empty() {
            self.layers.clear();
            return;
        }
        let ids: Vec<i32> = rows.iter().map(|&row| row as i32).collect();
        let ids = Tensor::<B, 1, Int>::from_data(TensorData::new(ids, [rows.len()]), device);
        for layer in &mut self.layers {
            match layer {
                LayerCache::Attention { keys, values } => {
                    for stored in [keys, values] {
                        *stored = stored.take().map(|t| t.select(0, ids.clone()));
                    }
                }
                LayerCache::Delta(DeltaMemory { tail, state }) => {
                    for kept in [tail, state] {
                        *kept = kept.clone().select(0, ids.clone());
                    }
                }
            }
        }
    }
}
