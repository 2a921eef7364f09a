//! A tower from patches to rows of the text model, and back.

use std::ops::Range;

use burn::tensor::{Tensor, TensorData};
use collimate_backend::{ComputeDtype, Factor, FusedOps, Rotary, in_dtype, in_float32};
use collimate_towers::Tower;

use crate::activations::{gelu, gelu_backward};
use crate::attention::rows;
use crate::block::Places;
use crate::ids::TowerIds;
use crate::linear::{Layers, Slots};
use crate::order::{Order, PatchGrid};

/// A tower and its parameters, which are those of a model.
#[derive(Debug)]
pub struct VisionTower<'a, B: FusedOps> {
    /// Its configuration.
    pub tower: &'a Tower,
    /// Where its parameters are.
    pub ids: &'a TowerIds,
    /// The model's parameters.
    pub params: &'a [Tensor<B, 2>],
    /// Weights that are held packed, or in the order of products; `params` has an empty matrix in their place.
    pub packed: &'a [Option<B::Packed>],
    /// Where it computes.
    pub device: &'a B::Device,
    /// The dtype of activations.
    pub dtype: ComputeDtype,
}

/// What a backward pass reads.
pub struct TowerTape<B: FusedOps> {
    order: Order,
    /// Patches in the order of computing, [N, patch numbers], if their embedding is trained.
    patches: Option<Tensor<B, 2>>,
    /// The input of each block that gradients go back through, from the lowest.
    inputs: Vec<Tensor<B, 2>>,
    /// The last block's output.
    last: Tensor<B, 2>,
}

impl<B: FusedOps> VisionTower<'_, B> {
    /// Rows for the tokens of some images, [Σ tokens, out_width], in the order of the images and of their squares.
    ///
    /// `numbers` are the images' normalized patches, one after the other, square by square.
    pub fn forward(&self, numbers: Vec<f32>, grids: &[PatchGrid]) -> Tensor<B, 2> {
        let order = Order::new(self.tower, grids);
        let (mut x, rotary) = self.begin(numbers, &order);
        x = self.embed(&x);
        for (number, block) in self.ids.blocks.iter().enumerate() {
            x = self.layers().block(block, &x, &self.places(number, &order, &rotary));
        }
        self.merge(&x, &order)
    }

    /// [`VisionTower::forward`], with what the backward pass reads: `None` if nothing of the tower is trained.
    pub fn forward_training(
        &self,
        numbers: Vec<f32>,
        grids: &[PatchGrid],
        trainable: &[bool],
    ) -> (Tensor<B, 2>, Option<TowerTape<B>>) {
        if !self.ids.parameters().any(|id| trainable[id]) {
            return (self.forward(numbers, grids), None);
        }
        let order = Order::new(self.tower, grids);
        let (patches, rotary) = self.begin(numbers, &order);
        let mut x = self.embed(&patches);
        let lowest = self.lowest_trained(trainable);
        let mut inputs = Vec::with_capacity(self.ids.blocks.len() - lowest);
        for (number, block) in self.ids.blocks.iter().enumerate() {
            let y = self.layers().block(block, &x, &self.places(number, &order, &rotary));
            if number >= lowest {
                inputs.push(x);
            }
            x = y;
        }
        let rows = self.merge(&x, &order);
        let patches = trainable[self.ids.patches].then_some(patches);
        (rows, Some(TowerTape { order, patches, inputs, last: x }))
    }

    /// Adds the gradients of the tower's parameters, given that of its rows.
    pub fn backward(&self, tape: TowerTape<B>, d_rows: Tensor<B, 2>, slots: &mut Slots<'_, B>) {
        let TowerTape { order, patches, mut inputs, last } = tape;
        let wants_blocks = !inputs.is_empty() || patches.is_some();
        let Some(mut dy) = self.merge_backward(&last, d_rows, &order, wants_blocks, slots) else { return };
        let rotary = self.rotary(&order);
        let lowest = self.ids.blocks.len() - inputs.len();
        for number in (lowest..self.ids.blocks.len()).rev() {
            let Some(x) = inputs.pop() else { break };
            let places = self.places(number, &order, &rotary);
            dy = self.layers().block_backward(&self.ids.blocks[number], &x, dy, &places, slots);
        }
        if let (Some(patches), Some(gradient)) = (patches, slots.get(self.ids.patches)) {
            // The weight is one row in the order of its file, [width, patch numbers].
            let shape = [self.tower.width, self.tower.patch_numbers()];
            let held = gradient.take().map(|held| held.reshape(shape));
            let sum = B::multiply(held, 1.0, Factor::transpose_of(&in_float32(dy)), Factor::new(&in_float32(patches)));
            *gradient = Some(sum.reshape([1, shape[0] * shape[1]]));
        }
    }

    pub(crate) fn layers(&self) -> Layers<'_, B> {
        Layers { tower: self.tower, params: self.params, packed: self.packed }
    }

    /// The block to which gradients must go back; the number of blocks if only the merger is trained.
    fn lowest_trained(&self, trainable: &[bool]) -> usize {
        if trainable[self.ids.patches] {
            return 0;
        }
        let is_trained = |block: &crate::ids::BlockIds| block.parameters().any(|id| trainable[id]);
        self.ids.blocks.iter().position(is_trained).unwrap_or(self.ids.blocks.len())
    }

    /// Patches on the device in the order of computing, and their rotations.
    pub(crate) fn begin(&self, numbers: Vec<f32>, order: &Order) -> (Tensor<B, 2>, Rotary<B>) {
        let shape = [order.num_patches(), self.tower.patch_numbers()];
        let patches = Tensor::from_data(TensorData::new(numbers, shape), self.device);
        let patches = match order.tokens.is_empty() {
            true => patches,
            false => patches.select(0, rows(&order.patches(self.tower.merged_patches()), self.device)),
        };
        (patches, self.rotary(order))
    }

    fn rotary(&self, order: &Order) -> Rotary<B> {
        let (cos, sin) = order.rotations(self.tower);
        Rotary::new(cos, sin, order.num_patches(), self.tower.head_dim(), self.device)
    }

    /// The embedding of patches, [N, width]: a convolution whose stride is its size.
    pub(crate) fn embed(&self, patches: &Tensor<B, 2>) -> Tensor<B, 2> {
        let shape = [self.tower.width, self.tower.patch_numbers()];
        let weight = in_float32(self.params[self.ids.patches].clone()).reshape(shape);
        let embedded = B::multiply(None, 1.0, Factor::new(patches), Factor::transpose_of(&weight));
        in_dtype(embedded, self.dtype.burn_dtype())
    }

    pub(crate) fn places<'t>(&self, block: usize, order: &'t Order, rotary: &'t Rotary<B>) -> Places<'t, B> {
        let is_full = self.tower.windows.as_ref().is_none_or(|windows| windows.full_blocks.contains(&block));
        let segments: &[Range<usize>] = if is_full { &order.images } else { &order.windows };
        Places { rotary, segments }
    }

    /// One row for each square of patches, in the order in which squares come.
    fn merge(&self, x: &Tensor<B, 2>, order: &Order) -> Tensor<B, 2> {
        let [first, second] = &self.ids.merger;
        let layers = self.layers();
        let inner = layers.linear(first, &self.joined(x), None);
        let merged = layers.linear(second, &gelu(&inner), None);
        match order.tokens.is_empty() {
            true => merged,
            false => merged.select(0, rows(&order.back(), self.device)),
        }
    }

    /// The gradient of the last block's output, if it is wanted.
    fn merge_backward(
        &self,
        x: &Tensor<B, 2>,
        d_rows: Tensor<B, 2>,
        order: &Order,
        wants_input: bool,
        slots: &mut Slots<'_, B>,
    ) -> Option<Tensor<B, 2>> {
        let [first, second] = &self.ids.merger;
        let layers = self.layers();
        let d_merged = in_dtype(d_rows, x.dtype());
        let d_merged = match order.tokens.is_empty() {
            true => d_merged,
            false => d_merged.select(0, rows(&order.tokens, self.device)),
        };
        let joined = self.joined(x);
        let inner = layers.linear(first, &joined, None);
        let d_activated = layers.linear_backward(second, &gelu(&inner), &d_merged, slots);
        let d_joined = layers.linear_backward(first, &joined, &gelu_backward(&inner, d_activated), slots);
        let trains_norm = [Some(self.ids.merger_norm.weight), self.ids.merger_norm.bias];
        let trains_norm = trains_norm.into_iter().flatten().any(|id| slots.trainable[id]);
        (wants_input || trains_norm).then(|| {
            let d_normed = d_joined.reshape(x.dims());
            layers.norm_backward(self.ids.merger_norm, x, d_normed, slots)
        })
    }

    /// The normed patches of each square side by side.
    fn joined(&self, x: &Tensor<B, 2>) -> Tensor<B, 2> {
        let merged = self.tower.merged_patches();
        let normed = self.layers().norm(self.ids.merger_norm, x);
        normed.reshape([x.dims()[0] / merged, self.tower.width * merged])
    }
}
