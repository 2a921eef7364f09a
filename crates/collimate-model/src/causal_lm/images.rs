//! The images of a pack: rows of the vision tower in the places of their tokens, and the gradients that go back there.

use std::ops::Range;

use burn::tensor::{Tensor, TensorData};
use collimate_backend::{FusedOps, Gradient, in_dtype};
use collimate_hf::Vision;
use collimate_images::PromptImage;
use collimate_text::{GroupBatch, ImageRows};
use collimate_vision::{PatchGrid, Slots, TowerIds, TowerTape, VisionTower};
use rayon::prelude::*;

use super::CausalLm;
use crate::error::ModelError;
use crate::host::int_tensor;

/// What the backward pass of a pack's images reads.
pub(crate) struct ImageTape<B: FusedOps> {
    tower: TowerTape<B>,
    /// Rows of the pack that are images'.
    rows: Vec<u32>,
    /// The tower's row in each of them.
    from: Vec<u32>,
    /// Rows of the tower.
    num_rows: usize,
}

impl<B: FusedOps> CausalLm<B> {
    /// Embeddings of tokens, [N, D], with the tower's rows in place of those of images; and what the backward pass reads, if
    /// `training` and something of the tower is trained.
    ///
    /// # Errors
    /// The model has no tower that is computed, or an image cannot be loaded.
    pub(crate) fn with_images(
        &self,
        x: Tensor<B, 2>,
        batch: &GroupBatch,
        adapters: bool,
        training: bool,
    ) -> Result<(Tensor<B, 2>, Option<ImageTape<B>>), ModelError> {
        if batch.images.is_empty() {
            return Ok((x, None));
        }
        let ids = if adapters { &self.index.adapted.tower } else { &self.index.base.tower };
        let (Some(vision), Some(ids)) = (&self.config.vision, ids) else { return Err(ModelError::NoTower) };
        let ImageRows { images, num_tokens: num_rows, rows, from } = batch.image_rows();
        let is_same = self.index.base.tower == self.index.adapted.tower;
        let (computed, tape) = if is_same && !ids.parameters().any(|id| self.trainable[id]) {
            let rows = images.into_iter().map(|image| self.frozen_rows(vision, ids, image));
            (Tensor::cat(rows.collect::<Result<_, ModelError>>()?, 0), None)
        } else {
            let (numbers, grids) = patches(&images, vision)?;
            let tower = self.tower(vision, ids);
            match training {
                true => tower.forward_training(numbers, &grids, &self.trainable),
                false => (tower.forward(numbers, &grids), None),
            }
        };
        let num_tokens = x.dims()[0];
        let mut sources: Vec<u32> = (0..num_tokens as u32).collect();
        for (row, from) in rows.iter().zip(&from) {
            sources[*row as usize] = num_tokens as u32 + from;
        }
        let x = Tensor::cat(vec![x, computed], 0).select(0, int_tensor(&sources, &self.device));
        Ok((x, tape.map(|tower| ImageTape { tower, rows, from, num_rows })))
    }

    /// The rows of an image by a tower that stays as it is: computed once, while there is room for them.
    fn frozen_rows(&self, vision: &Vision, ids: &TowerIds, image: &PromptImage) -> Result<Tensor<B, 2>, ModelError> {
        if let Some(rows) = self.image_rows.get(image.hash()) {
            return Ok(rows);
        }
        let (numbers, grids) = patches(&[image], vision)?;
        let rows = self.tower(vision, ids).forward(numbers, &grids);
        self.image_rows.insert(*image.hash(), rows.clone());
        Ok(rows)
    }

    /// Adds the gradients of the tower's parameters, given that of a pack's embeddings.
    pub(super) fn images_backward(&self, tape: ImageTape<B>, dy: &Tensor<B, 2>, held: &mut [Gradient<B>]) {
        let (Some(vision), Some(ids)) = (&self.config.vision, &self.index.adapted.tower) else { return };
        let ImageTape { tower: tape, rows, from, num_rows } = tape;
        let d_places = dy.clone().select(0, int_tensor(&rows, &self.device));
        let zeros = Tensor::zeros([num_rows, self.config.hidden_size], (&self.device, dy.dtype()));
        let d_rows = B::add_rows(zeros, &from, &d_places);
        self.tower(vision, ids).backward(tape, d_rows, &mut Slots { trainable: &self.trainable, held });
    }

    fn tower<'a>(&'a self, vision: &'a Vision, ids: &'a TowerIds) -> VisionTower<'a, B> {
        VisionTower {
            tower: &vision.tower,
            ids,
            params: &self.params,
            packed: &self.packed,
            device: &self.device,
            dtype: self.dtype,
        }
    }
}

/// The normalized patches of images, one after the other.
fn patches(images: &[&PromptImage], vision: &Vision) -> Result<(Vec<f32>, Vec<PatchGrid>), ModelError> {
    let (mut numbers, mut grids) = (Vec::new(), Vec::with_capacity(images.len()));
    // Decoded on all cores, and cut into patches one after the other.
    let loaded: Vec<_> = images.par_iter().map(|image| image.load(&vision.images)).collect();
    for (image, loaded) in images.iter().zip(loaded) {
        loaded?.patches(&vision.images, &mut numbers);
        grids.push(PatchGrid { rows: image.grid().rows, columns: image.grid().columns });
    }
    Ok((numbers, grids))
}

/// The gradient of a pack's embeddings without that of the rows that are images', whose tokens' embeddings they do not read.
pub(super) fn without_images<B: FusedOps>(dy: Tensor<B, 2>, image_rows: &[Range<usize>]) -> Tensor<B, 2> {
    if image_rows.is_empty() {
        return dy;
    }
    let num_rows = dy.dims()[0];
    let mut kept = vec![1.0_f32; num_rows];
    image_rows.iter().for_each(|rows| kept[rows.clone()].fill(0.0));
    let kept = Tensor::<B, 2>::from_data(TensorData::new(kept, [num_rows, 1]), &dy.device());
    let dtype = dy.dtype();
    dy * in_dtype(kept, dtype)
}
